"""A use case that is broken in any way takes its own DAGs away and nobody else's, and is named wherever one looks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline import usecase
from pipeline.operations import doctor
from pipeline.settings import Settings
from tests.unit.dags.test_dags import KINDS, Loaded, load

pytestmark = pytest.mark.unit

Mutation = Callable[[Path], object]


def appended(data: bytes) -> Mutation:
    """Returns the mutation that adds bytes to the file's end."""
    return lambda path: path.write_bytes(path.read_bytes() + data)


def with_keys(**keys: object) -> Mutation:
    """Returns the mutation that sets keys."""
    return lambda path: path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))


def cron(expression: object) -> Mutation:
    """Returns the mutation that gives the retraining another schedule."""
    return with_keys(schedule={"retrain": expression})


def a_folder(path: Path) -> None:
    """Puts a folder in the file's place."""
    path.unlink()
    path.mkdir()


def a_dangling_link(path: Path) -> None:
    """Puts a link that leads nowhere into the file's place."""
    path.unlink()
    path.symlink_to("nowhere")


MUTATIONS: dict[str, Mutation] = {
    "latin_letter": appended("# caf\xe9\n".encode("latin-1")),
    "utf16": lambda path: path.write_bytes(path.read_text().encode("utf-16")),
    "nul": appended(b"# \0\n"),
    "escape": appended(b"# \x1b[2J\n"),
    "lone_surrogate": appended(b"# \xed\xa0\x80\n"),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "huge": appended(b"#" * (2 << 20)),
    "a_list": lambda path: path.write_text("- 1\n- 2\n"),
    "a_text": lambda path: path.write_text("name"),
    "open_bracket": appended(b"splits: [\n"),
    "a_tab": appended(b"\tsplits: {}\n"),
    "a_tag": appended(b"splits: !!python/object/apply:os.getcwd []\n"),
    "an_alias": appended(b"splits: &a {train: *a}\n"),
    "deep": appended(b"splits: " + b"[" * 3_000 + b"]" * 3_000 + b"\n"),
    "two_documents": appended(b"---\nname: other\n"),
    "repeated": appended(b"name: other\n"),
    "unknown_key": with_keys(relase={}),
    "name_of_another": with_keys(name="sound"),
    "name_with_blank": with_keys(name="two words"),
    "name_a_number": with_keys(name=7),
    "title_missing": with_keys(title=None),
    "title_of_lines": with_keys(title="a\nb"),
    "title_endless": with_keys(title="x" * 5_000),
    "owner_a_list": with_keys(owner=["a"]),
    "tier_unknown": with_keys(risk_tier="hihg"),
    "no_documents": with_keys(documents=[]),
    "documents_nowhere": with_keys(documents=[{"path": "nowhere"}]),
    "path_with_nul": with_keys(documents=[{"path": "a\0b"}]),
    "path_endless": with_keys(documents=[{"path": "x" * 3_000}]),
    "minutes_infinite": with_keys(release={"approval": {"timeout_hours": float("inf")}}),
    "hours_astronomic": with_keys(release={"approval": {"timeout_hours": 1e12}}),
    "hours_not_a_number": with_keys(release={"approval": {"timeout_hours": float("nan")}}),
    "hours_negative": with_keys(release={"approval": {"timeout_hours": -1}}),
    "training_for_ever": with_keys(training={"timeout_minutes": 10**15}),
    "many_digits": appended(b"checks: {max_characters: " + b"9" * 5_000 + b"}\n"),
    "share_infinite": with_keys(splits={"train": float("inf"), "validation": 0, "test": 0}),
    "cron_typo": cron("0 2 * *"),
    "cron_out_of_range": cron("61 2 * * *"),
    "cron_never": cron("0 0 30 2 *"),
    "cron_continuous": cron("@continuous"),
    "cron_seconds": cron("* * * * * *"),
    "cron_a_number": cron(5),
    "cron_empty": cron(""),
    "cron_hashed": cron("H H * * *"),
    "schedule_a_list": with_keys(schedule=["@hourly"]),
    "the_file_a_folder": a_folder,
    "a_link_nowhere": a_dangling_link,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Use cases broken in as many ways, and one that is sound, in the middle of their order."""
    found = tmp_path_factory.mktemp("mutations") / "usecases"
    for name in ("sound", *MUTATIONS):
        (found / name / "documents").mkdir(parents=True)
        (found / name / "sft.jsonl").write_text("")
        path = found / name / "usecase.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "name": name,
                    "title": "A use case",
                    "owner": "tests@example.org",
                    "risk_tier": "high",
                    "documents": [{"path": "documents"}],
                    "examples": [{"path": "sft.jsonl", "kind": "sft"}],
                }
            )
        )
        if name in MUTATIONS:
            MUTATIONS[name](path)
    return found


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    """What Airflow makes of them."""
    return load(folder, folder.parent)


def test_the_sound_use_case_keeps_all_its_dags_and_no_other_has_one(loaded: Loaded) -> None:
    assert len(MUTATIONS) >= 40
    assert set(loaded["dags"]) == {f"sound_{kind}" for kind in KINDS} | {"maintain"}


@pytest.mark.parametrize("name", sorted(set(MUTATIONS) - {"a_link_nowhere"}))
def test_each_broken_one_is_named_in_the_one_import_error(loaded: Loaded, name: str) -> None:
    (message,) = loaded["errors"].values()
    assert f"/{name}/usecase.yaml" in message


def test_each_broken_one_is_named_by_read_all_and_by_doctor(folder: Path) -> None:
    settings = Settings(folder.parent, folder, str(folder.parent / "artifacts"), folder.parent / "logins")
    sound, broken = usecase.read_all(settings)
    assert [each.name for each in sound] == ["sound"]
    assert set(MUTATIONS) - set(broken) <= {"a_link_nowhere"}, "a link that leads nowhere is no file"
    (check,) = [check for check in doctor.examine(settings) if check.name == "use cases"]
    assert not check.ok
    assert all(name in check.detail for name in broken)
