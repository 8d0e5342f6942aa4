"""What texts hold, measured: abuse in the turns of a row, and everything that is looked for in documents."""

from collections.abc import Callable, Mapping

from pipeline.data import abuse, credentials, personal, quality
from pipeline.data.documents import Document
from pipeline.data.layouts import Content, parts
from pipeline.usecase import Checks, DocumentChecks

# The measures of documents, which are the keys of `checks.documents`, too.
OF_DOCUMENTS = tuple(DocumentChecks.model_fields)


def abuse_of(content: Content) -> int:
    """Returns how many kinds of abuse, of the four that there are, stand in a row.

    The rejected answer of a pair may be abusive, and so may the prompt of a task that is about such texts.
    """
    turns = [turn for part in parts(content)[:2] for turn in part]
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    prompts = "\n\n".join(turn["content"] for turn in turns if turn["role"] != "assistant")
    kinds = {kind for text in (*answers, prompts) for kind in abuse.kinds(text)}
    # Looked at last, since few rows need it.
    if kinds and abuse.discusses(prompts):
        kinds = {kind for text in answers for kind in abuse.kinds(text, discussed=True)}
    return len(kinds)


def of_document(row: Document, checks: Checks) -> Mapping[str, int | None]:
    """Returns how much of what is looked for a document's title and text hold, by the names of OF_DOCUMENTS.

    Counts, but for `repetition` (hundredths of the text). None is what the use case does not look for, and everything
    of a withdrawn document: whoever takes a text back must not be kept from it by what stands in it.
    """
    text, wanted = f"{row.title}\n{row.text or ''}", checks.documents
    measures: Mapping[str, Callable[[], int]] = {
        "credentials": lambda: len(credentials.kinds(text)),
        "personal_data": lambda: len(personal.find(text, checks.phone_regions, checks.public_contacts)),
        "abuse": lambda: len(abuse.kinds(text)),
        "other_language": lambda: _foreign(text, checks),
        "debris": lambda: quality.debris(text),
        "mojibake": lambda: int(quality.mojibake(text)),
        "repetition": lambda: quality.repeated(text),
    }
    if row.status != "approved":
        return dict.fromkeys(OF_DOCUMENTS)
    return {name: None if getattr(wanted, name) == "off" else measures[name]() for name in OF_DOCUMENTS}


def _foreign(text: str, checks: Checks) -> int:
    return int(bool(checks.languages) and (quality.language(text) or checks.languages[0]) not in checks.languages)
