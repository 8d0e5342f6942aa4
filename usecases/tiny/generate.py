"""Writes the tiny sample: its documents, its examples and its generated evaluation cases.

    python usecases/tiny/generate.py [FOLDER]

The facts stand in ``facts.yaml``, the principals who ask in ``generator/documents.py``. Every choice is seeded, so that
the files come out byte-identical. Examples draw on documents of split *train* alone; the cases ask about documents of
split *test*, in wordings that no example uses. ``suites/by_hand.jsonl`` is written by hand and not touched.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from usecases.tiny.generator.cases import case_rows  # noqa: E402
from usecases.tiny.generator.documents import documents, markdown  # noqa: E402
from usecases.tiny.generator.examples import preference_rows, sft_rows  # noqa: E402


def write(target: Path) -> None:
    """Write everything under ``target``, laid out as this folder is."""
    held = documents()
    files = {f"documents/{document.tenant}/{document.id}.md": markdown(document) for document in held}
    for name, rows in (
        ("examples/sft.jsonl", sft_rows(held)),
        ("examples/preferences.jsonl", preference_rows(held)),
        ("suites/facts.jsonl", case_rows(held)),
    ):
        files[name] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    for name, text in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
