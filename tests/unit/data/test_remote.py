"""Files that stand elsewhere are read as they come, and what keeps them from being read has one name."""

import gzip
import io
import json
from collections.abc import Iterator

import pytest
from fsspec.registry import register_implementation
from fsspec.spec import AbstractFileSystem
from typer.testing import CliRunner

from pipeline import data
from pipeline.cli.commands import app
from pipeline.data import remote
from pipeline.errors import BadInput, NotAvailable
from tests.file_server import Served, serving

pytestmark = pytest.mark.unit

GOOD = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada Lovelace."}]}
LINE = json.dumps(GOOD).encode() + b"\n"


@pytest.fixture
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


def test_a_file_elsewhere_is_read_from_its_beginning_to_its_end(server: Served) -> None:
    content = bytes(range(256)) * 20_000
    server.files["rows.bin"] = [content]
    with remote.opened(server.url("rows.bin")) as file:
        assert file.read(10) == content[:10]
        assert file.read() == content[10:]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "folder/deep/rows%20of%20it.jsonl"])
def test_rows_elsewhere_are_checked(server: Served, name: str) -> None:
    server.files[name] = [gzip.compress(LINE * 2) if name.endswith(".gz") else LINE * 2]
    found = data.check_file(server.url(name), "sft")
    assert (found.rows, found.by_rule) == (2, {"duplicate": 1})
    assert list(found.formats) == [server.url(name)]


def test_a_file_that_moved_is_followed(server: Served) -> None:
    server.files["there.jsonl"] = [LINE]
    server.moved["here.jsonl"] = "/there.jsonl"
    assert data.check_file(server.url("here.jsonl"), "sft").accepted == 1


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/rows.jsonl", "/here.jsonl"])
def test_nothing_but_the_web_is_followed(server: Served, target: str) -> None:
    server.moved["here.jsonl"] = target
    with pytest.raises(NotAvailable, match="cannot be read"):
        data.check_file(server.url("here.jsonl"), "sft")


def test_what_is_not_there_is_not_available(server: Served) -> None:
    with pytest.raises(NotAvailable, match="cannot be read") as raised:
        data.check_file(server.url("rows.jsonl"), "sft")
    assert "FileNotFoundError" in str(raised.value.details["found"])


def test_an_answer_that_breaks_off_is_no_short_file(server: Served) -> None:
    server.files["rows.jsonl"] = [LINE * 50_000]
    server.cut.add("rows.jsonl")
    with pytest.raises(NotAvailable, match="cannot be read"):
        data.check_file(server.url("rows.jsonl"), "sft")


def test_nobody_answers() -> None:
    with pytest.raises(NotAvailable, match="cannot be read"):
        data.check_file("http://127.0.0.1:1/rows.jsonl", "sft")


def test_a_kind_of_url_whose_package_is_missing_names_it() -> None:
    with pytest.raises(NotAvailable, match="s3:// cannot be read here") as raised:
        data.check_file("s3://bucket/rows.jsonl", "sft")
    assert "s3fs" in str(raised.value.details["found"])


class Strict(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A kind of store whose constructor refuses what it does not know, as those of s3 and sftp do."""

    protocol = "hdfs"

    def __init__(self) -> None:
        super().__init__()

    def open(self, path: str, mode: str = "rb", block_size: int | None = None, **more: object) -> io.BytesIO:
        assert (path, mode, more) == ("host/rows.jsonl", "rb", {})
        return io.BytesIO(LINE)


def test_a_store_is_given_no_setting_that_it_does_not_know() -> None:
    register_implementation("hdfs", Strict, clobber=True)
    try:
        assert data.check_file("hdfs://host/rows.jsonl", "sft").accepted == 1
        assert data.check_file("HDFS://host/rows.jsonl", "sft").accepted == 1
    finally:
        register_implementation("hdfs", "fsspec.implementations.arrow.HadoopFileSystem", clobber=True)


def test_a_failure_says_nothing_of_where_a_server_sent_it(server: Served) -> None:
    server.moved["here.jsonl"] = f"/gone.jsonl?X-Amz-Signature={SECRET}"
    with pytest.raises(NotAvailable) as raised:
        data.check_file(server.url("here.jsonl"), "sft")
    assert SECRET not in f"{raised.value} {raised.value.details}"


SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@example.org/rows.jsonl",
        f"https://{SECRET}@example.org/rows.jsonl",
        f"https://user:pa/{SECRET}@example.org/rows.jsonl",
        f"https://user:pa?{SECRET}@example.org/rows.jsonl",
        f"https://user:pa#{SECRET}@example.org/rows.jsonl",
        f"https://example.org/{SECRET}@v1/rows.jsonl",
        f"https://example.org:{SECRET}/rows.jsonl",
        f"https://example.org/rows.jsonl?X-Amz-Signature={SECRET}",
        f"https://example.org/rows.jsonl#{SECRET}",
        "file:///etc/passwd",
        "local:///etc/passwd",
        "memory://rows.jsonl",
        "simplecache::https://example.org/rows.jsonl",
        "https://example.org/simplecache::file:///etc/passwd",
        "zip://rows.jsonl::https://example.org/rows.zip",
        "reference://rows.jsonl",
        "https://example.org",
        "https://example.org/",
        "https://example.org/folder/",
        "s3://",
        "https:///rows.jsonl",
        "HTTPS ://example.org/rows.jsonl",
        "https://[::1/rows.jsonl",
        "https://example.org/rows\n.jsonl",
        "https://example.org/" + "a" * 2_000,
    ],
)
def test_what_may_be_a_secret_or_leads_elsewhere_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInput, match="this URL is not read") as raised:
        data.check_file(url, "sft")
    assert SECRET not in f"{raised.value} {raised.value.details}"


def test_the_command_takes_a_url(server: Served) -> None:
    server.files["rows.jsonl"] = [LINE]
    answer = CliRunner().invoke(app, ["data", "check", server.url("rows.jsonl"), "--kind", "sft", "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.output)["accepted"] == 1
