"""`make bench`: runs every benchmark and prints its table. benchmarks/README.md keeps the dated ones."""

from benchmarks import dag_files

print(dag_files.table())  # noqa: T201
