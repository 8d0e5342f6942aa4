"""What a use case's suites ask: all that the data stage may know of them."""

from pipeline import parsing
from pipeline.errors import BadInput, NotAvailable
from pipeline.usecase.keys import Suite


def questions(suite: Suite) -> list[str]:
    """Returns the questions of a suite, in its order. The evaluation reads it whole, and more strictly.

    Raises NotAvailable where the file cannot be read, and BadInput, with file and line, for a line without a question.
    """
    try:
        lines = suite.path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise NotAvailable("the suite cannot be read", where=suite.path, found=type(error).__name__) from None
    asked = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            case = parsing.parse_json(line)
        except parsing.ParseError as error:
            raise BadInput("a case is not JSON", where=f"{suite.path}:{number}", found=error.problem) from None
        if not isinstance(case, dict) or not isinstance(case.get("question"), str):
            raise BadInput(
                "a case has no question", where=f"{suite.path}:{number}", allowed="an object with a question"
            )
        asked.append(case["question"])
    return asked
