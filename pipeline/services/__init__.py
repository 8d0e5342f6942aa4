"""The processes of an installation: the embedded Postgres and Airflow, started and stopped together."""

from pipeline.services.up import down, up

__all__ = ["down", "up"]
