"""Persons who may answer for a release, and who asked for a run."""
