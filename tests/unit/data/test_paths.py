"""What is read is a source's own, whatever leads out of it."""

import os
import socket
from pathlib import Path

import pytest

from pipeline.data import paths
from pipeline.errors import NotAvailable
from pipeline.settings import Settings

pytestmark = pytest.mark.unit
PASSWORD = "the superuser's password"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation whose secrets a source would like to read."""
    home = tmp_path / "home"
    for name in ("superuser", "logins/pipeline", "artifacts/private/pipeline/snapshot/rows.jsonl", "airflow/fernet"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(PASSWORD)
    (tmp_path / "usecases").mkdir()
    return Settings(home, tmp_path / "usecases", str(home / "artifacts"), home / "logins")


@pytest.fixture
def root(settings: Settings) -> Path:
    """A source's folder with one document of its own."""
    folder = settings.usecases / "demo" / "documents"
    folder.mkdir(parents=True)
    (folder / "own.md").write_text("own")
    return folder


def read(root: Path, settings: Settings, path: Path) -> bytes:
    with paths.Root(root, settings).opened(path) as file:
        return file.read()


def test_a_file_of_its_own_is_read(root: Path, settings: Settings) -> None:
    assert read(root, settings, root / "own.md") == b"own"
    (root / "same.md").symlink_to("own.md")
    assert read(root, settings, root / "same.md") == b"own", "a link inside the source is a name of its own"


@pytest.mark.parametrize(
    "secret", ["superuser", "logins/pipeline", "artifacts/private/pipeline/snapshot/rows.jsonl", "airflow/fernet"]
)
@pytest.mark.parametrize("how", ["link", "relative", "chain", "folder", "hard", "root"])
def test_nothing_outside_and_nothing_of_ours_is_read(root: Path, settings: Settings, secret: str, how: str) -> None:
    target = settings.home / secret
    path = root / "sym.md"
    if how == "link":
        path.symlink_to(target)
    elif how == "relative":
        path.symlink_to(os.path.relpath(target, root))
    elif how == "chain":
        (root / "first.md").symlink_to(target)
        path.symlink_to("first.md")
    elif how == "folder":
        (root / "sub").symlink_to(target.parent)
        path = root / "sub" / target.name
    elif how == "hard":
        os.link(target, path)
    else:  # the source is a folder around our home
        root, path = settings.home.parent, target
    with pytest.raises(paths.Outside):
        read(root, settings, path)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder", "dangling"])
def test_what_is_no_file_is_not_waited_for(root: Path, settings: Settings, kind: str) -> None:
    path = root / "x.md"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    with pytest.raises((paths.Outside, NotAvailable)):
        read(root, settings, path)


def test_a_walk_names_links_to_folders_and_does_not_enter_them(root: Path, settings: Settings) -> None:
    (root / "below").mkdir()
    (root / "below" / "deep.md").write_text("deep")
    (root / "away").symlink_to(settings.home)
    (root / "loop").symlink_to(root)
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.md").write_text("x")
    names = {path.relative_to(root).as_posix() for path in paths.walk(root)}
    assert names == {"own.md", "below/deep.md", "away", "loop"}


def test_the_use_cases_may_stand_in_the_home(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "usecases" / "demo" / "documents"
    folder.mkdir(parents=True)
    (folder / "own.md").write_text("own")
    settings = Settings(
        tmp_path / "home",
        tmp_path / "home" / "usecases",
        str(tmp_path / "home" / "artifacts"),
        tmp_path / "home" / "logins",
    )
    assert read(folder, settings, folder / "own.md") == b"own"
