"""The command line: one file a group of commands. Errors are one sentence on stderr.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 held or waiting for a person,
4 the two sides differ.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from syncd import __version__

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

DAEMON, LOOK, STEER, ION, SET_UP = "Run", "Look", "Steer", "The rest of ION", "Set up"


class Panels(TyperGroup):
    """Lists the commands by what they are for. Plain text: rich would take longer to import than all the rest."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = str(getattr(command, "rich_help_panel", None) or "Commands")
                panels.setdefault(panel, []).append((name, command.get_short_help_str(200)))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


app = typer.Typer(
    name="syncd",
    cls=Panels,
    help="Keeps customers in sync both ways between your CRM (over Kafka) and TD SYNNEX StreamOne ION.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"syncd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="TOML file; the environment (SYNCD_…) goes over it."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    context.obj = config


def main() -> None:
    """Run a command; what went wrong becomes one sentence and an exit code."""
    from syncd.cli.output import HELD
    from syncd.core.errors import BadConfiguration, Paused, StoreConflict, SyncdError

    try:
        app()
    except BadConfiguration as error:
        for line in error.sentence.splitlines():
            print(f"syncd: {line}", file=sys.stderr)
        sys.exit(2)
    except StoreConflict:
        print("syncd: the daemon was at the same customers all the while: try again", file=sys.stderr)
        sys.exit(1)
    except Paused as error:
        print(f"syncd: {error.sentence}", file=sys.stderr)
        sys.exit(HELD)
    except SyncdError as error:
        print(f"syncd: {error.sentence}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


from syncd.cli import config, daemon, ion, looks, mcp, recover, replay, review, setup, sim, steer, story, verify  # noqa: E402

app.command("run", rich_help_panel=DAEMON)(daemon.run)
app.command("demo", rich_help_panel=DAEMON)(daemon.demo)
app.command("check", rich_help_panel=DAEMON)(setup.check)
app.command("status", rich_help_panel=LOOK)(looks.status)
app.add_typer(review.app, name="links", rich_help_panel=STEER)
app.command("explain", rich_help_panel=LOOK)(story.explain)
app.command("conflicts", rich_help_panel=LOOK)(looks.conflicts)
app.command("undo", rich_help_panel=STEER)(story.undo)
app.add_typer(looks.letters, name="dead-letters", rich_help_panel=LOOK)
app.command("plan", rich_help_panel=STEER)(steer.plan)
app.command("approve", rich_help_panel=STEER)(steer.approve)
app.command("pause", rich_help_panel=STEER)(steer.pause)
app.command("resume", rich_help_panel=STEER)(steer.resume)
app.add_typer(steer.quarantine, name="quarantine", rich_help_panel=STEER)
app.command("verify", rich_help_panel=LOOK)(verify.verify)
app.command("erase", rich_help_panel=STEER)(verify.erase)
app.command("replay", rich_help_panel=STEER)(replay.replay)
app.command("rebuild", rich_help_panel=STEER)(recover.rebuild)
app.add_typer(ion.app, name="ion", rich_help_panel=ION)
app.command("mcp", rich_help_panel=ION)(mcp.mcp)
app.add_typer(setup.token, name="token", rich_help_panel=SET_UP)
app.add_typer(setup.db, name="db", rich_help_panel=SET_UP)
app.add_typer(config.app, name="config", rich_help_panel=SET_UP)
app.add_typer(sim.app, name="sim", rich_help_panel=SET_UP)
