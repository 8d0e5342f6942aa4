"""A small world that several tests read: two nights of one use case, by the logins and functions of the real run.

Night one releases a model after a person's approval, over an index of three documents; night two is blocked.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from pipeline import canonical, database, deployments, steps
from pipeline.database import Connection, Role
from pipeline.results import Check, Measured
from pipeline.settings import Settings
from pipeline.statistics import Estimate
from pipeline.steps import Attempt, Origin, Outcome, Output, Result, Step, Version

# Fixtures of the retrieval stage that the tests of the database and of search use, too.
from tests.conftest import own_installation
from tests.pg.retrieval.conftest import hashed, library, live, live_template

__all__ = ["hashed", "library", "live", "live_template"]

USE_CASE = "demo"
SUITES = [{"name": "main", "file": None, "limit": None}]
EMBEDDER = canonical.digest_text("embedder")
Write = Callable[[Connection, Mapping[str, Version]], None]

# key: (tenant, classification, groups)
DOCUMENTS = {
    "leave": ("acme", "internal", ["staff"]),
    "hazard": ("acme", "restricted", ["safety"]),
    "notice": ("acme", "public", ["everyone"]),
}
PRINCIPALS = {
    "clerk": ("acme", ["staff"], "internal"),
    "inspector": ("acme", ["safety", "staff"], "restricted"),
    "stranger": ("other", ["staff", "safety"], "restricted"),
}


@dataclass
class World:
    """What was made, by the names the tests use."""

    settings: Settings
    versions: dict[str, Version] = field(default_factory=dict)
    runs: dict[str, Outcome] = field(default_factory=dict)
    decisions: dict[str, int] = field(default_factory=dict)
    deployments: dict[str, int] = field(default_factory=dict)
    generation: int = 0
    before_release: datetime | None = None  # index live, model not yet

    def run(
        self,
        name: str,
        job: str,
        files: Mapping[str, tuple[str, str, bytes, bool]],
        inputs: Mapping[str, Version] | None = None,
        role: Role = "pipeline",
        night: str | None = None,
        facts: Mapping[str, Any] | None = None,
        write: Write | None = None,
        param: str | None = None,
        measured: Sequence[Mapping[str, Any]] = (),
    ) -> Outcome:
        """Runs one step whose outputs are the given files: role to (kind, name, content, private)."""
        stage = job.partition(".")[0]
        origin = Origin("cli", "engineer")
        if night is not None:
            dag = "demo_retrain" if stage in ("training", "evaluation", "release") else f"demo_{stage}"
            origin = Origin("airflow", "engineer", dag, night, name)

        def work(attempt: Attempt) -> Result:
            if measured:
                database.call(
                    attempt.connection, "lineage.record_steps", attempt.run_id, attempt.fence, Jsonb(list(measured))
                )
            outputs = {}
            for output, (kind, artifact, content, private) in files.items():
                suffix = "json" if content[:1] in (b"{", b"[") else "md"
                stored = attempt.store.put(kind, {f"{artifact}.{suffix}": content})
                outputs[output] = Output.of(stored, artifact, private=private)
            return Result(outputs, facts or {}, write)

        step = Step(
            USE_CASE,
            job,
            role,
            ("pipeline.canonical",),
            params={"name": param or name, "suites": SUITES},
            inputs=inputs or {},
        )
        outcome = steps.run(self.settings, origin, step, work)
        self.runs[name] = outcome
        self.versions |= {f"{name}.{output}": version for output, version in outcome.outputs.items()}
        return outcome


@pytest.fixture(scope="session")
def world_template(installation: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world that tests get copies of."""
    with own_installation(installation, tmp_path_factory.mktemp("world")) as settings:
        yield build(settings)


@pytest.fixture
def world(world_template: World, settings: Settings) -> World:
    """Two nights of the use case `demo`, in a copy of the database and of the store. The lineage still names the places
    of the template: where that matters, take `own_world`."""
    return replace(copy.deepcopy(world_template), settings=settings)


@pytest.fixture
def own_world(settings: Settings) -> World:
    """Two nights of the use case `demo`, of the test's own making."""
    return build(settings)


