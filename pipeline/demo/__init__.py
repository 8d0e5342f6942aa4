"""The demo: one night of a use case, driven through Airflow's REST API as its users would."""

from pipeline.demo.night import run

__all__ = ["run"]
