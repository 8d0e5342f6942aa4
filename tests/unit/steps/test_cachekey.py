"""Cache keys are over what a step can reach, and over nothing else."""

from pathlib import Path

import pytest

from pipeline.steps import cachekey

pytestmark = pytest.mark.unit

TREE = {
    "pipeline/__init__.py": "",
    "pipeline/ground.py": "_FILE = 'ground'\ndatabase.fetch_one(connection, _FILE, 'c', two=2)\n",
    "pipeline/far.py": "FAR = 1\n",
    "pipeline/one/__init__.py": "from pipeline.one import work\n",
    "pipeline/one/work.py": (
        "def run():\n    from .helper import help_\n    database.fetch(connection, 'one', 'a')\n    return help_()\n"
    ),
    "pipeline/one/helper.py": "import pipeline.far\nfrom pipeline import ground\n",
    "pipeline/one/templates/card.md": "# {{ title }}\n",
    "pipeline/two/__init__.py": "",
    "pipeline/two/work.py": "from pipeline import ground\n",
    "sql/queries/one.sql": "-- a --\nselect 1\n",
    "sql/queries/two.sql": "-- b --\nselect 2\n",
    "sql/queries/ground.sql": "-- c --\nselect 3\n",
    "sql/migrations/versions/0001_first.sql": "create table x ();\n",
    "sql/schema/30_rag.sql": "create table x ();\n",
    "requirements.lock": "torch==2.13.0\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def key(root: Path, **changes: object) -> str:
    keys: dict[str, object] = {
        "job": "one.work",
        "modules": ["pipeline.one.work"],
        "files": ["sql/schema/30_rag.sql"],
        "params": {"rate": 0.1},
        "inputs": {"dataset": "d1"},
        **changes,
    }
    return cachekey.key(cachekey.parts(root=root, **keys))  # type: ignore[arg-type]


def test_the_closure_follows_imports_wherever_they_stand(root: Path) -> None:
    assert cachekey.closure(["pipeline.one.work"], root) == {
        "pipeline",
        "pipeline.one",
        "pipeline.one.work",
        "pipeline.one.helper",
        "pipeline.far",
        "pipeline.ground",
    }


@pytest.mark.parametrize(
    "edited",
    [
        "pipeline/one/work.py",
        "pipeline/one/helper.py",
        "pipeline/far.py",  # two imports away
        "pipeline/one/templates/card.md",
        "sql/queries/one.sql",
        "sql/queries/ground.sql",  # of a module of the ground floor, by a constant
        "sql/schema/30_rag.sql",
        "requirements.lock",
    ],
)
def test_a_change_in_what_the_step_reaches_misses(root: Path, edited: str) -> None:
    before = key(root)
    (root / edited).write_text((root / edited).read_text() + "\n# edited\n")
    assert key(root) != before


@pytest.mark.parametrize("edited", ["pipeline/two/work.py", "pipeline/two/__init__.py", "sql/queries/two.sql"])
def test_a_comment_in_another_stage_hits(root: Path, edited: str) -> None:
    before = key(root)
    (root / edited).write_text((root / edited).read_text() + "\n# edited\n")
    assert key(root) == before


@pytest.mark.parametrize("change", [{"params": {"rate": 0.2}}, {"inputs": {"dataset": "d2"}}, {"job": "one.other"}])
def test_parameters_and_inputs_count(root: Path, change: dict[str, object]) -> None:
    assert key(root, **change) != key(root)


def test_a_difference_names_the_part(root: Path) -> None:
    keys = {"job": "one.work", "modules": ["pipeline.one.work"], "files": [], "inputs": {}}
    before = cachekey.parts(root=root, params={"rate": 0.1, "gone": 1}, **keys)  # type: ignore[arg-type]
    (root / "pipeline/far.py").write_text("FAR = 2\n")
    after = cachekey.parts(root=root, params={"rate": 0.2}, **keys)  # type: ignore[arg-type]
    found = cachekey.difference(before, after)
    assert sorted(found) == ["code:pipeline.far", "param:gone", "param:rate"]
    assert found["param:rate"] == {"before": "0.1", "after": "0.2"}
    assert found["param:gone"] == {"before": "1", "after": None}


def test_the_real_package_reaches_its_ground_floor() -> None:
    reached = cachekey.closure(["pipeline.steps"])
    assert {"pipeline.steps", "pipeline.database", "pipeline.artifacts", "pipeline.errors"} <= reached
    assert "pipeline.usecase" not in reached


def test_a_new_migration_changes_every_key(root: Path) -> None:
    before = key(root)
    (root / "sql/migrations/versions/0002_second.sql").write_text("alter table x add y int;\n")
    assert key(root) != before


def test_each_stage_counts_the_queries_that_it_reaches() -> None:
    for module, files in {
        "pipeline.training.sft": {"training", "lineage"},
        "pipeline.data.commits": {"data", "lineage"},
        "pipeline.retrieval.gates": {"retrieval", "lineage"},
        "pipeline.evaluation.evaluate": {"evaluation", "retrieval", "lineage"},
        "pipeline.release.gate": {"release", "lineage"},
    }.items():
        parts = cachekey.parts(job="x", modules=[module], files=(), params={}, inputs={})
        assert files <= {name.removeprefix("sql:") for name in parts if name.startswith("sql:")}, module
        assert parts["schema"][:4].isdigit()
    assert "sql:release" not in cachekey.parts(
        job="x", modules=["pipeline.training.sft"], files=(), params={}, inputs={}
    )