def build(settings: Settings) -> World:
    """Returns two nights of the use case `demo`, recorded in an empty installation."""
    made = World(settings)
    _data(made)
    _index(made)
    made.before_release = _now(settings)
    _night(made, "night-1", quality=0.9, outcome="approve_with_conditions", needs_person=True)
    with database.connect(settings, "approver") as connection:
        first = made.decisions["night-1"]
        assert _value(connection, "release.answer", first, "approve", "engineer", "looks fine to me") == "refused"
        assert _value(connection, "release.answer", first, "approve", "reviewer", "reviewed the report") == "approve"
        made.deployments["model"] = deployments.promote(connection, first)
    _night(made, "night-2", quality=0.5, outcome="block", needs_person=False)
    return made


def _now(settings: Settings) -> datetime:
    with database.connect(settings, "reader") as connection:
        row = connection.execute("select clock_timestamp() as now").fetchone()
        assert row is not None
        now: datetime = row["now"]
        return now.astimezone(UTC)


def _value(connection: Connection, function: str, *arguments: Any) -> Any:
    (row,) = database.call(connection, function, *arguments)
    return next(iter(row.values()))


def _insert(connection: Connection, table: str, returning: str | None = None, **values: Any) -> Any:
    statement = sql.SQL("insert into {} ({}) values ({})").format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    if returning is None:
        return connection.execute(statement, list(values.values()))
    row = connection.execute(
        statement + sql.SQL(" returning {}").format(sql.Identifier(returning)), list(values.values())
    )
    found = row.fetchone()
    assert found is not None
    return found[returning]


def _data(made: World) -> None:
    """Two versions of the examples, one of the documents, with findings of the checks."""
    made.run("fetch", "data.fetch", {"documents": ("snapshot", "documents", b"secret text", True)}, night="data-1")

    def findings(connection: Connection, versions: Mapping[str, Version]) -> None:
        run = made_run(connection, "data.check")
        for line, rule in ((3, "answer_present"), (9, "answer_present"), (12, "duplicate")):
            _insert(
                connection, "catalog.finding", use_case=USE_CASE, run_id=run, file="sft.jsonl", line=line, rule=rule,
                severity="rejected", detail="the answer is empty", digest=canonical.digest_text(f"row {line}"),
            )  # fmt: skip

    report = canonical.dumps({"rows": 23, "accepted": 20, "rejected": 3}).encode()
    made.run(
        "check", "data.check",
        {"report": ("check_report", "checks", report, False),
         "documents": ("snapshot", "checked", b"secret text, checked", True)},
        inputs={"documents": made.versions["fetch.documents"]}, night="data-1",
        facts={"rows": 23, "accepted": 20, "rejected": 3}, write=findings,
    )  # fmt: skip
    source = {"documents": made.versions["check.documents"]}
    corpus = canonical.dumps({"documents": sorted(DOCUMENTS)}).encode()
    files = {"corpus": ("corpus", "documents", corpus, False)}
    made.run("corpus", "data.commit_documents", files, inputs=source, night="data-1", write=_corpus)
    for number, rows in ((1, 16), (2, 20)):
        listed = canonical.dumps([f"example {row}" for row in range(rows)]).encode()

        def write(
            connection: Connection, versions: Mapping[str, Version], number: int = number, rows: int = rows
        ) -> None:
            _examples(connection, versions["dataset"], number, rows)

        made.run(
            f"dataset-{number}", "data.commit", {"dataset": ("dataset", "examples", listed, False)}, inputs=source,
            night=f"data-{number}", write=write,
        )  # fmt: skip
    with database.connect(made.settings, "approver") as connection:
        signed = (USE_CASE, 1, "data_owner", "approve", "reviewer", "its own words")
        database.call(connection, "catalog.answer_signoff", *signed)
    card = canonical.dumps({"dataset": {"version": 2, "rows": 20}}).encode()
    pinned = {"dataset": made.versions["dataset-2.dataset"]}
    made.run("card", "data.card", {"card": ("card", "data", card, False)}, inputs=pinned, night="data-2")


