"""The keys about data: sources, splits, retention, checks."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.usecase.types import USES, Classification, ExampleKind, Line, LocalPath, Name, Section, Share, Url, Use


class DocumentDefaults(Section):
    """What a document is where its source does not say: readable by nobody, until the YAML or it says more."""

    tenant: Name = "default"
    """Whose document it is: callers of other tenants never see it."""
    classification: Classification = "restricted"
    """How confidential it is."""
    groups: tuple[str, ...] = Field(("nobody",), min_length=1, max_length=64)
    """Who may read it; a public document, everyone of the tenant."""
    owner: str = "unassigned"
    """Who answers for it."""
    fresh_until: date | None = None
    """The day after which it answers nobody any more; null: it does not expire."""
    retain_until: date | None = None
    """The day until which it is kept: after it `maintain` erases it, and the examples that speak of it. null: it
    stays."""


class DocumentSource(Section):
    """One place that documents come from."""

    path: LocalPath
    """A folder of Markdown files, or a text file. Nothing outside it is read."""
    format: Literal["markdown", "lines"] = "markdown"
    """`markdown`: files with front matter; `lines`: one document a line."""
    front_matter: Literal["required", "optional"] = "required"
    """Whether a Markdown file without a readable front matter is rejected, or has the rights of the defaults."""
    defaults: DocumentDefaults = DocumentDefaults()
    """What a document is where its source does not say."""
    uses: tuple[Use, ...] = USES
    """What its documents may be used for; their front matter may narrow it. `rag`: callers' searches find them;
    `evaluate`: the evaluation's searches do; `train`: rows that speak of them may be trained on; `log`: what was
    answered from them may be kept."""
    licence: Line | None = None
    """For the data card: under what licence its content may be used."""
    owner: Line | None = None
    """For the data card: who answers for it."""
    rights: Line | None = None
    """For the data card: on what ground it may be used, such as a contract or consent."""
    sensitivity: Line | None = None
    """For the data card: what would follow if somebody else read it."""

    @property
    def label(self) -> str:
        """Returns what people call it."""
        return self.path.name


class GeneratedBy(Section):
    """What wrote rows that no person wrote. A row says it for itself by the same keys under `generated`, or `false`."""

    by: Line
    """The model or the program."""
    prompt_digest: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the prompt that it was given."""
    written_on: date | None = None
    """The day on which it wrote them."""
    checked_by: Line | None = None
    """The person who read them; null: nobody did."""


class ExampleSource(Section):
    """Training rows: a file, all files of a folder, or a file elsewhere."""

    path: LocalPath | None = None
    """A file of training rows, or a folder of such files. Nothing outside it is read."""
    url: Url | None = None
    """Instead of a path: a file that fsspec reads, such as `s3://bucket/rows.jsonl.gz`. It is read at each fetch,
    twice. Its login comes from the environment; https:// and http:// need no other package."""
    kind: ExampleKind
    """What the rows are for."""
    format: Literal[
        "auto", "messages", "sharegpt", "alpaca", "prompt_completion", "oasst", "preference", "ranking", "text"
    ] = "auto"
    """`auto`: what most of the first 200 rows have. `messages`: {messages}; `sharegpt`: {conversations}, of pairs also
    {chosen, rejected}; `alpaca`: {instruction, output}, also {input, context, history, instances};
    `prompt_completion`: {prompt, completion}; `preference`: {chosen, rejected}, with or without {prompt};
    `ranking`: {prompt, responses, scores or ranks}, the best beside the worst; `oasst`: a tree of {text, replies};
    `text`: {text}, of the kind `text`."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names that the file has for our fields: `{instruction: question, output: reply}`."""
    uses: tuple[Literal["train", "evaluate"], ...] = Field(("train", "evaluate"), min_length=1)
    """What its rows may be used for: `train` takes them into the splits that are trained and selected on, `evaluate`
    into the locked test split."""
    weight: float = Field(1.0, gt=0, le=100)
    """How often its rows are trained on: of 2.5, each twice and half of them once more, by their digests and the
    recipe's seed. Validation and the locked test count each row once."""
    generated: GeneratedBy | None = None
    """What wrote its rows, where no person did; null: persons did, unless a row says otherwise."""
    licence: Line | None = None
    """For the data card: under what licence its content may be used."""
    owner: Line | None = None
    """For the data card: who answers for it."""
    rights: Line | None = None
    """For the data card: on what ground it may be used, such as a contract or consent."""
    sensitivity: Line | None = None
    """For the data card: what would follow if somebody else read it."""

    @model_validator(mode="after")
    def _one_place(self) -> "ExampleSource":
        if (self.path is None) == (self.url is None):
            raise ValueError("training rows have a path or a url: one of both")
        return self

    @property
    def label(self) -> str:
        """Returns what people call it."""
        return self.url or ("" if self.path is None else self.path.name)


