"""Lineage as a graph, and why a run ran."""

from typing import TYPE_CHECKING

import pytest

from pipeline import steps
from pipeline.errors import BadInput
from pipeline.operations import lineage_graph
from pipeline.operations.lineage_graph import ChangedPart
from pipeline.steps import Attempt, Origin, Output, Result, Step

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg


def test_up_and_down_from_a_digest(world: "World") -> None:
    adapter = world.versions["night-1.sft.adapter"]
    up = lineage_graph.lineage(world.settings, adapter.digest[:12])
    names = {(node["kind"], node["name"]) for node in up.nodes}
    assert names == {("adapter", "candidate"), ("base_model", "base"), ("dataset", "examples"), ("snapshot", "checked"),
                     ("snapshot", "documents")}  # fmt: skip
    assert up.root["digest"] == adapter.digest
    assert up.root["login"] == "trainer"
    dataset = world.versions["dataset-2.dataset"].version_id
    assert {"source": dataset, "target": adapter.version_id} in [
        {key: edge[key] for key in ("source", "target")} for edge in up.edges
    ]
    down = lineage_graph.lineage(world.settings, str(world.versions["corpus.corpus"].version_id), down=True)
    kinds = {node["kind"] for node in down.nodes}
    assert {"corpus", "index_generation", "evaluation", "gate_report"} == kinds


def test_every_node_has_the_run_that_made_it(world: "World") -> None:
    up = lineage_graph.lineage(world.settings, f"deployment:{world.deployments['model']}")
    assert len(up.roots) == 2
    assert all(node["run_id"] and node["job"] for node in up.nodes)


def test_decision_and_deployment_name_the_same_pair(world: "World") -> None:
    one = lineage_graph.lineage(world.settings, f"decision:{world.decisions['night-1']}")
    other = lineage_graph.lineage(world.settings, f"deployment:{world.deployments['model']}")
    assert one == other


@pytest.mark.parametrize("ref", ["feed" * 16, "99999", "decision:99999", "deployment:x", "no such thing", "", "ab"])
def test_unknown_references(world: "World", ref: str) -> None:
    with pytest.raises(BadInput) as error:
        lineage_graph.lineage(world.settings, ref)
    assert error.value.exit_code == 2


def test_an_ambiguous_reference_names_the_candidates(world: "World") -> None:
    def work(attempt: Attempt) -> Result:
        stored = attempt.store.put("card", {"card.md": b"the same bytes under two names"})
        return Result({name: Output.of(stored, name, private=False) for name in ("one", "two")})

    spec = Step("demo", "data.card", "pipeline", ("pipeline.canonical",))
    made = steps.run(world.settings, Origin("cli", "engineer"), spec, work).outputs
    with pytest.raises(BadInput, match="2 artifact versions match this prefix") as error:
        lineage_graph.lineage(world.settings, made["one"].digest[:20])
    assert "card one" in str(error.value)
    assert "card two" in str(error.value)
    assert lineage_graph.lineage(world.settings, str(made["two"].version_id)).root["name"] == "two"


def test_explain_names_what_changed(world: "World") -> None:
    told = lineage_graph.explain(world.settings, str(world.runs["dataset-2"].run_id))
    assert told.job == "data.commit"
    assert told.compared_with == str(world.runs["dataset-1"].run_id)
    assert told.changed == [ChangedPart("param:name", '"dataset-1"', '"dataset-2"')]


def test_explain_prefers_the_same_task(world: "World") -> None:
    told = lineage_graph.explain(world.settings, str(world.runs["night-2.sft"].run_id))
    assert told.compared_with == str(world.runs["night-1.sft"].run_id)
    assert [entry.part for entry in told.changed] == ["param:name"]


def test_explain_a_reused_run(world: "World") -> None:
    told = lineage_graph.explain(world.settings, str(world.runs["night-2.preflight"].run_id))
    assert told.state == "reused"
    assert told.reused_from == told.compared_with == str(world.runs["night-1.preflight"].run_id)
    assert told.changed == []


def test_explain_the_first_run_and_an_unknown_one(world: "World") -> None:
    told = lineage_graph.explain(world.settings, str(world.runs["fetch"].run_id))
    assert told.compared_with is None
    assert "no finished run" in told.note
    with pytest.raises(BadInput, match="no run matches this prefix"):
        lineage_graph.explain(world.settings, "zzzz")
    with pytest.raises(BadInput, match="runs match this prefix"):
        lineage_graph.explain(world.settings, "")


def test_what_is_of_another_use_case_is_refused_where_one_is_named(world: "World") -> None:
    digest = world.versions["night-1.sft.adapter"].digest
    run = str(world.runs["night-1.gate"].run_id)
    for ref in (digest, f"decision:{world.decisions['night-1']}", f"deployment:{world.deployments['model']}"):
        assert lineage_graph.lineage(world.settings, ref, use_case="demo").roots
        with pytest.raises(BadInput, match="another use case than other"):
            lineage_graph.lineage(world.settings, ref, use_case="other")
    assert lineage_graph.explain(world.settings, run, "demo").job == "release.gate"
    with pytest.raises(BadInput, match="another use case than other"):
        lineage_graph.explain(world.settings, run, "other")