def name_principals(settings: Settings, use_case: str, principals: Mapping[str, tuple[str, list[str], str]]) -> Outcome:
    """Makes the principals of a use case these, by the run of a plan, which alone may."""
    wanted = [
        {"name": name, "tenant": tenant, "groups": groups, "clearance": clearance}
        for name, (tenant, groups, clearance) in principals.items()
    ]

    def work(attempt: Attempt) -> Result:
        def write(connection: Connection, _: Mapping[str, Version]) -> None:
            database.call(connection, "rag.sync_principals", attempt.run_id)

        return Result({}, {}, write)

    modules = ("pipeline.canonical",)
    step = Step(use_case, "retrieval.plan", "pipeline", modules, params={"principals": wanted}, reuse="never")
    return steps.run(settings, Origin("cli", "engineer"), step, work)


def swap(settings: Settings, use_case: str, generation: Version) -> tuple[Outcome, int, int]:
    """Returns the run that made an index generation live, its decision, and the deployment."""
    made: list[int] = []

    def work(attempt: Attempt) -> Result:
        def write(connection: Connection, _: Mapping[str, Version]) -> None:
            made.append(deployments.decide_index(connection, attempt.run_id))
            made.append(deployments.swap(connection, made[0]))

        return Result({}, {}, write)

    inputs = {"generation": generation}
    step = Step(use_case, "retrieval.swap", "pipeline", ("pipeline.canonical",), inputs=inputs, reuse="never")
    return steps.run(settings, Origin("cli", "engineer"), step, work), made[0], made[1]


def made_run(connection: Connection, job: str) -> Any:
    """Returns the id of the newest run of a job."""
    row = connection.execute(
        "select r.run_id from lineage.run r join lineage.job j using (job_id) where j.name = %s"
        " order by r.started_at desc limit 1",
        [job],
    ).fetchone()
    assert row is not None
    return row["run_id"]


def _corpus(connection: Connection, versions: Mapping[str, Version]) -> None:
    dataset = _insert(connection, "catalog.dataset", "dataset_id", use_case=USE_CASE, kind="documents")
    for key, (tenant, classification, groups) in DOCUMENTS.items():
        document = _insert(connection, "catalog.document", "document_id", use_case=USE_CASE, document_key=key)
        version = _insert(
            connection, "catalog.document_version", "document_version_id", document_id=document,
            digest=canonical.digest_text(key), text_digest=canonical.digest_text(f"secret text of {key}"),
            title=f"title {key}", body=f"secret text of {key}", tenant=tenant, classification=classification,
            groups=groups, owner="steward",
            status="approved", fresh_until="2020-01-01" if key == "leave" else None,
        )  # fmt: skip
        _insert(connection, "catalog.document_member", dataset_id=dataset, document_version_id=version, added_in=1)
    corpus = versions["corpus"]
    _insert(
        connection, "catalog.dataset_version", dataset_id=dataset, version=1, digest=corpus.digest,
        artifact_version_id=corpus.version_id, counts=Jsonb({"internal": 1, "restricted": 1, "public": 1}),
    )  # fmt: skip


def _examples(connection: Connection, made: Version, number: int, rows: int) -> None:
    if number == 1:
        dataset = _insert(connection, "catalog.dataset", "dataset_id", use_case=USE_CASE, kind="examples")
    else:
        row = connection.execute("select dataset_id from catalog.dataset where kind = 'examples'").fetchone()
        assert row is not None
        dataset = row["dataset_id"]
    first = 0 if number == 1 else 16
    for place in range(first, rows):
        split = "test" if place % 10 == 9 else "validation" if place % 10 == 8 else "train"
        digest = canonical.digest_text(f"example {place}")
        table = "catalog.locked_example" if split == "test" else "catalog.example"
        _insert(
            connection, table, use_case=USE_CASE, digest=digest, kind="sft", split=split, source="sft.jsonl",
            content=Jsonb({"messages": [{"role": "user", "content": f"secret prompt {place}"}]}),
            documents=["leave"] if place == 17 else [],
        )  # fmt: skip
        _insert(
            connection,
            "catalog.example_member",
            dataset_id=dataset,
            example_digest=digest,
            split=split,
            added_in=number,
        )
    if number == 2:  # one row of the first version is gone from the second
        connection.execute(
            "update catalog.example_member set removed_in = 2 where dataset_id = %s and example_digest = %s",
            [dataset, canonical.digest_text("example 0")],
        )
    _insert(
        connection, "catalog.dataset_version", dataset_id=dataset, version=number, digest=made.digest,
        artifact_version_id=made.version_id, counts=Jsonb({"train": rows - 4, "validation": 2, "test": 2}),
        run_id=made_run(connection, "data.commit"),
    )  # fmt: skip
    _insert(
        connection, "catalog.version_source", dataset_id=dataset, version=number, source="sft.jsonl", digest="d",
        uses=["train", "evaluate"], description=Jsonb({"licence": "CC0", "owner": "desk"}), rows=rows,
    )  # fmt: skip


