"""The weekly look at what is live: the champion on the same suites, with the index that serves by now."""

from typing import Any

from pipeline import database, steps
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.subjects import champion
from pipeline.settings import Settings
from pipeline.steps import Origin, Reuse
from pipeline.usecase import UseCase


def regression(settings: Settings, usecase: UseCase, origin: Origin, *, reuse: Reuse = "auto") -> dict[str, Any] | None:
    """Returns what `evaluate` returns of the model that is live, with the index that is live; None where no model is.

    Where neither changed, an earlier evaluation answers. Raises as `evaluate` does.
    """
    live = champion(settings, usecase)
    if live["model"] is None:
        return None
    with database.connect(settings, "evaluator") as connection:
        base = steps.latest(connection, usecase.name, "base_model", "base")
    assert base is not None, "a model that is live was trained on one"
    return evaluate(
        settings, usecase, origin, "champion", base.as_dict(), live["model"], index=live["index"], reuse=reuse
    )
