"""Nights without a model: adapters and evaluations as the earlier stages leave them, scores chosen by the tests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from pipeline import canonical, database, deployments, release, steps
from pipeline import usecase as usecases
from pipeline.database import Connection, Role
from pipeline.evaluation import recording
from pipeline.evaluation.answering import Answered, Scored
from pipeline.evaluation.cases import Answer, Case, Expect, Suite
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Step, Version
from pipeline.usecase import UseCase
from tests.pg.conftest import swap

Told = dict[str, Any]
ENGINEER = Origin("cli", "engineer")
CASES = 60
FILE = "facts"  # the suite's file: the stage before knows what it means


@dataclass
class House:
    """A use case and what its nights make."""

    settings: Settings
    usecase: UseCase

    def step(self, job: str, role: Role, files: Mapping[str, bytes], kind: str, name: str, **told: Any) -> Told:
        """Runs a step with one artifact of these files, its output named after `output`."""
        output, write = told.pop("output"), told.pop("write", None)

        def work(attempt: Attempt) -> Result:
            stored = attempt.store.put(kind, files)
            outputs = {output: Output.of(stored, name, private=False)}
            return Result(outputs, {}, (lambda c, v: write(c, attempt, v[output])) if write else None)

        step = Step(self.usecase.name, job, role, ("pipeline.canonical",), reuse="never", **told)
        return steps.run(self.settings, ENGINEER, step, work).as_dict()

    def base(self) -> Version:
        found = self.step("training.preflight", "trainer", {"config.json": b"{}"}, "base_model", "base", output="base")
        return Version(**found["outputs"]["base"])

    def adapter(self, weights: str) -> Told:
        """Returns the version of a candidate with these weights, trained now."""
        made = self.step(
            "training.dpo", "trainer", {"adapter.txt": weights.encode()}, "adapter", "candidate", output="adapter"
        )
        found: Told = made["outputs"]["adapter"]
        return found

    def index(self, content: str) -> Version:
        """Returns an index version which is live from now on."""
        made = self.step(
            "retrieval.build", "pipeline", {"m.txt": content.encode()}, "index_generation", "index", output="index"
        )
        index = Version(**made["outputs"]["index"])
        name = self.usecase.name
        with database.connect(self.settings, "pipeline") as connection, connection.transaction():
            (made,) = database.call(connection, "rag.create_version", name, "embedder", Jsonb({}), ["acme"])
            generation = made["generation_id"]
            database.call(connection, "rag.seal_version", generation)
            connection.execute(
                "select rag.attach(%s::int, %s, %s::bigint, null)", [generation, index.digest, index.version_id]
            )
        with database.connect(self.settings, "evaluator") as connection:
            gates = Jsonb({"recall": {"passed": True}, "leaks": {"passed": True}})
            database.call(connection, "rag.record_gates", generation, gates)
        swap(self.settings, name, index)
        return index

    def evaluate(self, subject: str, adapter: Told | None, right: int, cases: int = CASES, **told: Any) -> Told:
        """Returns what `evaluate` does for a model which answers the first `right` cases rightly, with retrieval."""
        inputs = {"base": self.base()}
        if adapter is not None:
            inputs["adapter"] = Version(**adapter)
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
        answered = [Answered(suite, "with" if "index" in inputs else "without", tuple(results), 0)]
        params = {
            "suites": [{"name": "facts", "file": file, "limit": None}],
            "generation": {"max_new_tokens": self.usecase.evaluation.max_new_tokens},
            "retrieval": {"k": self.usecase.retrieval.k},
            "confidence": 0.95,
            **told,
        }
        content = recording.content(params, {role: version.digest for role, version in inputs.items()}, answered)

        def write(connection: Connection, attempt: Attempt, artifact: Version) -> None:
            recording.write(connection, self.usecase, attempt, subject, inputs, artifact, answered)

        files, output = {"evaluation.json": content}, "evaluation"
        return self.step(
            "evaluation.evaluate", "evaluator", files, "evaluation", output, output=output, write=write, inputs=inputs,
            params=params,
        )  # fmt: skip

    def evaluations(self, adapter: Told, right: int, base: int = 5) -> dict[str, Told]:
        """Returns the evaluations of a night: base, champion (which keeps what its weights say), candidate."""
        found = {"base": self.evaluate("base", None, base), "candidate": self.evaluate("candidate", adapter, right)}
        with database.connect(self.settings, "pipeline") as connection:
            live = deployments.live(connection, self.usecase.name)
            if live is not None and live.model_version_id is not None:
                champion = steps.version(connection, live.model_version_id).as_dict()
                found["champion"] = self.evaluate("champion", champion, self.right(champion))
        return found

    def right(self, adapter: Told) -> int:
        """Returns how many cases an earlier evaluation of these weights found right."""
        with database.connect(self.settings, "pipeline") as connection:
            row = connection.execute(
                "select metrics -> 'correct' -> 'value' as value, metrics -> 'correct' -> 'n' as n"
                " from eval.evaluation e join lineage.artifact_version v on v.version_id = e.model_version_id"
                " where v.digest = %s order by evaluation_id limit 1",
                [adapter["digest"]],
            ).fetchone()
        assert row is not None
        return round(float(row["value"]) * int(row["n"]))

    def night(self, weights: str, right: int = 50, origin: Origin = ENGINEER) -> Told:
        """Returns what the gate says about a candidate that was trained, evaluated and judged in this order."""
        sealed = release.seal(self.settings, self.usecase, origin)
        adapter = self.adapter(weights)
        found = self.evaluations(adapter, right)
        return release.gate(self.settings, self.usecase, origin, sealed, adapter, found)

    def release(self, weights: str, right: int = 50) -> Told:
        """Returns the deployment of a candidate that went through the gate without a person."""
        return release.promote(self.settings, self.night(weights, right)["decision_id"])

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
