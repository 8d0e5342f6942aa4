"""The command line: `nightshift`, also `python -m pipeline`. Each command prints one thing; progress goes to stderr."""

from pipeline.cli.commands import app
from pipeline.cli.output import run


def main() -> None:
    """Runs the command line and exits: 0 done, 1 the answer is no, 2 wrong use or bad input, 3 something is missing,
    70 a fault of this product."""
    run(app)


__all__ = ["main"]
