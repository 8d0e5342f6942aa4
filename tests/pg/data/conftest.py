"""What the tests of the data stage share: a small use case on disk, and one run of the stage over it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import data, database, usecase
from pipeline.context import Context
from pipeline.settings import Settings
from pipeline.steps import Origin
from pipeline.usecase import UseCase


def question(n: int, answer: str = "Yes, by all means.", **more: Any) -> dict[str, Any]:
    """Returns an example that no other number has."""
    asked = {"role": "user", "content": f"Is it allowed in case {n}?"}
    return {"messages": [asked, {"role": "assistant", "content": answer}], **more}


@dataclass(frozen=True)
class Stage:
    """A use case, its files, and the stage's functions over them."""

    settings: Settings
    folder: Path
    origin: Origin

    @property
    def usecase(self) -> UseCase:
        """Returns the use case as its file says it now."""
        return usecase.find(self.settings, self.folder.name)

    def put(self, rows: list[dict[str, Any]], file: str = "sft.jsonl") -> None:
        """Writes a file of examples."""
        (self.folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def document(self, key: str, body: str = "The limit is 10 EUR.", **fields: str) -> Path:
        """Writes a document and returns its file."""
        front = "".join(f"{name}: {value}\n" for name, value in {"id": key, **fields}.items())
        path = self.folder / "documents" / f"{key}.md"
        path.write_text(f"---\n{front}---\n{body}\n")
        return path

    def allow_widening(self, documents: int) -> None:
        """Lets so many documents be read by more people without asking anybody."""
        path = self.folder / "usecase.yaml"
        keys = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(keys | {"checks": {"max_widened": documents}}))

    def fetch(self) -> data.Fetched:
        """Returns what fetch returns."""
        return data.fetch(Context(self.settings, self.usecase, self.origin))

    def check(self) -> data.Checked:
        """Returns what check returns of what fetch does."""
        return data.check(Context(self.settings, self.usecase, self.origin), self.fetch())

    def commit(self) -> data.Committed:
        """Returns what commit returns of what check lets through."""
        return data.commit(Context(self.settings, self.usecase, self.origin), self.check())

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Returns what the pipeline's login reads."""
        with database.connect(self.settings, "pipeline") as connection:
            return connection.execute(statement.encode()).fetchall()

    def findings(self) -> list[tuple[str, int | None, str, str]]:
        """Returns file, line, rule and severity of every finding."""
        found = self.rows("select file, line, rule, severity from catalog.finding order by finding_id")
        return [(row["file"], row["line"], row["rule"], row["severity"]) for row in found]


@pytest.fixture
def stage(settings: Settings, origin: Origin, usecase_folder: Callable[..., Path]) -> Stage:
    """The stage over a use case with one example and no document."""
    made = Stage(settings, usecase_folder(), origin)
    made.put([question(0)])
    return made
