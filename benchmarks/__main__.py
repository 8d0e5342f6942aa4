"""`make bench`: runs every benchmark and prints its table. benchmarks/README.md keeps the dated ones."""

from benchmarks import dag_files, question

for benchmark in (dag_files, question):
    print(benchmark.table(), end="\n\n")  # noqa: T201
