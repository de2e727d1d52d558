"""``mcp``: a server for assistants over what a person can see and do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.output import with_store

if TYPE_CHECKING:
    from syncd.settings import Settings
    from syncd.store.sql import SqlStore


def mcp(
    context: typer.Context,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Let it plan writes; each is sent only once its plan is approved.")
    ] = False,
) -> None:
    """Serve the Model Context Protocol on standard input and output, for an assistant.

    Read-only without --allow-writes. Needs the extra `mcp`: `pip install syncd[mcp]`; the image has it.
    """
    try:
        import mcp.server  # noqa: F401
    except ImportError:
        from syncd.core.errors import UserError

        raise UserError("the extra `mcp` is not installed: `pip install 'syncd[mcp]'`") from None

    async def serve(store: SqlStore, settings: Settings) -> None:
        from syncd.app import desk_of, open_ion, store_clock
        from syncd.engine.guard import by_hand
        from syncd.ion.market import Market
        from syncd.mcp_server import PERSON, Plans, Tools, make_server

        async def ask_first(what: str, customer: str | None) -> None:
            async with store.begin() as unit:
                await by_hand(unit, what, customer, PERSON, await unit.time())

        async with open_ion(settings, store) as ion:
            market, plans = Market(ion, store, ask_first), Plans(await store_clock(store))
            tools = Tools(await desk_of(settings, store), market, store, plans)
            await make_server(tools, is_writing=allow_writes).run_stdio_async()

    with_store(context, serve, migrate=allow_writes)
