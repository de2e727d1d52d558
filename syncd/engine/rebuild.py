"""A lost database, put together again from the links topic, the events topic and one listing (S15).

Nothing is created and nothing is written to either side: links come back with their states, records
from history and from ION, and what was agreed on from the fingerprints in the link records. Until it
has come to its end no daemon runs on the database; a rebuild that was broken off is begun again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from syncd.core.errors import UserError
from syncd.core.link import How, Link, LinkState
from syncd.core.record import Record
from syncd.core.restore import LOST, Print, restored_base, restored_spellings
from syncd.core.values import CrmId, Field, IonId, Millis, Side, Value
from syncd.engine.intake import RawEvent
from syncd.engine.links import print_bytes
from syncd.engine.ports import Store, Unit

NOTE = "rebuild"
BEGUN, DONE = "begun", "done"
AT_ONCE = 500


@dataclass(slots=True)
class Rebuilt:
    """What came back, and what did not."""

    links: int = 0
    unusable: list[str] = field(default_factory=list)
    """Link records that can't be read, as topic coordinates."""
    events: int = 0
    ion_customers: int = 0
    without_event: int = 0
    """Linked customers of whom the events topic says nothing any more: they wait for their next event."""
    lost: int = 0
    """Agreed values that nobody holds any more."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A link record, as the topic has it."""

    link: Link
    agreed: Mapping[Field, str]
    spelt: Mapping[tuple[Side, Field], str]


async def is_unfinished(store: Store) -> bool:
    async with store.begin() as unit:
        return await unit.note(NOTE) == BEGUN


async def begin(store: Store) -> None:
    """Raises a ``UserError`` where there is something that a rebuild would hide."""
    async with store.begin() as unit:
        if await unit.note(NOTE) != BEGUN and (await unit.count_links() or await unit.pending()):
            raise UserError(
                "this database is in use: a rebuild is for one that was lost. Give SYNCD_DATABASE__URL an empty one"
            )
        await unit.save_note(NOTE, BEGUN)


async def end(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_note(NOTE, DONE)


def take_links(remembered: dict[str, Remembered], records: Iterable[RawEvent], rebuilt: Rebuilt) -> None:
    """Fold link records in, oldest first: the last of a key counts, and an empty one removes the link."""
    for record in records:
        key = (record.key or b"").decode(errors="replace")
        if record.value is None:
            remembered.pop(key, None)
            continue
        try:
            told = remembered_link(orjson.loads(record.value))
        except (ValueError, KeyError, TypeError, AttributeError):
            rebuilt.unusable.append(f"{record.topic}/{record.partition}/{record.offset}")
            continue
        remembered[told.link.crm_id] = told


def remembered_link(told: Mapping[str, Any]) -> Remembered:
    """Raises a ``ValueError``, ``KeyError``, ``TypeError`` or ``AttributeError`` for what is no link record."""
    state, how = LinkState(told["state"]), How(told["how"])
    link = Link(CrmId(str(told["crm_id"])), IonId(str(told["ion_id"])), state, how, Millis(int(told["since"])), {})
    agreed = {Field(name): str(mark) for name, mark in told["agreed"].items()}
    spelt = {
        (Side(side), Field(name)): str(mark)
        for side, names in (told.get("spelt") or {}).items()
        for name, mark in names.items()
    }
    return Remembered(link, agreed, spelt)


async def restore(
    store: Store,
    remembered: Mapping[str, Remembered],
    fingerprints: Callable[[bytes], list[str]],
    rebuilt: Rebuilt,
    step: Callable[[int, int], None],
) -> None:
    """Store the links, with the bases that the records of both sides let us find."""
    chosen = list(remembered.values())
    for start in range(0, len(chosen), AT_ONCE):
        async with store.begin() as unit:
            await _restore_some(unit, chosen[start : start + AT_ONCE], fingerprints, rebuilt)
        step(min(start + AT_ONCE, len(chosen)), len(chosen))


async def _restore_some(
    unit: Unit, some: list[Remembered], fingerprints: Callable[[bytes], list[str]], rebuilt: Rebuilt
) -> None:
    def print_of(value: Value) -> frozenset[str]:
        return frozenset(fingerprints(print_bytes(value)))

    crms = await unit.records(Side.CRM, [told.link.crm_id for told in some])
    ions = await unit.records(Side.ION, [told.link.ion_id for told in some])
    known = await unit.links(Side.CRM, [told.link.crm_id for told in some])
    for told in some:
        crm, ion = crms.get(told.link.crm_id), ions.get(told.link.ion_id)
        link = _with_base(told, crm, ion, print_of)
        await (unit.save_link if link.crm_id in known else unit.add_link)(link)
        rebuilt.links += 1
        rebuilt.without_event += crm is None
        rebuilt.lost += sum(value == LOST for value in link.base.values())


def _with_base(told: Remembered, crm: Record | None, ion: Record | None, print_of: Print) -> Link:
    base = restored_base(told.agreed, crm, ion, print_of)
    return replace(told.link, base=base, spellings=restored_spellings(told.spelt, base, crm, ion, print_of))
