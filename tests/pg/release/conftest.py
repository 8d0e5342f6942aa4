"""Nights without a model: adapters and evaluations as the earlier stages leave them, scores chosen by the tests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from pipeline import canonical, database, deployments, prompt, release, steps
from pipeline import usecase as usecases
from pipeline.context import Context
from pipeline.database import Connection, Role
from pipeline.evaluation import recording
from pipeline.evaluation.answering import Answered, Scored
from pipeline.evaluation.cases import Answer, Case, Expect, Suite
from pipeline.records import plain, write
from pipeline.release import Gated, Promoted
from pipeline.results import FILE as FILE_NAME
from pipeline.results import (
    AnswerForm,
    EvaluationSettings,
    GenerationSettings,
    ModelSettings,
    RetrievalSettings,
    Subject,
    SuiteSettings,
)
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Step, Version
from pipeline.usecase import UseCase
from tests.pg.conftest import swap

ENGINEER = Origin("cli", "engineer")
CASES = 60
FILE = "facts"  # the suite's file: the stage before knows what it means


@dataclass
class House:
    """A use case and what its nights make."""

    settings: Settings
    usecase: UseCase

    def step(self, job: str, role: Role, files: Mapping[str, bytes], kind: str, name: str, **told: Any) -> Version:
        """Runs a step with one artifact of these files, its output named after `output`, which is returned."""
        output, write = told.pop("output"), told.pop("write", None)

        def work(attempt: Attempt) -> Result:
            stored = attempt.store.put(kind, files)
            outputs = {output: Output.of(stored, name, private=False)}
            return Result(outputs, {}, (lambda c, v: write(c, attempt, v[output])) if write else None)

        step = Step(self.usecase.name, job, role, ("pipeline.canonical",), reuse="never", **told)
        return steps.run(self.settings, ENGINEER, step, work).outputs[output]

    def base(self) -> Version:
        return self.step("training.preflight", "trainer", {"config.json": b"{}"}, "base_model", "base", output="base")

    def adapter(self, weights: str, dataset: Version | None = None) -> Version:
        """Returns the version of a candidate with these weights, trained now, on a dataset version where one is
        given."""
        files, inputs = {"adapter.txt": weights.encode()}, {} if dataset is None else {"dataset": dataset}
        return self.step("training.dpo", "trainer", files, "adapter", "candidate", output="adapter", inputs=inputs)

    def dataset(self, rows: int, readers: Mapping[str, int]) -> Version:
        """Returns a dataset version of which these persons read a sample of so many rows; each found so many good."""
        name = self.usecase.name

        def record(connection: Connection, attempt: Attempt, artifact: Version) -> None:
            run = connection.execute
            run("insert into catalog.dataset (use_case, kind) values (%s, 'examples')", [name])
            run(
                "insert into catalog.dataset_version (dataset_id, version, digest, artifact_version_id, counts)"
                " select dataset_id, 1, 'd', %s, '{}' from catalog.dataset where kind = 'examples'",
                [artifact.version_id],
            )
            run(
                "insert into catalog.example (use_case, digest, kind, split, content, source)"
                " select %s, 'r' || n, 'sft', 'train', '{}', 'f' from generate_series(1, %s) n",
                [name, rows],
            )
            run(
                "insert into catalog.example_member (dataset_id, example_digest, split, added_in)"
                " select dataset_id, 'r' || n, 'train', 1 from catalog.dataset, generate_series(1, %s) n"
                " where kind = 'examples'",
                [rows],
            )
            if not readers:
                return
            run(
                "insert into catalog.review (dataset_id, version, seed, rows, requested_by)"
                " select dataset_id, 1, 0, %s, 'engineer' from catalog.dataset where kind = 'examples'",
                [rows],
            )
            run(
                "insert into catalog.review_row (review_id, place, digest, stratum, swapped)"
                " select review_id, n, 'r' || n, 's', false from catalog.review, generate_series(1, %s) n",
                [rows],
            )
            for reader, good in readers.items():
                run(
                    "insert into catalog.review_answer (review_id, place, rater, good, reason)"
                    " select review_id, place, %s, place <= %s, 'read' from catalog.review_row",
                    [reader, good],
                )

        files = {"members.json": b"[]"}
        return self.step("data.commit", "pipeline", files, "dataset", "examples", output="dataset", write=record)

    def index(self, content: str) -> Version:
        """Returns an index version which is live from now on."""
        files = {"m.txt": content.encode()}
        index = self.step("retrieval.build", "pipeline", files, "index_generation", "index", output="index")
        name = self.usecase.name
        with database.connect(self.settings, "pipeline") as connection, connection.transaction():
            (row,) = database.call(connection, "rag.create_version", name, "embedder", Jsonb({}), ["acme"])
            generation = row["generation_id"]
            database.call(connection, "rag.seal_version", generation)
            connection.execute(
                "select rag.attach(%s::int, %s, %s::bigint, null)", [generation, index.digest, index.version_id]
            )
        with database.connect(self.settings, "evaluator") as connection:
            gates = Jsonb({"recall": {"passed": True}, "leaks": {"passed": True}})
            database.call(connection, "rag.record_gates", generation, gates)
        swap(self.settings, name, index)
        return index

    def evaluate(
        self,
        subject: Subject,
        adapter: Version | None,
        right: int,
        cases: int = CASES,
        max_new_tokens: int | None = None,
    ) -> Version:
        """Returns the evaluation of a model which answers the first `right` cases rightly, with retrieval."""
        inputs = {"base": self.base()}
        if adapter is not None:
            inputs["adapter"] = adapter
        with database.connect(self.settings, "pipeline") as connection:
            live = deployments.live(connection, self.usecase.name)
            if live is not None and live.index_version_id is not None:
                inputs["index"] = steps.version(connection, live.index_version_id)
        (named,) = self.usecase.evaluation.suites
        file = canonical.digest_text(named.path.read_text())
        asked = [Case(f"c{n}", f"d{n}", f"secret question {n}", "clerk", Expect(True, "x")) for n in range(cases)]
        suite = Suite("facts", True, tuple(asked), file)
        results = [
            Scored(case, Answer(f"secret answer {place < right}"), {"correct": float(place < right)})
            for place, case in enumerate(asked)
        ]
        answered = [Answered(suite, "with" if "index" in inputs else "without", tuple(results), 0, 0)]
        tokens = max_new_tokens or self.usecase.evaluation.max_new_tokens
        settings = EvaluationSettings(
            [SuiteSettings("facts", suite.digest, file, None, True, cases, AnswerForm.of(named))],
            GenerationSettings("greedy", tokens, 4, prompt.read(self.usecase.prompt).digest),
            ModelSettings("float32", "none", "cpu"),
            RetrievalSettings(self.usecase.retrieval.k, None),
            0.95,
        )
        content = recording.content(settings, inputs, answered)

        def record(connection: Connection, attempt: Attempt, artifact: Version) -> None:
            recording.record(connection, self.usecase, attempt, subject, inputs, artifact, answered)

        return self.step(
            "evaluation.evaluate", "evaluator", {FILE_NAME: write(content)}, "evaluation", "evaluation",
            output="evaluation", write=record, inputs=inputs, params=plain(settings),
        )  # fmt: skip

    def evaluations(self, adapter: Version, right: int, base: int = 5) -> dict[Subject, Version]:
        """Returns the evaluations of a night: base, champion (which keeps what its weights say), candidate."""
        night: dict[Subject, Version] = {
            "base": self.evaluate("base", None, base),
            "candidate": self.evaluate("candidate", adapter, right),
        }
        with database.connect(self.settings, "pipeline") as connection:
            live = deployments.live(connection, self.usecase.name)
            if live is not None and live.model_version_id is not None:
                champion = steps.version(connection, live.model_version_id)
                night["champion"] = self.evaluate("champion", champion, self.right(champion))
        return night

    def right(self, adapter: Version) -> int:
        """Returns how many cases an earlier evaluation of these weights found right."""
        with database.connect(self.settings, "pipeline") as connection:
            row = connection.execute(
                "select metrics -> 'correct' -> 'value' as value, metrics -> 'correct' -> 'n' as n"
                " from eval.evaluation e join lineage.artifact_version v on v.version_id = e.model_version_id"
                " where v.digest = %s order by evaluation_id limit 1",
                [adapter.digest],
            ).fetchone()
        assert row is not None
        return round(float(row["value"]) * int(row["n"]))

    def context(self, origin: Origin = ENGINEER) -> Context:
        return Context(self.settings, self.usecase, origin)

    def night(self, weights: str, right: int = 50, origin: Origin = ENGINEER) -> Gated:
        """Returns what the gate says about a candidate that was trained, evaluated and judged in this order."""
        sealed = release.seal(self.context(origin))
        adapter = self.adapter(weights)
        return release.gate(self.context(origin), sealed, adapter, self.evaluations(adapter, right))

    def release(self, weights: str, right: int = 50) -> Promoted:
        """Returns the deployment of a candidate that went through the gate without a person."""
        return release.promote(self.settings, self.night(weights, right).decision_id)

    def rows(self, statement: str, *values: Any) -> list[Any]:
        with database.connect(self.settings, "pipeline") as connection:
            return connection.execute(statement.encode(), values).fetchall()


@pytest.fixture
def make_house(settings: Settings, usecase_folder: Callable[..., Path]) -> Callable[..., House]:
    """A function that makes a house; its keys are those of the YAML's `release`, and `risk_tier`."""

    def make(risk_tier: str = "limited", **told: Any) -> House:
        rules = {"thresholds": [{"metric": "correct", "minimum": 0.5, "margin": 0.1}], "min_cases": 30, **told}
        (usecase_folder() / "facts.jsonl").write_text(FILE)
        folder = usecase_folder(
            risk_tier=risk_tier, release=rules, evaluation={"suites": [{"name": "facts", "path": "facts.jsonl"}]}
        )
        return House(settings, usecases.load(folder / "usecase.yaml"))

    return make


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    """A house of limited risk: no person is asked."""
    return make_house()


@pytest.fixture
def strict(make_house: Callable[..., House]) -> House:
    """A house of high risk: a person answers for every release."""
    return make_house("high")
