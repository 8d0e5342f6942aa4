"""Governance: the packet of a release decision, its verification offline, and the difference between two."""

from pipeline.governance.diff import diff
from pipeline.governance.packet import Packet, packet, renew
from pipeline.governance.verify import verify

__all__ = ["Packet", "diff", "packet", "renew", "verify"]