class Splits(Section):
    """Shares of the splits. A prompt's split is fixed when it is first seen."""

    train: Share = 0.8
    """Share of the prompts that are trained on."""
    validation: Share = 0.1
    """Share that checkpoints are selected on."""
    test: Share = 0.1
    """Share that is locked away for the evaluation."""
    salt: str = Field("", max_length=100)
    """Hashed with each prompt to choose its split, so that nobody who does not know it can write a prompt that falls
    where he wants it. A new one moves no prompt that was seen before."""
    group_by: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    """Fields of rows whose equal values keep rows in one split: `data_subject`, `documents`, or another that the files
    have, such as the fact that a question is about."""

    @property
    def shares(self) -> dict[str, float]:
        """Returns the share of each split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @model_validator(mode="after")
    def _sum(self) -> "Splits":
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("the three shares must add up to 1")
        return self


CardField = Literal["licence", "owner", "rights", "sensitivity", "deletion_path", "known_issues"]


class DataCard(Section):
    """What the data card says beyond what is measured."""

    required: tuple[CardField, ...] = ()
    """Fields without which nothing is committed; the first four are each source's own."""
    deletion_path: Line | None = None
    """How somebody has what is about him deleted, and by whom."""
    known_issues: tuple[Line, ...] | None = None
    """What is known to be wrong or missing; `[]` says that nothing is."""


class SignOff(Section):
    """Whether persons sign what is new in the examples before it is trained on."""

    required: bool | None = None
    """null: by the risk tier; `high` asks in any case. A new source is signed by a data owner, rows about persons by a
    privacy reviewer; until then the night trains on the version that was signed last."""
    timeout_hours: float = Field(168, gt=0, le=8_760)
    """How long Airflow waits for the answers; the command line takes them later, too."""


class Retention(Section):
    """How long what was erased may stand elsewhere, and whether dates erase by themselves."""

    erase_expired: bool = True
    """`maintain` erases documents whose `retain_until` has gone by."""
    backup_days: int = Field(35, ge=0, le=36_500)
    """How long backups of the database are kept: what a certificate of erasure says of them."""


# What becomes of a row that a rule finds: it is left out; it waits until a person accepts it; it is reported, no more.
RuleAction = Literal["reject", "quarantine", "report", "off"]


class DocumentChecks(Section):
    """What becomes of a document by what its text and title hold. `quarantine`: it waits for `nightshift data accept`,
    and what was served before is served on. A withdrawn document is not looked at."""

    credentials: RuleAction = "quarantine"
    """Documents with keys, tokens, private keys, or connection strings with a password."""
    personal_data: RuleAction = "report"
    """Documents with e-mail addresses, telephone, card or account numbers, or national ids, but for
    `checks.public_contacts`."""
    abuse: RuleAction = "report"
    """Documents with slurs, insults, threats or calls for hate that they do not quote."""
    other_language: RuleAction = "report"
    """Documents that are surely in none of `checks.languages`."""
    debris: RuleAction = "report"
    """Documents with tags or entities of HTML outside code."""
    mojibake: RuleAction = "report"
    """Documents with letters that were decoded in the wrong encoding."""
    repetition: RuleAction = "report"
    """Documents of which a third or more says again what stands before."""


