"""The data stage: a use case's examples and documents, fetched, checked, and committed as versions.

A nightly run calls fetch → check → commit → card; each takes what the one before returned.
"""

from pipeline.data import erasure
from pipeline.data.card import card, renew
from pipeline.data.certificate import certify
from pipeline.data.checking import check
from pipeline.data.commits import commit
from pipeline.data.filecheck import check_file
from pipeline.data.findings import of_runs
from pipeline.data.forgetting import forget
from pipeline.data.history import diff, versions
from pipeline.data.records import Checked, Committed, Fetched
from pipeline.data.review import accept, confirm, waiting, worklist
from pipeline.data.sources import fetch

__all__ = [
    "Checked",
    "Committed",
    "Fetched",
    "accept",
    "card",
    "certify",
    "check",
    "check_file",
    "commit",
    "confirm",
    "diff",
    "erasure",
    "fetch",
    "forget",
    "of_runs",
    "renew",
    "versions",
    "waiting",
    "worklist",
]
