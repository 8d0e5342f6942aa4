"""What a step's result depends on: the source it really runs, its SQL and templates, the lock, parameters and inputs.

The source is found by reading imports, not by running them: from the step's entry modules along every `import
pipeline…`, also those inside functions, and from each module the files of the queries that it names. A change in a
module or a query file that the step cannot reach changes nothing; a new migration changes every key.
"""

import ast
import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline import canonical
from pipeline.settings import ROOT

_PACKAGE = "pipeline"
# The functions that run a named query, and which of their arguments names its file.
_QUERIES = {"fetch": 1, "fetch_one": 1, "execute": 1, "load": 0}
# Python 3.11 counts the depth of all threads' parsing together and fails ("AST constructor recursion depth mismatch").
_PARSING = threading.Lock()


def parts(
    *,
    job: str,
    modules: Iterable[str],
    files: Iterable[str],
    params: Mapping[str, Any],
    inputs: Mapping[str, str],
    root: Path = ROOT,
) -> dict[str, str]:
    """Returns the parts of a cache key, name to digest or short value, so that two keys can be compared part by part.

    `modules` are the entry modules, `files` further files relative to the root, `inputs` roles with digests.
    """
    parts_by_name = {"job": job, "lock": _file(root / "requirements.lock")}
    for module in sorted(closure(modules, root)):
        parts_by_name[f"code:{module}"] = _file(_path(module, root))
        for template in _templates(module, root):
            parts_by_name[f"file:{template.relative_to(root)}"] = _file(template)
        for queries in _queries(module, root):
            parts_by_name[f"sql:{queries}"] = _file(root / "sql" / "queries" / f"{queries}.sql")
    # What the functions of the database do is part of what a step does, and stands in the migrations alone.
    parts_by_name["schema"] = max(
        (file.stem for file in (root / "sql" / "migrations" / "versions").glob("*.sql")), default="none"
    )
    parts_by_name |= {f"file:{name}": _file(root / name) for name in files}
    parts_by_name |= {f"param:{name}": _short(value) for name, value in params.items()}
    parts_by_name |= {f"input:{role}": digest for role, digest in inputs.items()}
    return parts_by_name


def key(parts: Mapping[str, str]) -> str:
    """Returns the cache key of these parts."""
    return canonical.digest(dict(parts))


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    """Returns the parts that differ, each with its value before and after; None where one side has no such part."""
    names = sorted(before.keys() | after.keys())
    return {
        name: {"before": before.get(name), "after": after.get(name)}
        for name in names
        if before.get(name) != after.get(name)
    }


def closure(modules: Iterable[str], root: Path = ROOT) -> set[str]:
    """Returns the modules of this package that the given ones import, directly or not, themselves included."""
    modules_read: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in modules_read or not _path(module, root).exists():
            continue
        modules_read.add(module)
        parent = module.rpartition(".")[0]
        waiting += [parent] if parent else []
        waiting += _read(module, root).imports
    return modules_read


@dataclass(frozen=True)
class _Read:
    """What a module says of what it uses."""

    imports: tuple[str, ...]  # of this package
    queries: frozenset[str]  # names of files of queries, also of such as do not exist


def _read(module: str, root: Path) -> _Read:
    path = _path(module, root)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return _parsed(package, path.read_bytes())


@lru_cache(maxsize=4_096)
def _parsed(package: str, source: bytes) -> _Read:
    """Returns what a module's source says. It is parsed once in a process, whatever steps it is part of: parsing every
    module takes a second."""
    with _PARSING:
        tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    names: list[str] = []
    queries = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += _imported(node, package)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            queries |= _named(node, node.func.attr, constants)
    imports = [name for name in names if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]
    return _Read(tuple(imports), frozenset(queries))


def _imported(node: ast.ImportFrom, package: str) -> list[str]:
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, base] if base else above)
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]


def _named(node: ast.Call, function: str, constants: Mapping[str, Any]) -> set[str]:
    """Returns the file of named queries that a call names: `database.fetch(connection, "file", …)` and its like, and
    `sql.load("file")`, the name a literal or a constant of the module."""
    if function not in _QUERIES or len(node.args) <= _QUERIES[function]:
        return set()
    argument = node.args[_QUERIES[function]]
    value = argument.value if isinstance(argument, ast.Constant) else None
    value = constants.get(argument.id) if isinstance(argument, ast.Name) else value
    return {value} if isinstance(value, str) else set()


def _queries(module: str, root: Path) -> set[str]:
    """Returns the files of named queries that a module names."""
    names = _read(module, root).queries
    return {name for name in names if (root / "sql" / "queries" / f"{name}.sql").exists()}


def _path(module: str, root: Path) -> Path:
    base = root.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _templates(module: str, root: Path) -> list[Path]:
    path = _path(module, root)
    folder = path.parent / "templates"
    return sorted(file for file in folder.rglob("*") if file.is_file()) if path.name == "__init__.py" else []


def _file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"


def _short(value: Any) -> str:
    text = canonical.dumps(value)
    return text if len(text) <= 80 else canonical.digest(value)
