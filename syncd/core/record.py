"""Records and registers: what a side was last seen to hold, and since when (S1, S2).

Rules
1. A *sighting* says that a value was held, from when (``first``) to when (``last``) it was seen.
2. A *register* is the set of sightings of one field, one a value, newest first. Merging takes
   the union, value by value the earliest ``first`` and the newest ``last``; so it is commutative,
   associative and idempotent: any order, any repetition, any replica give the same register.
3. The *stamp* is derived: the change to the newest value happened after the last sighting of any
   other value and not after its own first sighting. It may be wide, it is never wrong.
4. Once both sides agree, older values say nothing any more and are forgotten (``settle``).

Next in the flow: ``decide`` compares two records with the base.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cmp_to_key, partial
from operator import itemgetter
from typing import NamedTuple

from syncd.core.values import BEGINNING, Field, Millis, Side, Value

MAX_VALUES = 8
"""Values remembered for one field between two agreements; more would only sharpen a stamp."""

PRESENCE = "presence"
"""Not a field of the customer, yet a register like any: ``present`` or ``deleted``."""
ION_NOTE = "ion_id"
"""The CRM's own note of the ION customer."""
PRESENT, DELETED = "present", "deleted"


class Position(NamedTuple):
    """Where an observation stands among those of its customer and side."""

    version: int | None
    at: Millis
    offset: int


class Sighting(NamedTuple):
    value: Value
    first: Millis
    """End of the first observation that showed the value."""
    is_exact: bool
    """``first`` is the very moment of the change, not only an upper bound."""
    version: int | None
    at: Millis
    offset: int
    """Where the last observation that showed it stands, and when it began."""
    until: Millis
    """End of that last observation."""


_SIGHTING = partial(tuple.__new__, Sighting)
"""A sighting made of a tuple of its fields: twice as fast as by name, and millions are made."""


def compare(mine: Position | Sighting, theirs: Position | Sighting) -> int:
    """Which observation is the later one: by version where both have one, else by time, else by offset."""
    if mine.version != theirs.version and mine.version is not None and theirs.version is not None:
        return 1 if mine.version > theirs.version else -1
    if mine.at != theirs.at:
        return 1 if mine.at > theirs.at else -1
    return (mine.offset > theirs.offset) - (mine.offset < theirs.offset)


def sighted(value: Value, first: Millis, is_exact: bool, last: Position, until: Millis) -> Sighting:
    return Sighting(value, first, is_exact, *last, until)


class Stamp(NamedTuple):
    """The change happened no sooner than ``earliest`` and no later than ``latest``."""

    earliest: Millis
    latest: Millis


Register = tuple[Sighting, ...]


def _newest_first(mine: Sighting, theirs: Sighting) -> int:
    return compare(theirs, mine) or theirs.until - mine.until


def _same_value(mine: Sighting, theirs: Sighting) -> Sighting:
    value, first, is_exact, *last = mine
    _, their_first, their_exact, *their_last = theirs
    if their_first < first or (their_first == first and their_exact > is_exact):
        first, is_exact = their_first, their_exact
    is_last = last == their_last or (compare(mine, theirs) or mine.until - theirs.until) >= 0
    return _SIGHTING((value, first, is_exact, *(last if is_last else their_last)))


def register_of(sightings: Sequence[Sighting]) -> Register:
    """One a value, newest first."""
    if len(sightings) == 1:
        return tuple(sightings)
    merged: dict[Value, Sighting] = {}
    for sighting in sightings:
        known = merged.get(sighting.value)
        merged[sighting.value] = sighting if known is None else _same_value(known, sighting)
    return _sorted(merged.values())[:MAX_VALUES]


def join(mine: Register, theirs: Sequence[Sighting]) -> Register:
    """The union of a register and another, or of one and what was seen besides (rule 2)."""
    if len(mine) == len(theirs) == 1 and mine[0].value == theirs[0].value:
        return (_same_value(mine[0], theirs[0]),)
    return register_of((*mine, *theirs))


_PLACE = itemgetter(*map(Sighting._fields.index, ("version", "at", "offset", "until")))


def _sorted(sightings: Collection[Sighting]) -> Register:
    """Newest first; what stands at one place, in the order of its values.

    Where all have a version, or none has, their places are compared as they are.
    """
    places = set(map(_PLACE, sightings))
    is_mixed = len({version is None for version, *_ in places}) > 1
    if is_mixed or len(places) < len(sightings):
        sightings = sorted(sightings, key=lambda sighting: repr(sighting.value), reverse=True)
    if is_mixed:
        return tuple(sorted(sightings, key=cmp_to_key(_newest_first)))
    return tuple(sorted(sightings, key=_PLACE, reverse=True))


