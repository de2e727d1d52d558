"""The simulated ION as a wire in the same process, for clients that need no socket; and a daemon before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from yarl import URL

from syncd.core.work import Message
from syncd.crm.kafka import KafkaSink
from syncd.daemon import Daemon, Outside, build, none_missing
from syncd.engine.clock import SharedClock
from syncd.engine.ports import Store
from syncd.ion.wire import Reply
from syncd.mapping import load_mapping
from syncd.metrics import Metrics
from syncd.settings import load
from syncd.sim.ion import Account, IonServer
from syncd.sim.wire import LocalIon


class LocalWire:
    def __init__(self, ion: LocalIon) -> None:
        self._ion = ion

    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], query: Mapping[str, str] | None, body: bytes | None
    ) -> Reply:
        return Reply(*await self._ion.exchange(method, url.path, query or {}, headers, body or b"", 30.0))


class Nowhere:
    async def send(self, messages: Sequence[Message]) -> None:
        """Taken."""


def local_daemon(
    account: Account,
    store: Store,
    clock: SharedClock,
    read_events: Callable[[Any, Any], Any],
    calls_per_minute: int,
    rng: Random,
    **more: str,
) -> Daemon:
    """All that the daemon is, with ION in memory and events from ``read_events``; what it sends is taken."""
    environ = {
        "SYNCD_KAFKA__BOOTSTRAP_SERVERS": "none",
        "SYNCD_ION__URL": "http://ion.simulated",
        "SYNCD_ION__ACCOUNT_ID": "20481",
        "SYNCD_ION__REFRESH_TOKEN": "initial-refresh-token",
        "SYNCD_ION__CALLS_PER_MINUTE": str(calls_per_minute),
        "SYNCD_SUBSCRIPTIONS__INTERVAL_SECONDS": "0",
        **more,
    }
    settings, _ = load(None, environ)
    mapping, posts = load_mapping(None), Nowhere()
    outside = Outside(
        store=store,
        clock=clock,
        wire=LocalWire(LocalIon(IonServer(account))),
        posts=posts,
        sink=KafkaSink(posts, "commands", mapping),
        reader=None,
        read_events=read_events,
        read_orders=None,
        read_contracts=None,
        missing_topics=none_missing,
        fingerprint=lambda data: "0",
        rng=rng,
        owner="me",
        idle_seconds=15.0,
    )
    return Daemon(build(settings, mapping, outside, Metrics()))
