"""Whom a night evaluates: the bare base model, the SFT adapter, the candidate, and the champion where there is one."""

from pipeline import database, deployments, steps
from pipeline.evaluation.records import Champion, SubjectOf
from pipeline.settings import Settings
from pipeline.steps import Version
from pipeline.usecase import UseCase


def champion(settings: Settings, usecase: UseCase) -> Champion:
    """Returns what is live; every part of it is None where there is none."""
    with database.connect(settings, "evaluator") as connection:
        live = deployments.live(connection, usecase.name)
        if live is None:
            return Champion(None, None, None)
        model, index = (
            None if version_id is None else steps.version(connection, version_id)
            for version_id in (live.model_version_id, live.index_version_id)
        )
    return Champion(live.deployment_id, model, index)


def subjects(settings: Settings, usecase: UseCase, sft: Version, candidate: Version) -> list[SubjectOf]:
    """Returns the models to evaluate, from the adapters of sft and dpo.

    All of them name one index, the one that is live now, so that a swap during the night does not divide the results.
    The SFT adapter is left out where it is the candidate itself.
    """
    live = champion(settings, usecase)
    chosen = [SubjectOf("base", None, live.index)]
    if sft.digest != candidate.digest:
        chosen.append(SubjectOf("sft", sft, live.index))
    if live.model is not None:
        chosen.append(SubjectOf("champion", live.model, live.index))
    chosen.append(SubjectOf("candidate", candidate, live.index))
    return chosen