def stamp_of(register: Register) -> Stamp:
    """When the newest value came to be (rule 3)."""
    top = register[0]
    after = max((other.at for other in register[1:]), default=BEGINNING)
    if top.first < after:  # the value came back: its first sighting is of an earlier life
        return Stamp(after, max(top.until, after))
    return Stamp(top.first, top.first) if top.is_exact else Stamp(after, top.first)


def settle(register: Register) -> Register:
    """Both sides agree on the newest value: the older ones are history (rule 4)."""
    return register[:1]


@dataclass(frozen=True, slots=True)
class Record:
    """What one side was last seen to hold of one customer."""

    side: Side
    customer_id: str
    registers: Mapping[str, Register]
    written_until: Millis = BEGINNING
    """End of our last confirmed write; what was asked for before that is no evidence against it."""
    modified: Millis | None = None
    """The side's own modification time of the newest reading, where it gives one."""
    own_modified: Millis | None = None
    """The modification time that our own last write caused."""
    missing_sweeps: int = 0
    """Complete sweeps in a row that did not list the customer (S10)."""
    created: Millis | None = None
    """When the side says that it made the customer, where it does."""
    row_version: int = 0
    """Counts stored changes; the store refuses to overwrite a newer one."""

    def value(self, name: str) -> Value:
        register = self.registers.get(name)
        return register[0].value if register else None

    def knows(self, name: str) -> bool:
        return name in self.registers

    def stamp(self, name: str) -> Stamp:
        return stamp_of(self.registers[name])

    def values(self) -> dict[Field, Value]:
        return {field: self.registers[field][0].value for field in Field if field in self.registers}

    def holds_as(self, other: Record) -> bool:
        """Both were last seen to hold the same; when, and what before, may differ."""
        mine, theirs = self.registers, other.registers
        return mine.keys() == theirs.keys() and all(mine[name][0].value == theirs[name][0].value for name in mine)

    @property
    def is_deleted(self) -> bool:
        return self.value(PRESENCE) == DELETED

    @property
    def noted_ion_id(self) -> str | None:
        note = self.value(ION_NOTE)
        return note if isinstance(note, str) else None


class Observation(NamedTuple):
    """This customer held these values on this side at this time.

    ``values`` holds what was said and nothing more: a name that is missing is unchanged.
    ``is_edit`` tells an edit, whose time is exact, from a snapshot, whose time is an upper bound.
    """

    side: Side
    customer_id: str
    values: Mapping[str, Value]
    position: Position
    is_edit: bool


class Reading(NamedTuple):
    """One answer of ION about one customer, asked for and answered in an interval of our clock."""

    ion_id: str
    values: Mapping[Field, Value]
    asked: Millis
    answered: Millis
    modified: Millis | None
    raw: Mapping[str, object]
    """The answer as it came, for the write that must keep what syncd does not map (S5)."""
    created: Millis | None = None
    """When ION says that it made the customer; rounded down to whole seconds."""


def new_record(side: Side, customer_id: str) -> Record:
    return Record(side, customer_id, {})


class Sightings:
    """What observations of one CRM customer say, taken in as they come.

    Most fields of most events say nothing new, so a sighting is made of a value only when it changes, or when other
    fields are told than before, or something older is.
    """

    __slots__ = ("_first", "_last", "_made", "count", "values")

    def __init__(self) -> None:
        self.count = 0
        """Observations that were taken in."""
        self._made: list[tuple[str, Sighting]] = []
        self.values: Mapping[str, Value] = {}
        """What the last observation told."""
        self._first: dict[str, Millis] = {}
        """Since when each of them has been told."""
        self._last: Observation | None = None

    def take(self, seen: Observation) -> None:
        self.count += 1
        last, values, before = self._last, seen.values, self.values
        if last is None or values.keys() != before.keys() or not _follows(last, seen):
            self._begin(seen)
            return
        for name, value in values.items():
            if value is not before[name] and value != before[name]:
                self._made.append((name, self._sighting(name, last)))
                self._first[name] = seen.position.at
        self.values, self._last = values, seen

    def by_name(self) -> dict[str, list[Sighting]]:
        """What was seen, as it came."""
        found: dict[str, list[Sighting]] = {name: [sighting] for name, sighting in self._open()}
        for name, sighting in self._made:
            found.setdefault(name, []).append(sighting)
        return found

    def _begin(self, seen: Observation) -> None:
        self._made += self._open()
        self.values, self._last = seen.values, seen
        self._first = dict.fromkeys(seen.values, seen.position.at)

    def _open(self) -> list[tuple[str, Sighting]]:
        last = self._last
        if last is None:
            return []
        first, is_edit, place = self._first, last.is_edit, (*last.position, last.position.at)
        return [(name, _SIGHTING((value, first[name], is_edit, *place))) for name, value in self.values.items()]

    def _sighting(self, name: str, last: Observation) -> Sighting:
        return _SIGHTING((self.values[name], self._first[name], last.is_edit, *last.position, last.position.at))


