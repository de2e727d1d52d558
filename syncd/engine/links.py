"""The link book: what changes in a link is stored and told to the compacted links topic at once (S15)."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from syncd.core.link import Link
from syncd.core.values import Value, value_to_json
from syncd.core.work import Message
from syncd.engine.ports import Unit

Fingerprint = Callable[[bytes], str]
"""A keyed hash: equal values give equal fingerprints, and nobody can read the value from it."""


class LinkBook:
    def __init__(self, topic: str, fingerprint: Fingerprint) -> None:
        self._topic = topic
        self._fingerprint = fingerprint

    async def save(self, unit: Unit, link: Link, was: Link) -> None:
        """Store the link; tell of it unless its record says the same as before."""
        await unit.save_link(link)
        if self.record(was) != self.record(link):
            await unit.post([self.message(link)])

    async def add(self, unit: Unit, link: Link) -> None:
        await unit.add_link(link)
        await unit.post([self.message(link)])

    async def remove(self, unit: Unit, link: Link) -> None:
        await unit.drop_link(link.crm_id)
        await unit.post([Message(self._topic, link.crm_id.encode(), None)])

    def message(self, link: Link) -> Message:
        return Message(self._topic, link.crm_id.encode(), orjson.dumps(self.record(link)))

    def record(self, link: Link) -> dict[str, object]:
        """The link record of the contract: base values, and spellings if there are any, only as fingerprints."""
        spelt: dict[str, dict[str, str]] = {}
        for (side, name), spelling in sorted(link.spellings.items()):
            spelt.setdefault(side.value, {})[name.value] = self._print(spelling.read)
        record: dict[str, object] = {
            "crm_id": link.crm_id,
            "ion_id": link.ion_id,
            "state": link.state.value,
            "since": link.since,
            "how": link.how.value,
            "agreed": {name.value: self._print(value) for name, value in sorted(link.base.items())},
        }
        return {**record, "spelt": spelt} if spelt else record

    def _print(self, value: Value) -> str:
        return self._fingerprint(print_bytes(value))


def print_bytes(value: Value) -> bytes:
    """What of a value is fingerprinted."""
    return orjson.dumps(value_to_json(value), option=orjson.OPT_SORT_KEYS)
