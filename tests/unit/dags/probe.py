"""Loads the DAG files as Airflow does, in a process of its own, and prints what came of it as JSON."""

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(folder: Path) -> dict[str, Any]:
    """Returns the DAGs, the import errors by file, the seconds that the files took, and heavy modules that came."""
    import airflow.sdk.exceptions  # noqa: F401
    from airflow.dag_processing.dagbag import DagBag
    from airflow.providers.standard.operators import hitl  # noqa: F401

    sys.path.append(str(folder))
    begun = time.monotonic()
    bag = DagBag(dag_folder=str(folder), bundle_path=folder, bundle_name="dags-folder", load_op_links=False)
    seconds = time.monotonic() - begun
    return {
        "dags": {dag_id: _about(found) for dag_id, found in bag.dags.items()},
        "errors": bag.import_errors,
        "seconds": seconds,
        "heavy": sorted({"torch", "transformers", "pandas", "great_expectations", "psycopg"} & sys.modules.keys()),
    }


def _about(dag: Any) -> dict[str, Any]:
    return {
        "schedule": str(dag.timetable.summary if hasattr(dag.timetable, "summary") else dag.timetable),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "doc": dag.doc_md,
        "tags": sorted(dag.tags),
        "params": {name: dag.params.get_param(name).schema for name in dag.params},
        "tasks": {
            task.task_id: {
                "downstream": sorted(task.downstream_task_ids),
                "owner": task.owner,
                "retries": task.retries,
                "backoff": bool(task.retry_exponential_backoff),
                "timeout": task.execution_timeout.total_seconds() if task.execution_timeout else None,
                "queue": task.queue,
                "pool": task.pool,
                "rule": str(task.trigger_rule),
                "outlets": [outlet.name for outlet in task.outlets],
                "defaults": getattr(task, "defaults", None),
                "response_timeout": str(getattr(task, "response_timeout", None)),
            }
            for task in dag.tasks
        },
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))  # noqa: T201
