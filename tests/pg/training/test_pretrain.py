"""Continued pretraining on plain texts, and the chain that goes on from it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import database, training
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.settings import Settings
from pipeline.steps import Origin, Version
from pipeline.training import sandbox
from pipeline.training.records import Measures, Tuned
from pipeline.usecase import UseCase

pytestmark = pytest.mark.pg

MakeCase = Callable[..., UseCase]
Commit = Callable[..., Version]


def measures(tuned: Tuned | None) -> Measures:
    assert tuned is not None
    assert tuned.facts.training is not None
    return tuned.facts.training


def test_sft_and_dpo_go_on_from_what_texts_taught(
    settings: Settings,
    origin: Origin,
    usecase: MakeCase,
    commit: Commit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit(30, 20, 30)
    context = Context(settings, usecase(), origin)
    prepared = training.preflight(context)
    assert prepared.facts.text is not None
    counts = prepared.facts.text["train"]
    assert counts.rows == 24
    assert counts.tokens == counts.supervised_tokens
    assert set(prepared.facts.plans) == {"pretrain", "sft", "dpo"}

    pretrained = training.pretrain(context, prepared)
    assert pretrained is not None
    assert pretrained.adapter.name == "pretrained"
    measured = measures(pretrained)
    assert measured.eval_loss is not None
    assert measured.eval_loss_before is not None
    assert measured.eval_loss < measured.eval_loss_before
    tuned = training.sft(context, prepared, pretrained)
    alone = training.sft(context, prepared)
    assert tuned.adapter.digest != alone.adapter.digest
    folder = ArtifactStore(settings.artifacts).fetch("adapter", tuned.adapter.digest, tmp_path / "sft")
    assert json.loads((folder / "recipe.json").read_text())["start"] == pretrained.adapter.digest
    candidate = training.dpo(context, prepared, tuned)
    with database.connect(settings, "pipeline") as connection:
        above = connection.execute(
            "select v.digest from lineage.ancestry(%s) a join lineage.artifact_version v using (version_id)",
            [candidate.adapter.version_id],
        ).fetchall()
    assert {tuned.adapter.digest, pretrained.adapter.digest} <= {row["digest"] for row in above}

    replies: list[dict[str, Any]] = []
    converse = sandbox.converse

    def noted(*arguments: Any) -> dict[str, Any]:
        replies.append(converse(*arguments))
        return replies[-1]

    monkeypatch.setattr(sandbox, "converse", noted)
    again = training.pretrain(context, prepared)
    assert again is not None
    assert again.reused
    assert again.adapter == pretrained.adapter
    assert [reply["imported"] for reply in replies] == [[]]


@pytest.mark.slow
def test_the_same_texts_give_the_same_adapter(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit
) -> None:
    commit(10, 0, 30)
    case = usecase(dpo={"enabled": False})
    prepared = training.preflight(Context(settings, case, origin))
    one, other = (training.pretrain(Context(settings, case, origin, "never"), prepared) for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.adapter == other.adapter


@pytest.mark.parametrize(("texts", "keys"), [(0, {}), (20, {"pretrain": {"enabled": False}})])
def test_without_texts_or_where_it_is_switched_off_nothing_is_started(
    settings: Settings,
    origin: Origin,
    usecase: MakeCase,
    commit: Commit,
    monkeypatch: pytest.MonkeyPatch,
    texts: int,
    keys: dict[str, Any],
) -> None:
    commit(20, 0, texts)
    context = Context(settings, usecase(dpo={"enabled": False}, **keys), origin)
    prepared = training.preflight(context)
    assert "pretrain" not in prepared.facts.plans
    monkeypatch.setattr(sandbox, "call", lambda *_, **__: pytest.fail("a process was started"))
    assert training.pretrain(context, prepared) is None


def test_what_is_asked_of_a_model_is_asked_of_every_training(settings: Settings) -> None:
    with database.connect(settings, "reader") as connection:
        rows = connection.execute(
            "select p.job, lineage.trains(p.job) as trains from (values ('training.pretrain'), ('training.sft'),"
            " ('training.dpo'), ('training.preflight'), ('training.export'), ('data.commit')) p (job)"
        ).fetchall()
    assert {row["job"] for row in rows if row["trains"]} == {"training.pretrain", "training.sft", "training.dpo"}
