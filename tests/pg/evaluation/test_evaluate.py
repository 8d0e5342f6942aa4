"""Evaluation against a real index and a real model: what is written where, what is reused, who may read what."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import canonical, database, evaluation, steps
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.evaluation import Evaluated
from pipeline.records import plain
from pipeline.settings import ROOT
from pipeline.steps import Attempt, Origin, Output, Result, Step, Version

if TYPE_CHECKING:
    from tests.pg.conftest import World
    from tests.pg.evaluation.conftest import Bench

pytestmark = [
    pytest.mark.pg,
    # PEFT 0.21 asks transformers 5.23 by the old name of the property.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]

Make = Callable[..., "Bench"]


def rows(bench: "Bench", statement: str, *values: Any) -> list[Any]:
    with database.connect(bench.settings, "evaluator") as connection:
        return connection.execute(statement.encode(), values).fetchall()


def content(bench: "Bench", evaluated: Evaluated) -> dict[str, Any]:
    version = evaluated.evaluation
    told: dict[str, Any] = json.loads(
        ArtifactStore(bench.settings.artifacts).read("evaluation", version.digest, "evaluation.json")
    )
    return told


def test_every_case_is_answered_with_and_without_retrieval(world: "World", make_bench: Make) -> None:
    bench = make_bench()
    done = bench.evaluate("base")
    assert done.subject == "base"
    assert done.index is not None
    assert done.index.version_id == world.versions["index.generation"].version_id
    assert {condition: metrics["refusal"].n for condition, metrics in done.facts.pooled.items()} == {
        "with": 7,
        "without": 7,
    }
    assert done.facts.pooled["with"]["value"].n == 6
    found = rows(
        bench,
        "select e.index_version_id, c.case_key, c.principal, r.answer, r.answer_digest, r.documents, r.scores"
        " from eval.evaluation e join eval.result r using (evaluation_id) join eval.suite_case c using (case_id)"
        " where e.run_id = %s::uuid",
        str(done.run),
    )
    assert len(found) == 14
    assert all(canonical.digest_text(row["answer"]) == row["answer_digest"] for row in found)
    readable = {"clerk": {"leave", "notice"}, "inspector": {"leave", "hazard", "notice"}}
    for row in found:
        expected = readable[row["principal"]] if row["index_version_id"] else set()
        assert set(row["documents"]) == expected, "retrieval is with the rights of the case's principal"


def test_text_stands_in_the_database_alone(world: "World", make_bench: Make) -> None:
    bench = make_bench()
    done = bench.evaluate("base")
    artifact = json.dumps(content(bench, done))
    answers = {row["answer"] for row in rows(bench, "select answer from eval.result") if len(row["answer"]) > 8}
    assert answers
    elsewhere = artifact + str(done) + json.dumps(rows(bench, "select * from lineage.run"), default=str)
    assert not [text for text in answers if text in elsewhere]
    assert "deadline of the" not in elsewhere
    assert "secret text" not in elsewhere
    (version,) = rows(bench, "select private from lineage.artifact_version where digest = %s", done.evaluation.digest)
    assert not version["private"]


def test_the_artifact_says_what_the_rows_say(world: "World", make_bench: Make) -> None:
    bench = make_bench()
    done = bench.evaluate("base")
    told = content(bench, done)
    assert done.index is not None
    assert told["inputs"]["index"] == done.index.digest
    stored = {
        (row["case_key"], "with" if row["index_version_id"] else "without"): (row["scores"], row["answer_digest"])
        for row in rows(
            bench,
            "select * from eval.evaluation e join eval.result r using (evaluation_id)"
            " join eval.suite_case c using (case_id)"
            " where e.artifact_version_id = %s",
            done.evaluation.version_id,
        )
    }
    listed = {
        (case["case"], result["condition"]): (case["scores"], case["answer"])
        for result in told["results"]
        for case in result["cases"]
    }
    assert listed == stored


def test_an_equal_evaluation_is_reused_whatever_the_model_was_called(world: "World", make_bench: Make) -> None:
    bench = make_bench()
    base = bench.base()
    adapter = bench.adapter(base)
    first = bench.evaluate("candidate", adapter, base=base)
    champion = bench.evaluate("champion", adapter, base=base)
    assert champion.reused
    assert champion.subject == "champion"
    assert champion.evaluation == first.evaluation
    assert not bench.evaluate("base", base=base).reused
    again = bench.evaluate("candidate", adapter, base=base, reuse="never")
    assert not again.reused
    assert again.evaluation.digest == first.evaluation.digest


def test_the_same_weights_under_another_name_are_the_same_model(world: "World", make_bench: Make) -> None:
    bench = make_bench()
    base = bench.base()
    sft, candidate = bench.adapter(base, "sft"), bench.adapter(base, "candidate")
    assert sft.digest == candidate.digest
    bench.evaluate("sft", sft, base=base)
    assert bench.evaluate("candidate", candidate, base=base).reused


def test_a_withdrawn_document_changes_what_can_be_retrieved_and_so_the_key(world: "World", make_bench: Make) -> None:
    bench = make_bench()
    bench.evaluate("base")
    with database.connect(bench.settings, "pipeline") as connection:
        database.call(connection, "rag.withdraw", "demo", "notice", "wrong")
    done = bench.evaluate("base")
    assert not done.reused
    served = {document for case in content(bench, done)["results"][1]["cases"] for document in case["documents"]}
    assert served == {"leave", "hazard"}


@pytest.mark.parametrize(
    "change",
    [
        {"cases": [{"id": "n", "question": "Why?", "principal": "clerk", "expect": {"answerable": False}}]},
        {"evaluation": {"suites": [{"name": "facts", "path": "facts.jsonl"}], "max_new_tokens": 9}},
        {"retrieval": {"k": 1}},
        {"prompt": str(ROOT / "usecases" / "tiny" / "prompt.md.j2")},
        {"evaluation": {"suites": [{"name": "facts", "path": "facts.jsonl", "refusals": ["no"]}]}},
    ],
    ids=["cases", "generation", "retrieval", "prompt", "refusals"],
)
def test_another_question_is_not_answered_from_the_cache(
    world: "World", make_bench: Make, change: dict[str, Any]
) -> None:
    make_bench().evaluate("base")
    assert not make_bench(**change).evaluate("base").reused


def test_a_hit_loads_no_model(world: "World", make_bench: Make) -> None:
    bench = make_bench()
    base = bench.base()
    bench.evaluate("base", base=base)
    code = (
        "import sys, json\n"
        "from pipeline import evaluation, usecase, settings\n"
        "from pipeline.context import Context\n"
        "from pipeline.steps import Origin, Version\n"
        "here = settings.from_environment()\n"
        "context = Context(here, usecase.find(here, 'demo'), Origin('cli', 'engineer'))\n"
        "done = evaluation.evaluate(context, 'base', Version(**json.loads(sys.argv[1])), None)\n"
        "print(done.reused, [n for n in ('torch', 'transformers', 'sentence_transformers') if n in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(plain(base))],
        check=True,
        capture_output=True,
        text=True,
        env={**bench.settings.environment(), "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.split(maxsplit=1) == ["True", "[]\n"]


def test_a_champion_is_evaluated_on_the_base_model_it_was_trained_on(
    world: "World", make_bench: Make, tmp_path: Path
) -> None:
    bench = make_bench()
    adapter = bench.adapter(bench.base())
    other = copytree(bench.usecase.base_model.label, tmp_path / "other")
    generation = json.loads((other / "generation_config.json").read_text())
    (other / "generation_config.json").write_text(json.dumps({**generation, "max_length": 99}))
    newer = bench.base(str(other))
    done = bench.evaluate("champion", adapter, base=newer)
    assert content(bench, done)["inputs"]["base"] == bench.base().digest != newer.digest


def test_a_base_model_that_changed_after_it_was_pinned_is_refused(
    world: "World", make_bench: Make, tmp_path: Path
) -> None:
    other = copytree(make_bench().usecase.base_model.label, tmp_path / "other")
    bench = make_bench()
    usecase = bench.usecase.model_copy(
        update={"base_model": bench.usecase.base_model.model_copy(update={"path": str(other)})}
    )
    pinned = bench.base(str(other))
    (other / "generation_config.json").write_text("{}")
    with pytest.raises(Refused, match="not the one that was pinned"):
        evaluation.evaluate(Context(bench.settings, usecase, Origin("cli", "engineer")), "base", pinned, None)
    assert (
        rows(
            bench, "select from eval.evaluation where run_id in (select run_id from lineage.run where state = 'failed')"
        )
        == []
    )


def test_without_an_index_the_message_says_what_to_do(make_bench: Make) -> None:
    with pytest.raises(NotAvailable, match="no index of demo is live"):
        make_bench().evaluate("base")


def test_a_malformed_suite_is_refused_before_any_run(world: "World", make_bench: Make) -> None:
    bench = make_bench(cases=[{"id": "x", "question": "Why?", "principal": "nobody", "expect": {"answerable": False}}])
    before = rows(bench, "select from lineage.run")
    with pytest.raises(BadInput, match="no such principal"):
        bench.evaluate("base", base=Version(1, "base_model", "base", "d"))
    assert len(rows(bench, "select from lineage.run")) == len(before)


def test_a_use_case_without_suites_is_evaluated_on_its_locked_rows(make_bench: Make, attacker: Any) -> None:
    bench = make_bench(suites=False)
    with pytest.raises(NotAvailable, match="nothing to evaluate demo on"):
        bench.evaluate("base")
    _lock(
        bench,
        attacker,
        {"kind": "sft", "content": {"messages": [_user("How long?"), _assistant("Two secret days.")]}},
        {
            "kind": "preference",
            "content": {"prompt": [_user("Why?")], "chosen": [_assistant("So.")], "rejected": [_assistant("zq xv")]},
        },
    )
    done = bench.evaluate("base")
    assert done.index is None
    assert done.facts.pooled["with"] == {}
    assert {name: estimate.n for name, estimate in done.facts.pooled["without"].items()} == {
        "reference": 2,
        "likelihood": 2,
        "preference": 1,
    }
    assert rows(bench, "select question, expect from eval.suite_case") == [{"question": None, "expect": None}] * 2
    assert "secret" not in json.dumps(content(bench, done)) + str(done)
    assert bench.evaluate("base").reused


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _lock(bench: "Bench", attacker: Any, *examples: dict[str, Any]) -> None:
    """Makes a dataset version whose test split are these rows."""
    digests = [canonical.digest(example) for example in examples]

    def work(attempt: Attempt) -> Result:
        return Result({"dataset": Output("dataset", "examples", canonical.digest(digests), None, 0, True)})

    step = Step("demo", "data.commit", "pipeline", ("pipeline.canonical",))
    made: Version = steps.run(bench.settings, Origin("cli", "engineer"), step, work).outputs["dataset"]
    run = attacker.execute
    (dataset,) = run(
        "insert into catalog.dataset (use_case, kind) values ('demo', 'examples') returning dataset_id"
    ).fetchone()
    for digest, example in zip(digests, examples, strict=True):
        run(
            "insert into catalog.locked_example (use_case, digest, kind, content, source)"
            " values ('demo', %s, %s, %s, 'x')",
            [digest, example["kind"], json.dumps(example["content"])],
        )
        run(
            "insert into catalog.example_member (dataset_id, example_digest, split, added_in)"
            " values (%s, %s, 'test', 1)",
            [dataset, digest],
        )
    run(
        "insert into catalog.dataset_version (dataset_id, version, digest, artifact_version_id, counts)"
        " values (%s, 1, %s, %s, '{}')",
        [dataset, made.digest, made.version_id],
    )


def test_a_night_names_its_subjects_and_one_index_for_all(world: "World", make_bench: Make) -> None:
    bench = make_bench()
    live = evaluation.champion(bench.settings, bench.usecase)
    sft, new = (Version(number, "adapter", name, name) for number, name in enumerate(("sft", "candidate")))
    subjects = evaluation.subjects(bench.settings, bench.usecase, sft, new)
    assert [one.subject for one in subjects] == ["base", "sft", "champion", "candidate"]
    assert {one.index for one in subjects} == {live.index}
    assert subjects[2].adapter == live.model
    same = evaluation.subjects(bench.settings, bench.usecase, new, new)
    assert [one.subject for one in same] == ["base", "champion", "candidate"]
