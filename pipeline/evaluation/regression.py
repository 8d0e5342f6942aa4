"""The weekly look at what is live: the champion on the same suites, with the index that serves by now."""

from pipeline import database, steps
from pipeline.context import Context
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.records import Evaluated
from pipeline.evaluation.subjects import champion


def regression(context: Context) -> Evaluated | None:
    """Returns the evaluation of the model that is live, with the index that is live; None where no model is.

    Where neither changed, an earlier evaluation answers. Raises as `evaluate` does.
    """
    live = champion(context.settings, context.usecase)
    if live.model is None:
        return None
    with database.connect(context.settings, "evaluator") as connection:
        base = steps.latest(connection, context.usecase.name, "base_model", "base")
    assert base is not None, "a model that is live was trained on one"
    return evaluate(context, "champion", base, live.model, index=live.index)
