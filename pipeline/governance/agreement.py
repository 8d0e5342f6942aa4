"""Whether records agree with the artifacts behind them: the scores of a record are those of the evaluation's own
file."""

from typing import TYPE_CHECKING, Any

from pipeline.governance import evidence

if TYPE_CHECKING:
    from pipeline.governance.verify import Examination


def check(seen: "Examination", records: dict[str, Any]) -> int:
    """Returns how many metrics were compared with the file that they came from; differences are noted as problems."""
    compared = 0
    for place, evaluation in enumerate(records["evaluations"]):
        folder = evidence.artifact_path("evaluation", evaluation["artifact_digest"])
        copies = [name for name in seen.contents if name.startswith(f"{folder}/files/") and name.endswith(".json")]
        for name in copies:
            content = seen.json(name)
            if content.get("metrics") is None:
                continue
            compared += len(evaluation["metrics"])
            if content["metrics"] != evaluation["metrics"]:
                seen.problem(evidence.record_path("evaluations"), f"entry {place} says other scores than {name}")
    return compared
