"""What a use case's YAML says that loads and still cannot be meant: keys that disagree, files without content, callers
that can read nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import database, prompt
from pipeline.database import Connection
from pipeline.errors import BadInput
from pipeline.usecase import UseCase

Finding = tuple[str, str]  # the key, and what is odd about it


@dataclass(frozen=True)
class Right:
    """Who may read some documents."""

    tenant: str
    classification: str
    groups: Sequence[str]


def findings(usecase: UseCase, connection: Connection | None) -> list[Finding]:
    """Returns what is odd, by key. Principals are held against the committed documents' rights, where there are some;
    with no connection, against nothing."""
    rights: list[Right] = []
    if connection is not None:
        rows = database.fetch(connection, "doctor", "rights", use_case=usecase.name)
        rights = [Right(row["tenant"], row["classification"], row["groups"]) for row in rows]
    found = [*_disagreeing(usecase), *_empty(usecase), *_prompt(usecase)]
    return [*found, *(_principals(usecase, rights) if rights else ())]


def _disagreeing(usecase: UseCase) -> Iterator[Finding]:
    """Yields the keys that contradict one another."""
    training, checks, release = usecase.training, usecase.checks, usecase.release
    kinds = {source.kind for source in usecase.examples}
    if usecase.risk_tier == "high" and usecase.signoff.required is False:
        yield "signoff.required", "false, and risk_tier high has data signed all the same"
    if usecase.risk_tier == "high" and release.approval.required is False:
        yield "release.approval.required", "false, and risk_tier high asks a person all the same"
    if training.dpo.enabled and "preference" not in kinds:
        yield "training.dpo.enabled", "true, and no examples are of the kind preference"
    if not training.dpo.enabled and "preference" in kinds:
        yield "training.dpo.enabled", "false, and examples of the kind preference are given: nothing reads them"
    if not training.pretrain.enabled and "text" in kinds:
        yield "training.pretrain.enabled", "false, and examples of the kind text are given: nothing reads them"
    if "sft" not in kinds:
        yield "examples", "none is of the kind sft, which every night begins with"
    if checks.min_characters > checks.max_characters:
        yield "checks.min_characters", "above max_characters: every row is rejected"
    if usecase.splits.train == 0:
        yield "splits.train", "0: nothing is trained on"
    if usecase.splits.validation == 0:
        yield "splits.validation", "0: no checkpoint can be selected"
    if not usecase.evaluation.suites and usecase.splits.test == 0:
        yield "splits.test", "0, and there is no suite: nothing is evaluated"
    yield from _disagreeing_suites(usecase)
    schedule = usecase.schedule
    if schedule.retrain is not None and schedule.data is None:
        yield "schedule.data", "null, and retrain is scheduled: every night trains on the same"


def _disagreeing_suites(usecase: UseCase) -> Iterator[Finding]:
    release, names = usecase.release, [suite.name for suite in usecase.evaluation.suites]
    if len(set(names)) < len(names):
        yield "evaluation.suites", "two suites have the same name"
    gated = [suite for suite in usecase.evaluation.suites if suite.gated]
    for suite in gated:
        if suite.limit is not None and suite.limit < release.min_cases and len(gated) == 1:
            yield "release.min_cases", f"{release.min_cases}, and {suite.name} is limited to {suite.limit} cases"
    if release.thresholds and usecase.evaluation.suites and not gated:
        yield "evaluation.suites", "none is gated, and there are thresholds"


def _empty(usecase: UseCase) -> Iterator[Finding]:
    """Yields the sources and suites that hold nothing."""
    for key, path in (
        *((f"documents.{place}.path", source.path) for place, source in enumerate(usecase.documents)),
        *((f"examples.{place}.path", source.path) for place, source in enumerate(usecase.examples)),
        *((f"evaluation.suites.{place}.path", suite.path) for place, suite in enumerate(usecase.evaluation.suites)),
    ):
        if path is not None and _without_content(path):
            yield key, f"{path} is empty"


def _without_content(path: Path) -> bool:
    if path.is_dir():
        return not any(file.is_file() and file.stat().st_size for file in path.rglob("*"))
    with path.open("rb") as file:
        return not any(line.strip() for line in file)


def _prompt(usecase: UseCase) -> Iterator[Finding]:
    try:
        prompt.read(usecase.prompt)
    except BadInput as error:
        yield "prompt", f"{error.what}: {error.details['found']}"


def _principals(usecase: UseCase, rights: list[Right]) -> Iterator[Finding]:
    """Yields the principals whose tenant or groups no document has."""
    tenants = {right.tenant for right in rights}
    for name, principal in usecase.principals.items():
        if principal.tenant not in tenants:
            yield f"principals.{name}.tenant", f"{principal.tenant}: no document is of this tenant"
            continue
        known = {group for right in rights if right.tenant == principal.tenant for group in right.groups}
        for group in principal.groups:
            if group not in known:
                yield f"principals.{name}.groups", f"{group}: no document of {principal.tenant} is for this group"