def _follows(last: Observation, seen: Observation) -> bool:
    """It is newer in each respect, so that of what both tell the first is the earlier and the last the later one."""
    mine, theirs = last.position, seen.position
    return last.is_edit == seen.is_edit and mine.at <= theirs.at and compare(theirs, mine) > 0


def observe(record: Record, observations: Iterable[Observation]) -> Record:
    """Fold a CRM customer's observations into its record, in any order."""
    sightings = Sightings()
    for seen in observations:
        sightings.take(seen)
    return fold(record, sightings)


def fold(record: Record, sightings: Sightings) -> Record:
    """The record with what else was seen; the same one comes back if that tells nothing new."""
    registers = dict(record.registers)
    for name, seen in sightings.by_name().items():
        registers[name] = join(registers.get(name, ()), seen)
    return record if registers == record.registers else replace(record, registers=registers)


def is_stale(record: Record, reading: Reading) -> bool:
    """Asked for before our last write ended, or answered with an older state than one we have seen."""
    if reading.asked < record.written_until:
        return True
    return reading.modified is not None and record.modified is not None and reading.modified < record.modified


def is_superseded(record: Record, reading: Reading) -> bool:
    """The record has seen another value since the reading was asked for."""
    return any(
        register[0].value != reading.values[name] and register[0].at > reading.asked
        for name in reading.values
        if (register := record.registers.get(name))
    )


def observe_reading(record: Record, reading: Reading, listed_at: Millis = BEGINNING) -> Record:
    """Fold one ION reading into the record; the same record comes back if it tells nothing new.

    ``listed_at``: start of the last complete sweep, which is known to have listed this customer
    with the values of the record, though nothing was stored then (a sweep that finds nothing new
    writes nothing).
    """
    if is_stale(record, reading):
        return record
    registers = dict(record.registers)
    for field, value in reading.values.items():
        register = registers.get(field, ())
        if register and register[0].value == value:
            continue
        if register and not record.missing_sweeps:
            register = _seen_again(register, min(listed_at, reading.asked))
        registers[field] = join(register, (_sighted(record, register, reading, value),))
    if registers == record.registers and record.modified == reading.modified and not record.missing_sweeps:
        return record
    created = record.created if reading.created is None else reading.created
    return replace(record, registers=registers, modified=reading.modified, missing_sweeps=0, created=created)


def _seen_again(register: Register, at: Millis) -> Register:
    top = register[0]
    if at <= top.at:
        return register
    return (top._replace(version=None, at=at, offset=0, until=max(at, top.until)), *register[1:])


def _sighted(record: Record, register: Register, reading: Reading, value: Value) -> Sighting:
    """The reading's own time is an upper bound; ION's ``updateTime`` inside the interval is exact,
    unless our own write moved it (S2)."""
    position = Position(None, reading.asked, 0)
    after = register[0].at if register else BEGINNING
    moment = reading.modified
    # ION rounds down to whole seconds: the true moment lies in [moment, moment + 999].
    if moment is not None and moment != record.own_modified and after <= moment + 999 <= reading.answered + 999:
        return sighted(value, max(moment, after), True, position, reading.answered)
    return sighted(value, reading.answered, False, position, reading.answered)


def observe_write(record: Record, values: Mapping[Field, Value], reading: Reading) -> Record:
    """Fold the receipt of our own write: ``values`` are held since the call's end (S5).

    ``reading`` is the answer of the call; its values stand in for what was sent wherever it has them.
    """
    registers = dict(record.registers)
    position = Position(None, reading.answered, 0)
    for field, sent in values.items():
        value = reading.values.get(field, sent)
        sighting = sighted(value, reading.answered, False, position, reading.answered)
        registers[field] = (sighting,) if record.value(field) != value else registers[field]
    return replace(
        record,
        registers=registers,
        written_until=reading.answered,
        modified=reading.modified if reading.modified is not None else record.modified,
        own_modified=reading.modified,
    )


def settle_fields(record: Record, fields: Iterable[Field]) -> Record:
    """Forget the older values of fields that both sides agree on."""
    crowded = [field for field in fields if len(record.registers.get(field, ())) > 1]
    if not crowded:
        return record
    registers = dict(record.registers)
    registers.update({field.value: settle(registers[field]) for field in crowded})
    return replace(record, registers=registers)
