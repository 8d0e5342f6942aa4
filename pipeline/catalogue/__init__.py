"""Base models that can be had: listed by name, pulled into the home folder, and checked before a night needs them."""

from pipeline.catalogue.checking import Checked, check
from pipeline.catalogue.entries import Entry, Listed, listed
from pipeline.catalogue.pulling import Pulled, pull

__all__ = ["Checked", "Entry", "Listed", "Pulled", "check", "listed", "pull"]
