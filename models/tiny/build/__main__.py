"""`make tiny-base`, or `python -m models.tiny.build --help`."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from models.tiny.build.build import build_base


def main() -> None:
    """Trains the model, with progress on standard error and its report as JSON on standard output."""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.build", description=(__doc__ or "").strip())
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1], help="where the model goes")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--tokens", type=int, default=12_000_000, help="how many tokens it is trained on")
    parser.add_argument("--processes", type=int, default=2, help="training processes of one thread each")
    given = parser.parse_args()
    report = build_base(
        given.out,
        seed=given.seed,
        tokens=given.tokens,
        processes=given.processes,
        log=lambda line: print(line, file=sys.stderr),  # noqa: T201
    )
    json.dump(asdict(report), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