class Checks(Section):
    """What an example or a document must pass to be accepted."""

    min_characters: int = Field(1, ge=1, le=1_000_000)
    """Of an answer."""
    max_characters: int = Field(20_000, ge=1, le=10_000_000)
    """Of a row's whole text; plain texts, which pretraining divides, have no limit."""
    max_rejected: Share = 0.5
    """A file with a larger share of bad rows stops the commit."""
    max_jump: Share = 0.1
    """A rule that leaves out ten examples or more, and a share of them that grew by more than this since the check
    before, stops the commit until `nightshift data accept`."""
    max_removed: Share = 0.5
    """A commit that would take out a larger share of the examples, and ten or more, waits for `nightshift data accept`;
    the version stays as it was until then."""
    min_examples: int = Field(0, ge=0, le=1_000_000_000)
    """A check that accepts fewer examples stops the commit."""
    min_documents: int = Field(0, ge=0, le=1_000_000_000)
    """A check that accepts fewer documents stops the commit."""
    min_mean_answer: int = Field(0, ge=0, le=10_000_000)
    """Answers with fewer characters in the mean stop the commit."""
    max_mean_answer: int = Field(10_000_000, ge=0, le=10_000_000)
    """Answers with more characters in the mean stop the commit."""
    personal_data: Literal["reject", "redact", "quarantine", "report", "off"] = "quarantine"
    """Examples with e-mail addresses, telephone, card or account numbers, or national ids. `quarantine`: they wait for
    `nightshift data accept`; `redact`: `[email]` stands in their place."""
    public_contacts: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    """Patterns of addresses and numbers that are nobody's own: `*@bank.example`, `00 800 *`."""
    phone_regions: tuple[Annotated[str, Field(pattern=r"^[A-Z]{2}$")], ...] = ("US", "GB")
    """Countries whose telephone numbers are found without their country code; those with it always are."""
    credentials: RuleAction = "reject"
    """Examples with keys, tokens, private keys, or connection strings with a password."""
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2}$")], ...] = ()
    """Languages that examples are in (ISO 639-1); empty: any. Short texts are in any."""
    other_language: RuleAction = "reject"
    """Examples that are surely in another language."""
    debris: RuleAction = "report"
    """Examples with tags or entities of HTML outside code."""
    mojibake: RuleAction = "reject"
    """Examples with letters that were decoded in the wrong encoding."""
    repetition: RuleAction = "report"
    """Answers of which a third or more says again what stands before."""
    contamination: RuleAction = "reject"
    """Examples that ask what a suite of the evaluation asks, or nearly so."""
    other_answers: RuleAction = "report"
    """Examples whose prompt stands earlier with another answer."""
    excuses: RuleAction = "report"
    """Answers that speak of themselves as a model."""
    abuse: RuleAction = "quarantine"
    """Examples with slurs, insults, threats or calls for hate, in English or German. Not what they quote, the rejected
    answer of a pair, nor the prompt of a task about them. `quarantine`: they wait for `nightshift data accept`."""
    documents: DocumentChecks = DocumentChecks()
    """What becomes of documents by what they hold."""
    truncation: RuleAction = "report"
    """Examples with an answer that `training.sft.max_length`, of a pair `training.dpo.max_length`, cuts off in the base
    model's tokens. `report`: they are trained on as far as they reach, and where they end is not learned."""
    max_widened: int = Field(0, ge=0, le=1_000_000)
    """So many documents that more may read from now on go through; with more of them, all wait for a person."""
    max_lost: Share = 0.5
    """A source that lost a larger share of its documents, or all, withdraws none without a person."""