def _index(made: World) -> None:
    """An index generation over the three documents, live without a model."""
    pinned = {"corpus": made.versions["corpus.corpus"]}
    manifest = canonical.dumps({"chunks": len(DOCUMENTS)}).encode()
    made.run(
        "index", "retrieval.build", {"generation": ("index_generation", "index", manifest, False)}, inputs=pinned,
        night="index-1",
    )  # fmt: skip
    version = made.versions["index.generation"]
    made.runs["principals"] = name_principals(made.settings, USE_CASE, PRINCIPALS)
    with database.connect(made.settings, "pipeline") as connection, connection.transaction():
        (created,) = database.call(connection, "rag.create_version", USE_CASE, EMBEDDER, Jsonb({}), ["acme"])
        made.generation = created["generation_id"]
        _chunks(connection, created["staging"], made.generation)
        database.call(connection, "rag.seal_version", made.generation)
        execute = "select rag.attach(%s::int, %s, %s::bigint, %s::bigint)"
        corpus = made.versions["corpus.corpus"].version_id
        connection.execute(execute, [made.generation, version.digest, version.version_id, corpus])
    with database.connect(made.settings, "evaluator") as connection:
        gates = Jsonb({"recall": {"passed": True, "value": 1.0}, "leaks": {"passed": True, "leaks": 0}})
        database.call(connection, "rag.record_gates", made.generation, gates)
    made.runs["swap"], made.decisions["index"], made.deployments["index"] = swap(made.settings, USE_CASE, version)


