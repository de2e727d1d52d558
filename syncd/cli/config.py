"""``config``: what is in force and where it came from."""

from __future__ import annotations

from pathlib import Path

import typer

from syncd.cli.output import AsJson, print_json, print_table

app = typer.Typer(help="The configuration.", no_args_is_help=True)


@app.command("show")
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Every key with its value in force and its origin; secrets masked."""
    from syncd.settings import PREFIX, effective, load

    settings, origins = load(context.obj if isinstance(context.obj, Path) else None)
    rows = [(PREFIX + key, value, origins.get(key, "default")) for key, value in effective(settings)]
    if as_json:
        print_json({key: {"value": value, "origin": origin} for key, value, origin in rows})
    else:
        print_table(("key", "value", "origin"), rows, "")


@app.command("schema")
def schema() -> None:
    """JSON Schema of the configuration file."""
    from syncd.settings import Settings

    print_json(Settings.model_json_schema())


@app.command("new-key")
def new_key_command() -> None:
    """Make a key for SYNCD_SECRET_KEY."""
    from syncd.settings import new_key

    typer.echo(new_key())
