"""The settings of an installation, read from the environment once, at the edge, and passed on as a value."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BadInput, nearest

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "docs" / "usecase.schema.json"  # of a usecase.yaml, for editors

VARIABLES: Mapping[str, str] = {
    "NIGHTSHIFT_HOME": "folder of all local state: embedded Postgres, artifacts, logins, Airflow (default .nightshift)",
    "NIGHTSHIFT_DATABASE_URL": "postgresql:// URL of a real server; unset, an embedded one runs under the home folder",
    "NIGHTSHIFT_ARTIFACTS": "path or fsspec URL of the artifact store (default: artifacts under the home folder)",
    "NIGHTSHIFT_USECASES": "folder of the use cases (default: usecases beside this package)",
    "NIGHTSHIFT_LOGINS": "folder with one password file per database role (default: logins under the home folder)",
    "NIGHTSHIFT_ANCHORS": "folder of the audit trail's anchors; best apart from the home folder (default: in it)",
    "NIGHTSHIFT_CHECKPOINTS": "folder of trainings' checkpoints (default: checkpoints under the home folder); GPU "
    "workers that share it go on from where another was killed",
    "NIGHTSHIFT_DEVICE": "auto, cpu or cuda: where models run (default auto)",
    "NIGHTSHIFT_TORCH": "read by `make install` alone: which torch to install, e.g. torch==2.13.0",
    "NIGHTSHIFT_AIRFLOW_PORT": "port of the Airflow that `make up` starts (default: a free one)",
}


@dataclass(frozen=True)
class Settings:
    """One installation. Paths are absolute; nothing below the edge reads the environment."""

    home: Path
    usecases: Path
    artifacts: str  # an fsspec URL or a path
    logins: Path
    database_url: str | None = None
    device: str = "auto"
    airflow_port: int | None = None
    anchors_folder: Path | None = None
    checkpoints_folder: Path | None = None

    @property
    def anchors(self) -> Path:
        """Returns the folder of the audit trail's anchors: out of reach of whoever owns the home folder, best."""
        return self.anchors_folder or self.home / "anchors"

    @property
    def checkpoints(self) -> Path:
        """Returns the folder of the checkpoints that killed trainings go on from."""
        return self.checkpoints_folder or self.home / "checkpoints"

    @property
    def pgdata(self) -> Path:
        """Returns the data folder of the embedded Postgres."""
        return self.home / "postgres"

    @property
    def superuser_file(self) -> Path:
        """Returns the file with the superuser's password, which `db upgrade` alone reads."""
        return self.home / "superuser"

    @property
    def models(self) -> Path:
        """Returns the folder of the base models that were pulled."""
        return self.home / "models"

    @property
    def scratch(self) -> Path:
        """Returns the folder for files that no one needs after a crash."""
        return self.home / "scratch"

    def environment(self) -> dict[str, str]:
        """Returns the variables that make a child process see the same installation."""
        values = {
            "NIGHTSHIFT_HOME": str(self.home),
            "NIGHTSHIFT_USECASES": str(self.usecases),
            "NIGHTSHIFT_ARTIFACTS": self.artifacts,
            "NIGHTSHIFT_LOGINS": str(self.logins),
            "NIGHTSHIFT_DEVICE": self.device,
        }
        if self.database_url:
            values["NIGHTSHIFT_DATABASE_URL"] = self.database_url
        if self.anchors_folder:
            values["NIGHTSHIFT_ANCHORS"] = str(self.anchors_folder)
        if self.checkpoints_folder:
            values["NIGHTSHIFT_CHECKPOINTS"] = str(self.checkpoints_folder)
        return values


def from_environment(environ: Mapping[str, str] | None = None) -> Settings:
    """Returns the settings in force.

    Raises BadInput for a NIGHTSHIFT_ variable that does not exist or has no valid value.
    """
    values = dict(os.environ if environ is None else environ)
    for name in values:
        if name.startswith("NIGHTSHIFT_") and name not in VARIABLES:
            raise BadInput("unknown setting", where=f"environment variable {name}", allowed=nearest(name, VARIABLES))
    anchors, checkpoints = values.get("NIGHTSHIFT_ANCHORS"), values.get("NIGHTSHIFT_CHECKPOINTS")
    home = Path(values.get("NIGHTSHIFT_HOME") or ROOT / ".nightshift").expanduser().absolute()
    artifacts = values.get("NIGHTSHIFT_ARTIFACTS") or str(home / "artifacts")
    if "://" not in artifacts:
        artifacts = str(Path(artifacts).expanduser().absolute())
    return Settings(
        home=home,
        usecases=Path(values.get("NIGHTSHIFT_USECASES") or ROOT / "usecases").expanduser().absolute(),
        artifacts=artifacts,
        logins=Path(values.get("NIGHTSHIFT_LOGINS") or home / "logins").expanduser().absolute(),
        database_url=_database_url(values.get("NIGHTSHIFT_DATABASE_URL")),
        device=_device(values.get("NIGHTSHIFT_DEVICE") or "auto"),
        airflow_port=_port(values.get("NIGHTSHIFT_AIRFLOW_PORT")),
        anchors_folder=Path(anchors).expanduser().absolute() if anchors else None,
        checkpoints_folder=Path(checkpoints).expanduser().absolute() if checkpoints else None,
    )


def _database_url(value: str | None) -> str | None:
    if value and not value.startswith(("postgresql://", "postgres://")):
        raise BadInput(
            "the database URL has another scheme",
            where="environment variable NIGHTSHIFT_DATABASE_URL",
            found=value.split(":", 1)[0] + ":…",
            allowed="postgresql://[user[:password]@]host[:port]/database",
        )
    return value or None


def _device(value: str) -> str:
    if value not in ("auto", "cpu", "cuda"):
        raise BadInput(
            "unknown device", where="environment variable NIGHTSHIFT_DEVICE", found=value, allowed="auto, cpu, cuda"
        )
    return value


def _port(value: str | None) -> int | None:
    if not value:
        return None
    if not value.isdigit() or not 1 <= int(value) <= 65535:
        raise BadInput(
            "not a port", where="environment variable NIGHTSHIFT_AIRFLOW_PORT", found=value, allowed="1 to 65535"
        )
    return int(value)


def write_secret(path: Path, value: str) -> None:
    """Writes a file that its owner alone can read; it never exists with wider rights, nor half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(value)
    part.replace(path)


def secret(path: Path) -> str:
    """Returns the secret in `path`, made at random on first use."""
    if not path.exists():
        write_secret(path, secrets.token_urlsafe(32))
    return path.read_text().strip()
