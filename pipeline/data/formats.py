"""Training rows: how a file's rows are read in one of the known forms, and the one form in which they go on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import canonical
from pipeline.data import normal, provenance
from pipeline.data.layouts import LAYOUTS, Content
from pipeline.data.provenance import Generated
from pipeline.data.rows import Damaged, Problem, Row
from pipeline.data.turns import MEANING, meaning
from pipeline.errors import BadInput
from pipeline.usecase import ExampleKind

FORMATS: Mapping[ExampleKind, tuple[str, ...]] = {kind: tuple(layouts) for kind, layouts in LAYOUTS.items()}
DETECT = "auto"  # by the rows themselves
SAMPLE = 200  # rows that a form is recognised by
# What a row may say beside its content: its name and origin, the person it is about, the documents it speaks of.
_KNOWN = frozenset({"id", "source", "data_subject", "subject", "documents", "generated"})


_LISTS = ("documents", "unread", "keys")


@dataclass(frozen=True)
class Example:
    """One training row in its canonical form, with the place it came from."""

    file: str
    line: int
    kind: ExampleKind
    content: Content | None  # {"messages"}, {"text"} or {"prompt", "chosen", "rejected"}; None with a problem
    subject: str | None = None
    documents: tuple[str, ...] = ()
    unknown_keys: int = 0  # keys that nothing here reads
    unread: tuple[str, ...] = ()  # of these: keys that say how the row is meant, by our own names for them
    old_names: int = 0  # keys that have a new name
    keys: tuple[str, ...] = ()  # values that rows of one split share, as `field=value`
    redacted: bool = False  # whether personal data in it was taken out
    generated: Generated | None = None  # what wrote it, where no person did
    problem: Problem | None = None

    @property
    def content_digest(self) -> str:
        """Returns the digest of kind and content."""
        return canonical.digest({"kind": self.kind, "content": self.content})

    @property
    def digest(self) -> str:
        """Returns the row's identity: content, and whom and what it is about. Its place does not count."""
        row = {"kind": self.kind, "content": self.content, "subject": self.subject, "documents": list(self.documents)}
        return canonical.digest(row)

    @property
    def normal_digest(self) -> str:
        """Returns the digest of what the eye sees of kind and content: what is compared with other rows."""
        return normal.digest({"kind": self.kind, "content": self.content})

    def as_dict(self) -> dict[str, Any]:
        """Returns the row as a snapshot keeps it."""
        problem = None if self.problem is None else [self.problem.rule, self.problem.detail]
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        generated = None if self.generated is None else vars(self.generated)
        return {**self.__dict__, **lists, "problem": problem, "generated": generated}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Example":
        """Returns the row that a snapshot kept."""
        problem = None if row["problem"] is None else Problem(*row["problem"])
        lists = {name: tuple(row.get(name, ())) for name in _LISTS}
        generated = None if row.get("generated") is None else Generated(**row["generated"])
        return cls(**{**row, **lists, "problem": problem, "generated": generated})


def require(kind: ExampleKind, form: str, where: str) -> None:
    """Raises BadInput where rows of this kind do not come in this format."""
    if kind not in FORMATS:
        raise BadInput("unknown kind of example", where=where, found=kind, allowed=", ".join(FORMATS))
    if form != DETECT and form not in FORMATS[kind]:
        raise BadInput(
            f"{kind} rows do not come in this format",
            where=where,
            found=form,
            allowed=", ".join((*FORMATS[kind], DETECT)),
        )


def detect(rows: Sequence[Row], kind: ExampleKind, where: str, columns: Mapping[str, str] | None = None) -> str:
    """Returns the format that most of these rows have; the kind's own where none is an object.

    Raises BadInput where there are objects, and no format has a row among them.
    """
    values = [_renamed(row.value, columns or {}) for row in rows if isinstance(row.value, dict)]
    fitting = Counter(
        form for value in values for form, layout in LAYOUTS[kind].items() if _fits(layout.contents, value)
    )
    if fitting:
        return max(FORMATS[kind], key=lambda form: fitting[form])
    if values:
        raise BadInput(
            f"the file has no rows that {kind} is trained on",
            where=where,
            found=f"{len(values)} objects at its beginning, none with the fields of a known format",
            allowed="; ".join(f"{form}: {layout.fields}" for form, layout in LAYOUTS[kind].items()),
            next_step="name the columns in usecase.yaml (examples: columns), or give the right kind",
        )
    return FORMATS[kind][0]


def _fits(contents: Any, value: dict[str, Any]) -> bool:
    """Returns whether a row has the fields of a format. One that is rejected for what it says has them."""
    try:
        contents(value)
    except Damaged as damaged:
        return damaged.problem.rule not in ("missing_field", "wrong_type")
    return True


