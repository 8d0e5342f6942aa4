"""Packets of decisions that the gate itself made, over evaluations as the evaluation stage writes them."""

from pathlib import Path

import pytest

from pipeline import governance, release
from pipeline.context import Context
from pipeline.steps import Origin
from tests.pg.release.conftest import House, house, make_house

__all__ = ["house", "make_house"]  # fixtures
pytestmark = pytest.mark.pg


def test_every_score_and_difference_is_computed_again(house: House) -> None:
    house.index("documents")
    house.release("one", right=50)
    gated = house.night("two", right=57)
    evidence = governance.packet(Context(house.settings, house.usecase, Origin("cli", "engineer")), gated.decision_id)
    found = governance.verify(Path(evidence.zip), house.settings)
    assert found.problems == []
    assert found.online is not None
    assert found.online.changed_since == []
    # base, champion and candidate in one suite, and the candidate's difference to the champion
    assert found.checked["recomputed"] == 4
    report = (Path(evidence.path) / "experiment_report.md").read_text()
    assert "0.950 (" in report
    assert "+0.117 (" in report
    release.promote(house.settings, gated.decision_id)
    final = governance.packet(Context(house.settings, house.usecase, Origin("cli", "engineer")), gated.decision_id)
    assert final.final
    assert governance.verify(Path(final.path)).verified
    assert b"secret" not in Path(final.zip).read_bytes()
    differing = governance.diff(Path(evidence.zip), Path(final.zip)).figures
    assert {entry.document for entry in differing} == {"approvals.md"}
