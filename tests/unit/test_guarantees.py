"""Every row of the table of guarantees names tests that exist."""

import re

import pytest

from pipeline.settings import ROOT

pytestmark = pytest.mark.unit


def test_every_guarantee_names_its_tests() -> None:
    rows = [line for line in (ROOT / "docs" / "guarantees.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"(test_\w+\.py)::(test_\w+)", row)
        assert named, row
        for file, test in named:
            (found,) = (ROOT / "tests").rglob(file)
            assert f"def {test}(" in found.read_text(), test
