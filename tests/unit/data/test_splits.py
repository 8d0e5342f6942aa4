"""Splits: by the question alone, and for good."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import canonical, prompt
from pipeline.data import formats, splits
from pipeline.data.layouts import Content
from pipeline.data.rows import Row
from pipeline.prompt import Passage
from pipeline.settings import ROOT
from pipeline.usecase import Splits

pytestmark = pytest.mark.unit

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


def supervised(*turns: str) -> Content:
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]}


def preference(asked: str) -> Content:
    answers = {name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    return {"prompt": [{"role": "user", "content": asked}], **answers}


@given(TEXT, TEXT, TEXT)
def test_rows_that_ask_the_same_share_a_group(asked: str, one: str, other: str) -> None:
    group = splits.group(supervised(asked, one))
    assert splits.group(supervised(asked, other)) == group
    assert splits.group(preference(asked)) == group
    assert splits.group(supervised(asked, one, "And then?", other)) == group
    system = {"messages": [{"role": "system", "content": one}, *supervised(asked, one)["messages"]]}
    assert splits.group(system) == group


@given(st.text("abcdefghij 12", min_size=1, max_size=40).filter(str.strip))
def test_case_blanks_and_punctuation_do_not_make_another_question(asked: str) -> None:
    group = splits.group(supervised(asked))
    assert splits.group(supervised(f"  {asked.upper()} ?!")) == group
    assert splits.group(supervised(asked.replace(" ", "\n\t "))) == group


def test_the_same_question_with_other_passages_is_the_same_question() -> None:
    asked = "Who keeps the register of outages?"
    plain = supervised(asked)["messages"]
    groups = {splits.group({"messages": plain})}
    for file in (None, ROOT / "usecases" / "tiny" / "prompt.md.j2"):
        form = prompt.read(file)
        for passages in (
            [Passage("outages", "Operations keeps it. It is kept for a year.")],
            [Passage("archive", "Nothing is known.")],
            [],
        ):
            groups.add(splits.group({"messages": form.messages(asked, passages)}))
    assert len(groups) == 1


@given(st.sampled_from(["?", "!!!", "🙂", "—"]), st.sampled_from(["?", "!!!", "🙂", "—"]))
def test_questions_without_words_keep_apart(one: str, other: str) -> None:
    assert (splits.group(supervised(one)) == splits.group(supervised(other))) == (one == other)


@pytest.mark.parametrize(
    "shares",
    [
        Splits(),
        Splits(train=0.5, validation=0.25, test=0.25),
        Splits(train=1, validation=0, test=0),
        Splits(train=0, validation=0, test=1),
    ],
)
def test_the_shares_are_met(shares: Splits) -> None:
    n = 4_000
    found = [splits.assign(canonical.digest_text(f"question {i}"), shares) for i in range(n)]
    for name in splits.SPLITS:
        share: float = getattr(shares, name)
        # Five standard deviations of a binomial share.
        assert abs(found.count(name) / n - share) <= 5 * math.sqrt(share * (1 - share) / n)


@given(st.text("0123456789abcdef", min_size=64, max_size=64))
def test_a_split_depends_on_the_group_alone(group: str) -> None:
    assert splits.assign(group, Splits()) == splits.assign(group, Splits())
    assert splits.assign(group, Splits()) in splits.SPLITS


GROUPS = st.lists(st.sampled_from([f"{n:064x}" for n in range(0, 1 << 70, 1 << 65)]), max_size=12, unique=True)


def test_a_salt_chooses_other_splits_in_the_same_shares() -> None:
    groups = [canonical.digest_text(f"question {number}") for number in range(4_000)]
    found = {salt: [splits.assign(group, Splits(salt=salt)) for group in groups] for salt in ("", "a", "b")}
    for one, other in (("", "a"), ("a", "b")):
        alike = sum(x == y for x, y in zip(found[one], found[other], strict=True))
        assert abs(alike / len(groups) - (0.8**2 + 0.1**2 + 0.1**2)) < 0.04, (
            "as of two draws that know nothing of each other"
        )
    for chosen in found.values():
        assert abs(chosen.count("test") / len(groups) - 0.1) < 0.03
    assert found["a"] == [splits.assign(group, Splits(salt="a")) for group in groups]


@given(GROUPS, st.data())
def test_linked_groups_share_a_split_and_a_fixed_one_never_moves(groups: list[str], data: st.DataObject) -> None:
    shares = Splits(train=0.5, validation=0.25, test=0.25)
    one_of = st.sampled_from(groups) if groups else st.nothing()
    linked = data.draw(st.lists(st.tuples(one_of, one_of), max_size=8)) if groups else []
    fixed = data.draw(st.dictionaries(one_of, st.sampled_from(splits.SPLITS), max_size=4)) if groups else {}
    settled = splits.settle(groups, linked, fixed, shares)
    assert settled.splits.keys() | settled.bridging == set(groups)
    assert not settled.splits.keys() & settled.bridging
    assert {name: settled.splits[name] for name in fixed} == fixed
    assert settled.fresh == {name: split for name, split in settled.splits.items() if name not in fixed}
    for one, other in linked:
        if one in settled.bridging or other in settled.bridging:
            continue
        assert settled.splits[one] == settled.splits[other] or {one, other} <= fixed.keys()
    again = splits.settle(groups, linked, settled.splits, shares)
    assert again.splits == settled.splits, "on the next night nothing moves"


USES = st.sets(st.sampled_from(["train", "evaluate"]), min_size=1)


@given(GROUPS, st.data())
def test_a_new_group_stands_where_all_that_goes_with_it_may_be_used(groups: list[str], data: st.DataObject) -> None:
    one_of = st.sampled_from(groups) if groups else st.nothing()
    linked = data.draw(st.lists(st.tuples(one_of, one_of), max_size=8)) if groups else []
    uses = data.draw(st.dictionaries(one_of, USES, max_size=6)) if groups else {}
    fitting = {name: splits.allowed(each) for name, each in uses.items()}
    settled = splits.settle(groups, linked, {}, Splits(), fitting)
    assert settled.bridging == frozenset()
    beside = {name: {name} for name in groups}
    for _ in groups:
        for one, other in linked:
            both = beside[one] | beside[other]
            beside[one], beside[other] = both, both
    for name in groups:
        common = frozenset(splits.SPLITS).intersection(*(fitting.get(each, splits.ANY) for each in beside[name]))
        assert not common or settled.splits[name] in common


def test_what_is_neither_trained_nor_evaluated_on_stands_in_no_split() -> None:
    assert splits.allowed({"rag", "log"}) == splits.allowed(()) == frozenset()


@pytest.mark.parametrize("uses", [{"train"}, {"evaluate"}, {"train", "evaluate"}])
def test_shares_keep_their_proportion_among_what_is_allowed(uses: set[str]) -> None:
    allowed, shares, n = splits.allowed(uses), Splits(train=0.6, validation=0.2, test=0.2), 4_000
    found = [splits.assign(canonical.digest_text(f"question {i}"), shares, allowed) for i in range(n)]
    whole = sum(shares.shares[name] for name in allowed)
    assert set(found) == allowed
    for name in allowed:
        share = shares.shares[name] / whole
        assert abs(found.count(name) / n - share) <= 5 * math.sqrt(share * (1 - share) / n)


def test_what_links_train_and_test_belongs_to_neither() -> None:
    fixed: dict[str, splits.Split] = {"a": "train", "b": "test"}
    settled = splits.settle(["a", "b", "c", "d" * 64], [("a", "c"), ("c", "b")], fixed, Splits())
    assert settled.bridging == {"c"}
    assert settled.fresh == {"d" * 64: splits.assign("d" * 64, Splits())}


GROUPS = st.sampled_from([canonical.digest_text(name) for name in "abcdefgh"])
KEYS = st.sampled_from([splits.key_group(f"fact={name}") for name in "KLM"])
FIXED = st.dictionaries(GROUPS, st.sampled_from(splits.SPLITS))


@given(st.lists(st.tuples(GROUPS, GROUPS)), st.lists(st.tuples(GROUPS, KEYS)), FIXED)
def test_what_goes_with_a_test_row_is_outside_no_other_split(
    linked: list[tuple[str, str]], keyed: list[tuple[str, str]], fixed: dict[str, splits.Split]
) -> None:
    """Whatever is known of old: of two that say the same or share a key, none is of the test split alone."""
    names = {name for pair in linked for name in pair} | {part for pair in keyed for part in pair}
    settled = splits.settle(names, [*linked, *keyed], {n: s for n, s in fixed.items() if n in names}, Splits())
    out = settled.bridging | splits.straddling(linked, keyed, fixed)
    kept = {name: split for name, split in settled.splits.items() if name not in out}
    sharing = [(one, other) for one, key in keyed for other, same in keyed if key == same]
    for one, other in [*linked, *sharing]:
        if one in kept and other in kept:
            assert (kept[one] == "test") == (kept[other] == "test")


def test_rows_are_grouped_by_what_their_fields_say() -> None:
    row = {"messages": supervised("Who?", "We.")["messages"], "fact": 17, "documents": ["a", "b"], "data_subject": "p "}
    (example,) = formats.examples(Row(1, row), "f", "sft", "messages", None, ("fact", "documents", "data_subject"))
    assert example.keys == ("data_subject=p", "documents=a", "documents=b", "fact=17")
    assert example.unknown_keys == 0
    (damaged,) = formats.examples(Row(1, {**row, "fact": {}}), "f", "sft", "messages", None, ("fact",))
    assert damaged.problem is not None
    assert damaged.problem.rule == "wrong_type"
