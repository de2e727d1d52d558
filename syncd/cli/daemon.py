"""``run`` and ``demo``."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from syncd.cli.output import DialectName

SELDOM = (50_000, 20, 100)
"""How often rubbish is collected. By default the collector goes through everything so often while a batch of events
is held that it takes half of the time, and an eighth of it while modules are loaded; next to nothing that the daemon
makes is in a cycle."""


def run(context: typer.Context) -> None:
    """Run the daemon until SIGTERM; it finishes the calls under way and leaves nothing half done.

    Needs at least SYNCD_KAFKA__BOOTSTRAP_SERVERS, SYNCD_ION__ACCOUNT_ID and, the first time,
    SYNCD_ION__REFRESH_TOKEN. `syncd check` tries them all.
    """
    gc.set_threshold(*SELDOM)
    import asyncio

    from syncd import logs
    from syncd.app import run_daemon
    from syncd.settings import load

    gc.freeze()
    settings, _ = load(context.obj if isinstance(context.obj, Path) else None)
    logs.configure(settings.log.format, settings.log.level)
    asyncio.run(run_daemon(settings))


def demo(
    stay: Annotated[bool, typer.Option("--stay", help="Keep running afterwards, until Ctrl-C.")] = False,
    dialect: Annotated[DialectName, typer.Option(help="Which ION to simulate.")] = DialectName.LIVE,
) -> None:
    """See it work in half a minute: a simulated ION and CRM, a broker, and the real daemon between them."""
    import asyncio

    from syncd.sim.demo import run_demo

    raise typer.Exit(asyncio.run(run_demo(stay=stay, dialect=dialect.value)))
