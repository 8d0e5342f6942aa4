"""The processes of an installation: the embedded Postgres and Airflow, started and stopped together."""

from pipeline.services.up import Running, down, up

__all__ = ["Running", "down", "up"]
