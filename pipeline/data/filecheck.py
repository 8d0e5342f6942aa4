"""The check of files of examples without a database, row by row: a file need not fit into memory."""

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline.data import files, formats, measures, paths, remote, rules, sources
from pipeline.data.lengths import Lengths, Unmeasured
from pipeline.data.records import FileCheck, RejectedRow, TokenCounts
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.usecase import Checks, ExampleKind

STANDARD_INPUT = Path("-")


def check_file(
    path: Path | str,
    kind: ExampleKind,
    form: str = formats.DETECT,
    checks: Checks | None = None,
    columns: dict[str, str] | None = None,
    lengths: Lengths | Unmeasured | None = None,
) -> FileCheck:
    """Returns the check of a file of examples, of all files in a folder, of one at a URL, or (`-`) of standard input.

    The same rules as in the pipeline, but those that need the database (erased rows, unknown documents). `columns` are
    the names that the file has for our fields. `lengths` measures rows in the base model's tokens.

    Raises NotAvailable for a file that is missing or cannot be read; BadInput for what is no file of rows, for one
    without rows, or for a format that the kind does not come in; Refused for a file that changes while it is read.
    """
    formats.require(kind, form, "--format" if kind in formats.FORMATS else "--kind")
    chosen, skipped = _chosen(path)
    checks = checks or Checks()
    measuring = measures.ExampleMeasures(
        lambda _: False, None, checks, lengths=lengths if isinstance(lengths, Lengths) else None
    )
    table = rules.for_examples(checks)
    sizes: list[tuple[int, int]] = []  # tokens and supervised tokens of the accepted rows
    forms: dict[str, str] = {}
    rejected: list[RejectedRow] = []
    warned: Counter[str] = Counter()
    rows = 0
    for name, each in chosen.items():
        before = rows
        with _opened(each) as stream:
            examples = sources.examples_of(stream, name, kind, form, columns)
            forms[name] = examples.form
            for row in (measures.redacted(row, checks) for row in examples.rows):
                rows += 1
                measured = measuring.of(row)
                breach = rules.breach(table, measured)
                if breach is None:
                    warned.update(rule.name for rule in rules.warnings(table, measured))
                    if measured["tokens"] is not None:
                        sizes.append((measured["tokens"], measured["supervised"]))
                else:
                    detail = rules.detail(breach, row.problem, ", ".join(row.unread), measured)
                    rejected.append(RejectedRow(name, row.line, breach.name, detail))
        if rows == before:
            raise BadInput("the file has no rows", where=each, allowed=files.ALLOWED)
    by_rule = Counter(row.rule for row in rejected)
    return FileCheck(
        forms,
        rows,
        rows - len(rejected),
        dict(by_rule.most_common()),
        dict(warned),
        rejected,
        skipped,
        _token_counts(sizes),
        lengths.why if isinstance(lengths, Unmeasured) else None,
    )


def _token_counts(sizes: Sequence[tuple[int, int]]) -> TokenCounts | None:
    if not sizes:
        return None
    tokens, supervised = zip(*sizes, strict=True)
    return TokenCounts(len(sizes), sum(tokens), sum(supervised), max(tokens))


def _chosen(path: Path | str) -> tuple[Mapping[str, Path | str], list[str]]:
    """Returns the files to check by their names, and the names of those beside them that are no files of rows."""
    if isinstance(path, str):
        return {path: remote.require(path)}, []
    if path == STANDARD_INPUT:
        return {"standard input": path}, []
    if not path.is_dir():
        return {path.name: path}, []
    inside: dict[str, Path | str] = {each.relative_to(path).as_posix(): each for each in sorted(paths.walk(path))}
    chosen = {name: each for name, each in inside.items() if files.is_called_rows(name)}
    if not chosen:
        raise BadInput("the folder has no files of rows", where=path, allowed=files.ALLOWED)
    return chosen, [name for name in inside if name not in chosen]


@contextmanager
def _opened(path: Path | str) -> Iterator[BinaryIO]:
    """Yields a file's bytes. Raises Refused at the end where one of this machine changed meanwhile."""
    if isinstance(path, str):
        with remote.opened(path) as stream:
            yield stream
        return
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        # A pipe or a device must not keep anybody waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise NotAvailable(
            "the file cannot be read", where=path, found=error.strerror, next_step="put it there, or fix the path"
        ) from None
    with open(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise BadInput(
                "this is no regular file", where=path, allowed="a file, a folder of files, or - for standard input"
            )
        yield file
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise Refused("the file changed while it was being read", where=path, next_step="check it again")
