"""Commands about the installation: up, down, demo, db, new, doctor."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from pipeline import database
from pipeline.cli.context import settings
from pipeline.cli.output import Answer, command
from pipeline.errors import BadInput, NotAvailable


def register(app: typer.Typer) -> None:
    """Adds the commands of this module to the app."""
    command(app, "up")(up)
    command(app, "down")(down)
    command(app, "demo", ok=lambda answer: bool(answer["passed"]), view=lambda _: {})(demo)
    command(app, "doctor")(doctor)
    db = typer.Typer(no_args_is_help=True, help="The database: where it is, its schema, a prompt.")
    app.add_typer(db, name="db")
    command(db, "url")(db_url)
    command(db, "upgrade")(db_upgrade)
    db.command("psql")(db_psql)
    new = typer.Typer(no_args_is_help=True, help="Begin something new.")
    app.add_typer(new, name="new")
    command(new, "usecase")(new_usecase)


def up() -> object:
    """Start the database and Airflow, and wait until they answer."""
    from pipeline import services

    return services.up(settings())


def down() -> object:
    """Stop Airflow and the embedded database. Nothing of ours stays behind."""
    from pipeline import services

    return services.down(settings())


def demo(
    name: Annotated[str, typer.Argument(metavar="[USECASE]")] = "compliance",
    prompt: Annotated[bool, typer.Option(help="Ask a person for the approval, where there is a terminal.")] = True,
) -> Answer:
    """Run one night of a use case through Airflow, from documents to a promoted adapter and its packet."""
    from pipeline import demo as demo_module

    return demo_module.run(settings(), name, interactive=prompt and sys.stdin.isatty())


def doctor() -> Answer:
    """Say what is missing here, and how to get it."""
    from pipeline.operations import doctor as doctor_module

    checks = doctor_module.examine(settings())
    missing = [check for check in checks if not check.ok and check.needed]
    if missing:
        problems = "; ".join(f"{check.name}: {check.detail}" for check in missing)
        raise NotAvailable(
            f"not as it should be: {problems}", next_step="; ".join(str(check.next) for check in missing)
        )
    return {"checks": checks}


def db_url(
    role: Annotated[str, typer.Option(help="Whose login.")] = "reader",
) -> Answer:
    """Print where the database is, for a role; its password stays in its file."""
    in_force = settings()
    if role not in database.ROLES:
        raise BadInput("unknown role", found=role, allowed=", ".join(database.ROLES))
    return {"conninfo": f"{database.location(in_force)} user={role}", "password_file": str(in_force.logins / role)}


def db_upgrade() -> Answer:
    """Bring the schema up to this version and write the roles' logins. Starts the embedded server where none runs."""
    from pipeline.operations import migrations
    from pipeline.services import postgres

    in_force = settings()
    if not in_force.database_url:
        postgres.start(in_force)
    return {"applied": migrations.upgrade(in_force), "logins": str(in_force.logins)}


def db_psql(
    role: Annotated[str, typer.Option(help="Whose login.")] = "reader",
    arguments: Annotated[list[str] | None, typer.Argument(help="Further arguments for psql, after --.")] = None,
) -> None:
    """Open psql, logged in as a role (the reader, unless another is named)."""
    from pipeline.services import postgres

    in_force = settings()
    if role not in database.ROLES or not (in_force.logins / role).exists():
        print(f"nightshift: there is no login for {role} in {in_force.logins}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(2)
    environment = {**os.environ, "PGPASSWORD": (in_force.logins / role).read_text().strip()}
    done = subprocess.run(
        [str(postgres.programs() / "psql"), f"{database.location(in_force)} user={role}", *(arguments or [])],
        env=environment,
        check=False,
    )
    raise typer.Exit(done.returncode)


def new_usecase(name: str) -> Answer:
    """Begin a use case: a folder with a commented YAML that loads as it is."""
    from pipeline.operations.scaffold import new_usecase as scaffold

    return {"created": [str(path) for path in scaffold(settings(), name)]}