def _chunks(connection: Connection, staging: str, generation: int) -> None:
    schema, _, table = staging.partition(".")
    columns = (
        "generation_id, tenant, chunk_id, document_key, document_version_id, ordinal, acl_id, status, expires_at, "
        "text_digest, body, embedding"
    )
    statement = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier(schema, table), sql.SQL(", ").join(map(sql.Identifier, columns.split(", ")))
    )
    rows = []
    for place, (key, (tenant, classification, groups)) in enumerate(DOCUMENTS.items(), 1):
        acl = _insert(
            connection,
            "rag.acl_set",
            "acl_id",
            use_case=USE_CASE,
            tenant=tenant,
            classification=classification,
            groups=groups,
        )
        found = connection.execute(
            "select document_version_id from catalog.document_version join catalog.document using (document_id)"
            " where document_key = %s",
            [key],
        ).fetchone()
        assert found is not None
        vector = "[" + ",".join("1" if axis == place else "0" for axis in range(384)) + "]"
        digest = canonical.digest_text(f"{key} text")
        rows.append(
            (generation, tenant, place, key, found["document_version_id"], 0, acl, 1, "infinity", digest,
             f"secret text of {key}", vector)
        )  # fmt: skip
    with connection.cursor().copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _night(made: World, night: str, quality: float, outcome: str, needs_person: bool) -> None:
    """One night: seal, train, evaluate, gate."""
    settings = made.settings
    with database.connect(settings, "pipeline") as connection:
        content = {
            "thresholds": [{"metric": "correct", "minimum": 0.6}], "min_cases": 10, "risk_tier": "high",
            "asks_a_person": True, "suites": SUITES,
        }  # fmt: skip
        policy = _value(
            connection, "release.seal_policy", USE_CASE, canonical.digest(content), Jsonb(content), "engineer"
        )
        live = deployments.live(connection, USE_CASE)
    assert live is not None
    dataset = made.versions["dataset-2.dataset"]
    index = made.versions["index.generation"]
    files = {"base": ("base_model", "base", b'{"model": "tiny"}', False)}
    made.run(
        f"{night}.preflight", "training.preflight", files, role="trainer", night=night,
        param="the second night reuses the first's",
    )  # fmt: skip
    base = made.versions[f"{night}.preflight.base"]
    weights = canonical.dumps({"weights": night}).encode()
    made.run(
        f"{night}.sft", "training.sft", {"adapter": ("adapter", "candidate", weights, False)},
        inputs={"base": base, "dataset": dataset}, role="trainer", night=night,
        measured=[{"step": 0, "eval_loss": 3.0}, {"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0, "eval_loss": 1.5}],
        facts={"tuned": True, "why": None, "training": {
            "steps": 40, "steps_planned": 60, "best_step": 20, "train_loss": 1.25, "eval_loss": 1.5,
            "eval_loss_before": 3.0, "overfitted": True, "seconds": 20.5, "seconds_before": 9.5,
            "resumed_from": 15, "peak_memory_mib": 700}},
    )  # fmt: skip
    candidate = made.versions[f"{night}.sft.adapter"]
    evaluations = {
        (subject, retrieval): _evaluate(made, night, subject, model, index if retrieval else None, score)
        for subject, model, score in (("base", base, 0.3), ("candidate", candidate, quality))
        for retrieval in (True, False)
    }
    with database.connect(settings, "evaluator") as connection:
        _insert(
            connection, "eval.comparison", candidate_id=evaluations["candidate", True],
            baseline_id=evaluations["base", True], metric="correct", difference=quality - 0.3, low=quality - 0.4,
            high=quality - 0.2, confidence=0.95, n=40, method="paired bootstrap",
        )  # fmt: skip
    estimate = Estimate(quality, quality - 0.1, quality + 0.1, 40, "wilson")
    measured = Measured("correct", "minimum", 0.6, None, estimate, {"facts": estimate}, 0.95, 30)
    checks = [Check("correct.minimum", "condition" if quality > 0.7 else "fail", "as the quality has it", measured)]

    def decide(connection: Connection, versions: Mapping[str, Version]) -> None:
        made.decisions[night] = deployments.decide_model(
            connection, made_run(connection, "release.gate"), policy, live.deployment_id, checks
        )

    report = canonical.dumps({"outcome": outcome, "checks": [check.stored() for check in checks]}).encode()
    made.run(
        f"{night}.gate", "release.gate", {"report": ("gate_report", "gate", report, False)},
        inputs={"candidate": candidate} | {
            f"{subject}.{retrieval}": made.versions[f"{night}.{subject}.{retrieval}.evaluation"]
            for subject, retrieval in evaluations
        }, role="gatekeeper", night=night, facts={"outcome": outcome}, write=decide,
    )  # fmt: skip


def _evaluate(made: World, night: str, subject: str, model: Version, index: Version | None, score: float) -> int:
    metrics = {"correct": {"value": score, "low": score - 0.1, "high": score + 0.1, "n": 40}}
    ids: list[int] = []

    def write(connection: Connection, versions: Mapping[str, Version]) -> None:
        row = connection.execute("select suite_id from eval.suite where name = 'main'").fetchone()
        suite = row["suite_id"] if row else _insert(
            connection, "eval.suite", "suite_id", use_case=USE_CASE, name="main", digest=canonical.digest_text("suite"),
            gated=True, cases=40,
        )  # fmt: skip
        ids.append(
            _insert(
                connection, "eval.evaluation", "evaluation_id", use_case=USE_CASE, suite_id=suite, subject=subject,
                run_id=made_run(connection, "evaluation.evaluate"), model_version_id=model.version_id,
                index_version_id=index.version_id if index else None,
                artifact_version_id=versions["evaluation"].version_id, metrics=Jsonb(metrics),
            )
        )  # fmt: skip

    content = canonical.dumps({"subject": subject, "retrieval": index is not None, "metrics": metrics}).encode()
    made.run(
        f"{night}.{subject}.{index is not None}", "evaluation.evaluate",
        {"evaluation": ("evaluation", subject, content, False)},
        inputs={"model": model} | ({"index": index} if index else {}), role="evaluator", night=night, write=write,
    )  # fmt: skip
    return ids[0]


@pytest.fixture
def auditor(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection logged in as the auditor."""
    with database.connect(settings, "auditor") as connection:
        yield connection
