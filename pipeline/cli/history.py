"""Commands that ask what happened: status, lineage, explain, packet, sql."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import usecase as usecase_module
from pipeline.cli.context import context_of, settings
from pipeline.cli.output import Answer, command
from pipeline.cli.stages import UseCaseName
from pipeline.errors import BadInput


def register(app: typer.Typer) -> None:
    """Adds the commands of this module to the app."""
    command(app, "status", ok=lambda answer: bool(answer["ok"]))(status)
    command(app, "lineage", view=lines)(lineage)
    command(app, "explain")(explain)
    command(app, "sql")(sql)
    packet = typer.Typer(no_args_is_help=True, help="Build, re-check and compare governance packets.")
    app.add_typer(packet, name="packet")
    command(packet, "build")(packet_build)
    command(packet, "verify", ok=lambda answer: bool(answer["verified"]))(packet_verify)
    command(packet, "diff")(packet_diff)


def status(
    name: Annotated[str | None, typer.Argument(metavar="[USECASE]")] = None,
    strict: Annotated[bool, typer.Option(help="Exit 1 when anything is older than the YAML allows.")] = False,
) -> object:
    """Show what is live, the last night, and what waits for a person."""
    from pipeline.operations import status as status_module

    in_force = settings()
    return status_module.status(in_force, usecase_module.find(in_force, name) if name else None, strict=strict)


Of = Annotated[str | None, typer.Option("--usecase", help="Refuse what is of another use case.")]


def lineage(
    ref: Annotated[str, typer.Argument(help="A digest's beginning, a version's id, decision:N or deployment:N.")],
    down: Annotated[bool, typer.Option("--down", help="What it went into, instead of what it was made from.")] = False,
    usecase: Of = None,
) -> object:
    """Show what an artifact was made from, or what it went into."""
    from pipeline.operations import lineage_graph

    return lineage_graph.lineage(settings(), ref, down=down, use_case=usecase)


def lines(lineage_graph: Answer) -> Answer:
    """Returns a graph as a person reads it: an artifact a line, the root first, with what made it and out of what."""
    origins: dict[int, list[str]] = {}
    for edge in lineage_graph["edges"]:
        origins.setdefault(edge["target"], []).append(str(edge["source"]))
    nodes = sorted(
        lineage_graph["nodes"], key=lambda node: node["version_id"], reverse=lineage_graph["direction"] == "up"
    )
    described = []
    for node in nodes:
        named = f"{node['version_id']:>4}  {node['kind']} {node['name']} {node['digest'][:12]}"
        when = "" if node["started_at"] is None else node["started_at"][:16].replace("T", " ")
        origin = f"{node['job']} as {node['login']} for {node['requested_by']}, {when}" if node["job"] else "-"
        out_of = f", out of {', '.join(origins[node['version_id']])}" if node["version_id"] in origins else ""
        described.append(f"{named}: {origin}{out_of}")
    return {"root": lineage_graph["root"], "direction": lineage_graph["direction"], "artifacts": described}


def explain(run: Annotated[str, typer.Argument(help="A run's id.")], usecase: Of = None) -> object:
    """Say which part of a run's cache key differs from the run before it."""
    from pipeline.operations import lineage_graph

    return lineage_graph.explain(settings(), run, usecase)


def sql(
    name: Annotated[str | None, typer.Argument(help="A query of sql/queries/cookbook.sql; none lists them.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", help="k=v, as often as needed.")] = None,
) -> Answer:
    """Run a cookbook query as the reader."""
    from pipeline.operations import cookbook

    if name is None:
        return {"queries": cookbook.names()}
    pairs = [pair.partition("=") for pair in param or []]
    for key, equals, _ in pairs:
        if not equals:
            raise BadInput("a parameter has the form k=v", found=key)
    return {"rows": cookbook.run(settings(), name, {key: value for key, _, value in pairs})}


def packet_build(
    name: UseCaseName,
    decision: Annotated[int | None, typer.Option(help="Which decision; default: the newest.")] = None,
) -> object:
    """Build the governance packet of a release decision."""
    from pipeline import governance

    context = context_of(name)
    return governance.packet(context, decision)


def packet_verify(
    file: Annotated[Path, typer.Argument(help="A packet's folder, or its zip.")],
    online: Annotated[bool, typer.Option("--online", help="Ask the database too whether it issued this one.")] = False,
) -> object:
    """Re-check every figure of a packet against its evidence, offline unless asked."""
    from pipeline import governance

    return governance.verify(file, settings() if online else None)


def packet_diff(before: Path, after: Path) -> object:
    """Compare two packets."""
    from pipeline import governance

    return governance.diff(before, after)
