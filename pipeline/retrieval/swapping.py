"""Makes a generation live, by a decision that rests on its gates."""

import logging
from collections.abc import Mapping

from pipeline import deployments, steps
from pipeline.context import Context
from pipeline.database import Connection
from pipeline.errors import Stale
from pipeline.retrieval.records import Built, Gated, Swap, Swapped
from pipeline.steps import Attempt, Result, Step, Version

log = logging.getLogger(__name__)

_TRIES = 5


def swap(context: Context, built: Built, checked: Gated) -> Swapped:
    """Returns what came of it. Where the gates did not pass, the decision is "block" and nothing goes live; where the
    generation is live already, nothing is decided.

    The model that is live stays. A release that goes live at the same moment is waited for, and the swap decided anew
    beside it; raises Stale where that happens again and again. `reuse` changes nothing: a swap is an act.
    """

    def work(attempt: Attempt) -> Result:
        def decide(connection: Connection, _versions: Mapping[str, Version]) -> Swap:
            return _swap(connection, context.usecase.name, attempt, built.version, checked.passed)

        return Result({}, {"generation": built.generation}, decide)

    spec = Step(
        context.usecase.name,
        "retrieval.swap",
        "pipeline",
        ("pipeline.retrieval.swapping",),
        params={"generation": built.generation},
        inputs={"generation": built.version, "report": checked.report},
        reuse="never",
    )
    outcome = steps.run(context.settings, context.origin, spec, work)
    return Swapped(**vars(outcome.written), run=outcome.run_id)


def _swap(connection: Connection, use_case: str, attempt: Attempt, version: Version, passed: bool) -> Swap:
    """Decides and swaps in the connection's transaction; what came to nothing is rolled back to before it."""
    for tries in range(1, _TRIES + 1):
        live = deployments.live(connection, use_case)
        if live is not None and live.index_version_id == version.version_id:
            return Swap(False, live.deployment_id, None)
        try:
            with connection.transaction():
                decision = deployments.decide_index(connection, attempt.run_id)
                if not passed:
                    return Swap(False, live.deployment_id if live else None, decision)
                return Swap(True, deployments.swap(connection, decision), decision)
        except Stale:
            if tries == _TRIES:
                raise
            log.info("another deployment of %s went live meanwhile; deciding anew", use_case)
    raise AssertionError("unreachable")
