"""What both sides had agreed on, found again from keyed fingerprints after the database was lost (S15).

A fingerprint tells whether a value is the agreed one, and nothing else. What either side holds or has
held is tried; a value that nobody holds any more stays ``LOST``, which is like no value: so it is
still known that both sides have moved since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from syncd.core.link import Spelling
from syncd.core.record import Record
from syncd.core.values import Field, Side, Value

LOST = "(lost)"
"""Stands in the base for an agreed value that neither side has held since."""

Print = Callable[[Value], frozenset[str]]
"""A value's fingerprints, by each of the keys that may have made the one we compare with."""


def restored_base(
    agreed: Mapping[Field, str], crm: Record | None, ion: Record | None, print_of: Print
) -> dict[Field, Value]:
    return {name: _found(name, told, crm, ion, print_of) for name, told in agreed.items()}


def restored_spellings(
    spelt: Mapping[tuple[Side, Field], str],
    base: Mapping[Field, Value],
    crm: Record | None,
    ion: Record | None,
    print_of: Print,
) -> dict[tuple[Side, Field], Spelling]:
    """The spellings that a side still shows; another will be met, and remembered, again."""
    found = {}
    for (side, name), told in spelt.items():
        record = crm if side is Side.CRM else ion
        read = None if record is None else record.value(name)
        if told in print_of(read) and name in base:
            found[side, name] = Spelling(base[name], read)
    return found


def _found(name: Field, told: str, crm: Record | None, ion: Record | None, print_of: Print) -> Value:
    for value in _held(name, crm, ion):
        if told in print_of(value):
            return value
    return LOST


def _held(name: Field, *records: Record | None) -> Iterator[Value]:
    for record in records:
        if record is not None:
            yield from (sighting.value for sighting in record.registers.get(name, ()))
    yield None
