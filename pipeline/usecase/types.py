"""What the keys of a usecase.yaml are made of: their types, and what every section has in common."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

# The order is the order of clearances: who may read one may read those before it.
Classification = Literal["public", "internal", "confidential", "restricted"]
CLASSIFICATIONS: tuple[Classification, ...] = get_args(Classification)
Dtype = Literal["float32", "bfloat16"]
Quantize = Literal["none", "nf4"]
LrSchedule = Literal["cosine", "linear", "constant"]
PreferenceLoss = Literal["dpo", "orpo"]
ExampleKind = Literal["sft", "preference", "text"]
Use = Literal["rag", "train", "evaluate", "log"]
USES: tuple[Use, ...] = get_args(Use)
# What a document may be searched for: for a caller, for an evaluation, for a training row.
Purpose = Literal["rag", "evaluate", "train"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Login = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]  # a caller's name; part of no identifier
Share = Annotated[float, Field(ge=0, le=1)]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]  # text without line ends
# What Postgres ships: `select cfgname from pg_ts_config`.
TextSearch = Literal[
    "simple",
    "arabic",
    "armenian",
    "basque",
    "catalan",
    "danish",
    "dutch",
    "english",
    "estonian",
    "finnish",
    "french",
    "german",
    "greek",
    "hindi",
    "hungarian",
    "indonesian",
    "irish",
    "italian",
    "lithuanian",
    "nepali",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "serbian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
    "yiddish",
]
_PRESETS = {"@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"}


def _cron(expression: str) -> str:
    """Returns a cron expression that Airflow will take, and that fires. Raises ValueError."""
    from croniter import CroniterError, croniter  # what Airflow reads it with

    if expression in _PRESETS:
        return expression
    if len(expression) > 200 or len(expression.split()) != 5 or "@" in expression:
        raise ValueError(f"five fields such as 30 1 * * *, or one of {', '.join(sorted(_PRESETS))}")
    try:
        croniter(expression, datetime(2000, 1, 1, tzinfo=UTC), max_years_between_matches=8).get_next()
    except (CroniterError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(f"a cron expression in UTC that fires: {error}") from None
    return expression


Cron = Annotated[str, AfterValidator(_cron)]


# Where files come from over a network, as fsspec calls it.
SCHEMES = ("https", "http", "s3", "gs", "az", "abfs", "abfss", "sftp", "hdfs", "webhdfs")


def _url(url: str) -> str:
    """Returns a URL that names a file elsewhere, and holds no secret: it is shown, and stored. Raises ValueError."""
    try:
        parts = urlsplit(url)
        named = parts.hostname and parts.port != 0 and parts.path.strip("/") and not url.endswith("/")
    except ValueError:
        named = None
    scheme, _, rest = url.partition("://")
    # A password may hold a sign that ends what comes before the host.
    if "@" in rest or "?" in rest or "#" in rest:
        raise ValueError("a URL without a login, a query and a fragment: a login comes from the environment")
    if not named or scheme.lower() not in SCHEMES or "::" in url:
        raise ValueError(f"the URL of one file: {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    return f"{scheme.lower()}://{rest}"


def _local(path: Any) -> Any:
    """Returns what names a file of this machine. Raises ValueError for a URL."""
    if isinstance(path, str) and re.search(r"[a-z][a-z0-9+.-]*:/", path, re.IGNORECASE):
        raise ValueError("a path of this machine; training rows that stand elsewhere have a url instead")
    return path


LocalPath = Annotated[Path, BeforeValidator(_local)]
Url = Annotated[str, Field(max_length=1_000, pattern=r"^[\x21-\x7e]*$"), AfterValidator(_url)]


def narrowed(uses: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """Returns the uses that both allow, in the order of USES."""
    both = set(uses) & set(others)
    return tuple(use for use in USES if use in both)


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        str_max_length=4_000,
        use_attribute_docstrings=True,  # the line below each key is its description in the reference
        validate_default=True,  # or a default of 3 and a 3 in the YAML could be an integer and a float: two cache keys
    )
