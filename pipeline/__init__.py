"""Nightshift: the nightly run of a company's language-model assistant. Knows nothing of Airflow."""

__version__ = "0.1.0"