def examples(
    row: Row,
    file: str,
    kind: ExampleKind,
    form: str,
    columns: Mapping[str, str] | None = None,
    group_by: Sequence[str] = (),
    generated: Generated | None = None,
) -> list[Example]:
    """Returns the examples that a row holds, mostly one, or the problem it has: the reader's, or that of its format.

    `columns` are the names that the file has for our fields, `group_by` the fields whose values rows of a split share,
    `generated` what wrote the rows that do not say it themselves.
    """
    if row.problem is not None:
        return [Example(file, row.line, kind, None, problem=row.problem)]
    try:
        if not isinstance(row.value, dict):
            raise Damaged("not_an_object", "a row is an object with named fields")
        value = _renamed(row.value, columns or {})
        layout = LAYOUTS[kind][form]
        contents = layout.contents(value)
        subject, old_names = _subject(value)
        keys = _keys(value, group_by)
        origin = provenance.of_row(value.get("generated"), generated)
    except Damaged as damaged:
        return [Example(file, row.line, kind, None, problem=damaged.problem)]
    documents = _documents(value.get("documents"))
    given = {key for key, part in value.items() if part is not None}
    unknown = given - layout.reads - _KNOWN - set(group_by)
    unread = sorted(meaning(_objects(value, layout.reads)) | (unknown & _MEANT))
    count = len(unknown) + (documents is None)
    return [
        Example(
            file,
            row.line,
            kind,
            content,
            subject,
            documents or (),
            count,
            tuple(unread),
            old_names,
            keys,
            generated=origin,
        )
        for content in contents
    ]


@dataclass(frozen=True)
class Reading:
    """How the rows of a file become examples."""

    kind: ExampleKind
    form: str
    columns: Mapping[str, str] | None = None  # the names that the file has for our fields
    group_by: Sequence[str] = ()
    generated: Generated | None = None  # what wrote the rows that do not say it themselves

    def examples(self, row: Row, file: str) -> list[Example]:
        """Returns the examples that a row of this file holds; see `examples`."""
        return examples(row, file, self.kind, self.form, self.columns, self.group_by, self.generated)


# What some trainer reads in a row, beside what messages may say.
_MEANT = MEANING | {
    "weights",
    "context",
    "score",
    "scores",
    "system_prompt",
    "instruction",
    "input",
    "history",
}


def _renamed(value: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Returns a row under our names for its fields. What has our name and is another column's is left out."""
    if not columns:
        return value
    theirs = set(columns.values())
    kept = {key: part for key, part in value.items() if key not in theirs and key not in columns}
    return kept | {ours: value[name] for ours, name in columns.items() if name in value}


def _objects(value: dict[str, Any], reads: frozenset[str]) -> list[Mapping[str, Any]]:
    """Returns a row and the messages that its fields hold."""
    found: list[Mapping[str, Any]] = [value]
    for field in reads & value.keys():
        parts = value[field] if isinstance(value[field], list) else [value[field]]
        found += [part for part in parts if isinstance(part, dict)]
    return found


def _subject(row: Mapping[str, Any]) -> tuple[str | None, int]:
    """Returns whom a row is about, and whether it says so by the key's old name. Raises Damaged."""
    values = {name: row[name] for name in ("data_subject", "subject") if row.get(name) is not None}
    for name, value in values.items():
        if not isinstance(value, str):
            raise Damaged("wrong_type", f"the field {name} is text")
    if len(set(values.values())) > 1:
        raise Damaged("two_subjects", "data_subject and subject name different persons")
    return next(iter(values.values()), None), int("subject" in values)


def _keys(row: Mapping[str, Any], group_by: Sequence[str]) -> tuple[str, ...]:
    """Returns the values of the fields that rows are grouped by, each as `field=value`; of a list, each of its entries.
    Raises Damaged where one is neither text nor a number."""
    keys = set()
    for name in group_by:
        # The old name of a field counts as the field.
        value = row.get(name, row.get("subject") if name == "data_subject" else None)
        for part in value if isinstance(value, list) else [] if value is None else [value]:
            if not isinstance(part, str | int | float):
                raise Damaged("wrong_type", f"the field {name}, which rows are grouped by, is text or a number")
            keys.add(f"{name}={normal.normal(str(part))}")
    return tuple(sorted(keys))


def _documents(value: Any) -> tuple[str, ...] | None:
    """Returns the documents that a row speaks of; None where the field holds something else."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(key, str) for key in value):
        return None
    return tuple(sorted(set(value)))
