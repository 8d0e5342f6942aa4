"""The cycle on public data that nobody here wrote, through Airflow's scheduler, by the YAML that any user writes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import database
from pipeline.database import Connection
from pipeline.demo.watch import Ended
from tests.conftest import nightshift
from tests.e2e.conftest import SHARED_DATA, World

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED_DATA.exists(), reason=f"the public data is not at {SHARED_DATA}"),
]


@pytest.fixture(scope="module")
def data(world: World) -> Ended:
    return world.run("real_data")


@pytest.fixture(scope="module")
def index(world: World, data: Ended) -> Ended:
    return world.begun_by("real_reindex", data)


@pytest.fixture(scope="module")
def night(world: World, index: Ended) -> Ended:
    return world.run("real_retrain")


@pytest.fixture
def pipeline(world: World) -> Iterator[Connection]:
    with database.connect(world.settings, "pipeline") as connection:
        yield connection


def count(connection: Connection, statement: str) -> int:
    (row,) = connection.execute(statement.encode()).fetchall()
    return int(next(iter(row.values())))


def test_every_row_is_accepted_or_rejected_with_a_reason(world: World, data: Ended, pipeline: Connection) -> None:
    assert data.succeeded("commit")
    committed = world.engineer.result("real_data", data.run_id, "commit")
    sft = count(
        pipeline,
        "select count(*) from (select kind from catalog.example where use_case = 'real'"
        " union all select kind from catalog.locked_example where use_case = 'real') e where kind = 'sft'",
    )
    rejected = pipeline.execute(
        "select line, rule, detail from catalog.finding where use_case = 'real' and severity = 'rejected'"
        " and file like '%alpaca_en_demo.json'"
    ).fetchall()
    assert sft + len({row["line"] for row in rejected}) == 999
    assert all(row["rule"] and row["detail"] and row["line"] for row in rejected)
    assert committed["dataset"]["changed"]
    assert count(pipeline, "select count(*) from catalog.document where use_case = 'real'") == 30


@pytest.mark.parametrize(
    ("question", "begins"),
    [
        ("Which political philosophy calls for the abolition of the state?", "Anarchism"),
        ("Which developmental condition affects social interaction and repetitive behaviour?", "Autism"),
    ],
)
def test_a_search_finds_the_article_a_question_is_about(
    world: World, index: Ended, pipeline: Connection, question: str, begins: str
) -> None:
    assert index.succeeded("swap")
    results = nightshift(world.settings, "search", "real", question, "--as", "reader", "-k", "3")["results"]
    articles = pipeline.execute(
        "select ltrim(body, '# ') as text from catalog.document_version where document_version_id = any(%s)",
        [[result["version"] for result in results]],
    ).fetchall()
    assert any(article["text"].startswith(begins) for article in articles), results
    assert not any(begins.lower() in result["document"] for result in results), "an id holds no word of a text"


def test_an_adapter_is_trained_recorded_and_evaluated(world: World, night: Ended, pipeline: Connection) -> None:
    assert night.succeeded("gate")
    pretrained = world.engineer.result("real_retrain", night.run_id, "pretrain")["facts"]
    assert pretrained["training"]["steps"] == 2
    adapter = world.engineer.result("real_retrain", night.run_id, "dpo")["adapter"]
    (row,) = pipeline.execute(
        "select v.uri, v.digest, a.name from lineage.artifact_version v join lineage.artifact a using (artifact_id)"
        " where v.version_id = %s",
        [adapter["version_id"]],
    ).fetchall()
    assert row["digest"] == adapter["digest"]
    assert (Path(row["uri"]) / "adapter_model.safetensors").exists()
    graph = nightshift(world.settings, "lineage", adapter["digest"])
    assert "pretrained" in {node["name"] for node in graph["nodes"]}
    assert {"dataset", "base_model", "snapshot"} <= {node["kind"] for node in graph["nodes"]}
    scored = count(pipeline, "select count(*) from eval.evaluation where use_case = 'real' and subject = 'candidate'")
    assert scored > 0


def test_the_files_stay_where_they_are(world: World, data: Ended) -> None:
    copies = [path for path in world.settings.usecases.rglob("*demo*") if path.is_file()]
    assert copies == []
