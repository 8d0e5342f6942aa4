"""Whom a night evaluates: the bare base model, the SFT adapter, the candidate, and the champion where there is one."""

from typing import Any

from pipeline import database, deployments, steps
from pipeline.settings import Settings
from pipeline.usecase import UseCase


def champion(settings: Settings, usecase: UseCase) -> dict[str, Any]:
    """Returns {"deployment_id", "model", "index"} of what is live: versions as dictionaries, each None where none
    is."""
    with database.connect(settings, "evaluator") as connection:
        live = deployments.live(connection, usecase.name)
        pair = (None, None) if live is None else (live.model_version_id, live.index_version_id)
        model, index = (None if id is None else steps.version(connection, id).as_dict() for id in pair)
    return {"deployment_id": None if live is None else live.deployment_id, "model": model, "index": index}


def subjects(
    settings: Settings, usecase: UseCase, tuned: dict[str, Any], candidate: dict[str, Any]
) -> list[dict[str, Any]]:
    """Returns [{"subject", "adapter", "index"}], one for each model to evaluate, from what sft and dpo returned.

    All of them name one index, the one that is live now, so that a swap during the night does not divide the results.
    The SFT adapter is left out where it is the candidate itself.
    """
    live = champion(settings, usecase)
    sft, new = tuned["outputs"]["adapter"], candidate["outputs"]["adapter"]
    found: list[tuple[str, dict[str, Any] | None]] = [("base", None)]
    if sft["digest"] != new["digest"]:
        found.append(("sft", sft))
    if live["model"] is not None:
        found.append(("champion", live["model"]))
    found.append(("candidate", new))
    return [{"subject": subject, "adapter": adapter, "index": live["index"]} for subject, adapter in found]
