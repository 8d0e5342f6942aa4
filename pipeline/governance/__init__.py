"""Governance: the packet of a release decision, its verification offline, and the difference between two."""

from pipeline.governance.diff import diff
from pipeline.governance.packet import packet, renew
from pipeline.governance.verify import verify

__all__ = ["diff", "packet", "renew", "verify"]
