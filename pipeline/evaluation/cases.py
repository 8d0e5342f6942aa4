"""What is asked and what came back: the records that suites make, models answer and scorers judge."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import canonical
from pipeline.prompt import Passage
from pipeline.records import plain
from pipeline.results import DEFAULT_FORM, AnswerForm

Message = dict[str, str]


@dataclass(frozen=True)
class Expect:
    """What a case's answer should be."""

    answerable: bool
    value: str | None = None  # None: any value will do, and the metric `value` says nothing
    aliases: tuple[str, ...] = ()
    source: str | None = None  # the document to cite


@dataclass(frozen=True)
class Reference:
    """What a row of the locked test split says."""

    prompt: tuple[Message, ...]
    answer: str
    rejected: str | None = None  # a preference row's other answer


@dataclass(frozen=True)
class Case:
    """One question to a model: of a suite, put in a principal's name; or of the locked test split, put as it stands."""

    key: str
    digest: str
    question: str | None
    principal: str | None  # None: asked on nobody's behalf, without retrieval
    expect: Expect | Reference
    tags: tuple[str, ...] = ()
    form: AnswerForm = DEFAULT_FORM  # its suite's


@dataclass(frozen=True)
class Suite:
    """A set of cases, known by its digest."""

    name: str
    gated: bool
    cases: tuple[Case, ...]
    file: str | None = None  # digest of the file it was read from; None for the locked test split
    limit: int | None = None
    form: AnswerForm = DEFAULT_FORM

    @property
    def digest(self) -> str:
        """Returns the suite's identity: its cases, the form of their answers, and whether a release depends on them."""
        cases = [[case.key, case.digest] for case in self.cases]
        return canonical.digest([self.name, self.gated, cases, plain(self.form)])


@dataclass(frozen=True)
class Answer:
    """What a model said to a case, and what it had to read."""

    text: str
    passages: Sequence[Passage] = ()
    seconds: float = 0.0  # of its batch, per case
    likelihood: float | None = None  # of the reference: geometric mean of its tokens' probabilities
    preferred: bool | None = None  # whether the chosen answer is more likely than the rejected one

    @property
    def documents(self) -> list[str]:
        """Returns the ids of the documents it had to read, each once, best first."""
        return list(dict.fromkeys(passage.document for passage in self.passages))
