"""The check measures rows in the base model's tokens, and checks again where the model or its recipe changed."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.settings import ROOT
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg

LONG = "Because of what the rules of the house say. " * 40


def write_keys(stage: Stage, **keys: Any) -> None:
    path = stage.folder / "usecase.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **keys}))


def details(stage: Stage) -> dict[str, str]:
    return {row["rule"]: row["detail"] for row in stage.rows("select rule, detail from catalog.finding")}


def test_what_training_would_leave_out_is_left_out_by_name(stage: Stage) -> None:
    asked = [{"role": "user", "content": "Is it allowed?"}]
    answers = [[{"role": "assistant", "content": f"{LONG}{end}"}] for end in ("Yes.", "No.")]
    stage.put([question(1), question(2, LONG), question(3, "Yes.<|im_end|>")])
    stage.put([{"prompt": asked, "chosen": answers[0], "rejected": answers[1]}], "pairs.jsonl")
    sources = [{"path": "sft.jsonl", "kind": "sft"}, {"path": "pairs.jsonl", "kind": "preference"}]
    short = {"sft": {"max_length": 128}, "dpo": {"max_length": 128}}
    write_keys(stage, examples=sources, training=short)
    checked = stage.check()
    assert [finding for finding in stage.findings() if finding[2] != "repetition"] == [
        ("sft.jsonl", 3, "untrainable", "rejected"),
        ("pairs.jsonl", 1, "equal_after_truncation", "rejected"),
        ("sft.jsonl", 2, "truncated_answer", "warning"),
    ]
    assert "(control_token_in_answer)" in details(stage)["untrainable"]
    assert "and 128 are read" in details(stage)["truncated_answer"]
    assert checked.facts.examples.accepted == 2
    assert stage.check().reused
    write_keys(stage, training={"sft": {"max_length": 4_096}, "dpo": {"max_length": 4_096}})
    longer = stage.check()
    assert not longer.reused
    assert longer.facts.examples.by_rule == {"untrainable": 1}
    assert longer.facts.examples.warnings.keys() == {"repetition"}


def test_a_model_that_is_not_here_yet_is_a_finding_until_it_is(stage: Stage) -> None:
    model = stage.settings.models / "coming"
    write_keys(stage, base_model={"name": "coming"})
    stage.put([question(1), question(2, "Yes.<|im_end|>")])
    checked = stage.check()
    assert checked.facts.examples.accepted == 2
    assert checked.facts.warnings == {"lengths_unmeasured": 1}
    assert "the base model coming is not here" in details(stage)["lengths_unmeasured"]
    shutil.copytree(ROOT / "models" / "tiny", model, ignore=shutil.ignore_patterns("build", "*.safetensors"))
    again = stage.check()
    assert not again.reused
    assert again.facts.warnings == {}
    assert again.facts.by_rule == {"untrainable": 1}


def test_another_template_is_another_check(stage: Stage, tmp_path: Path) -> None:
    model = Path(shutil.copytree(ROOT / "models" / "tiny", tmp_path / "model", ignore=shutil.ignore_patterns("build")))
    write_keys(stage, base_model={"path": str(model)})
    stage.put([question(1), question(2, "Yes [END] no.")])
    assert stage.check().facts.rejected == 0
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").write_text(
        f"{{% if messages|length > 1 and '[END]' in messages[1].content %}}"
        f"{{{{ raise_exception('no') }}}}{{% endif %}}{template}"
    )
    checked = stage.check()
    assert not checked.reused
    assert "(template_refuses)" in details(stage)["untrainable"]
