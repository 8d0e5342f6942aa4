"""Peers that are no dependency of ours: each in a virtual environment of its own, made for one run."""

import subprocess
import sys
from pathlib import Path


class Missing(Exception):
    """A peer that cannot be installed; the message says why."""


def environment(folder: Path, *requirements: str) -> Path:
    """Returns the folder with the programs of a new virtual environment in which these are installed, by pip as this
    machine has it set up. Raises Missing where that fails."""
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements])
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:]
        raise Missing(f"{', '.join(requirements)} cannot be installed: {''.join(last) or error}") from None
    return folder / "bin"


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
