"""What must hold in a simulated world, whatever happened: after every step, and at the end.

Each check compares what syncd stored with what the world knows itself: its own people's edits, the
journal of ION's calls, the log of the topic. None of them shares code with the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from syncd.sim.world import EDITABLE, SHOWN, Edit, World

FRESH_SECONDS = 10.0
CALL_SECONDS = 40.0
"""A reading is at most ten seconds old when its write begins; the write itself may take a timeout."""
SETTLE_SECONDS = 30.0
"""How long a create may still take effect in ION after its answer was lost."""
CERTAINLY_REFUSED = frozenset({400, 401, 403, 412, 429})
ORDER_SECONDS = 2.0
"""Two edits closer than this, and what the clocks of both sides differ by, can't be ordered."""


class Pair(NamedTuple):
    """A link, as the store has it."""

    crm_id: str
    ion_id: str
    state: str
    base: Mapping[str, Any]


class Loser(NamedTuple):
    """An archived value, as the store has it."""

    crm_id: str
    field: str
    value: Any


@dataclass(slots=True)
class Seen:
    """What the store holds, read in one transaction."""

    pairs: list[Pair]
    offsets: Mapping[int, int]
    versions: Mapping[str, Mapping[str, int]]
    """CRM id to field to the version of the event that its record's value comes from."""
    in_review: frozenset[str] = frozenset()
    """Who waits for a person to say whose it is, as ``crm:ID`` or ``ion:ID``."""
    losers: list[Loser] = field(default_factory=list)


class Checks:
    def __init__(self, world: World) -> None:
        self._world = world
        self._under_way: list[dict[str, Any]] = []
        self._made: dict[str, str] = {}
        """The e-mail address of a create to the ION customer that it made."""
        self._unsettled: dict[str, float] = {}
        """The e-mail address of a create to the end of its last try that may have taken effect."""
        self._stale_at = 0.0
        self._writes: dict[str, list[float]] = {}
        """ION id to when the whole-record writes to it ended."""
        self._checked: dict[int, int] = {}
        self._bases_seen: dict[str, Mapping[str, Any]] = {}

    def step(self, seen: Seen) -> Iterable[str]:
        """Violations that can be seen now."""
        yield from self._journal()
        yield from self._doubles()
        yield from self._bases(seen)
        yield from self._offsets(seen)
        yield from self._absences(seen)

    def end(self, seen: Seen) -> Iterable[str]:
        """What is wrong once the accidents have stopped and everything has come to rest."""
        yield from self.step(seen)
        yield from self.differences(seen)
        yield from self._lost_edits(seen)

    # -- after every step

    def _journal(self) -> Iterable[str]:
        """No window over the budget; no second create."""
        while self._world.account.journal:
            self._under_way.append(self._world.account.journal.popleft())
        ended = [entry for entry in self._under_way if "ended" in entry]
        self._under_way = [entry for entry in self._under_way if "ended" not in entry]
        for entry in ended:
            if entry.get("fault") == "stale":
                self._stale_at = entry["ended"]
            if entry["status"] == 429 and entry.get("fault") is None:
                yield f"budget: more than {self._world.calls_per_minute} calls reached ION in 60 s"
            sent, customer = entry.get("sent"), entry.get("customer")
            if entry.get("operation") == "create" and sent:
                yield from self._tried(sent["email"], entry)
                if customer:
                    yield from self._created(sent["email"], customer)
            if entry.get("is_needless") and self._world.dialect == "live":  # the other hides what it was given
                yield f"needless: ION customer {customer} was written as it was"
            if sent and customer:
                self._writes.setdefault(customer, []).append(entry["ended"])

    def _tried(self, email: str, entry: Mapping[str, Any]) -> Iterable[str]:
        """While nobody can know what became of a create, none is sent again."""
        if entry["at"] < self._unsettled.get(email, 0.0) + SETTLE_SECONDS:
            yield f"second create: {email} was sent again though nobody knew what became of the first"
        if self._made.get(email) in self._world.account.customers and not self._stale_since(email):
            yield f"second create: {email} was sent again though it is there as {self._made[email]}"
        if entry["status"] not in CERTAINLY_REFUSED:
            self._unsettled[email] = entry["ended"]

    def _stale_since(self, email: str) -> bool:
        """A listing that leaves out the newest customer and counts one less is a lie that nobody can see through."""
        return self._stale_at >= self._unsettled.get(email, 0.0)

    def _created(self, email: str, ion_id: str) -> Iterable[str]:
        if self._made.get(email) in self._world.account.customers:
            yield f"second create: {email} was created as {self._made[email]} and as {ion_id}"
        self._made[email] = ion_id

    def _doubles(self) -> Iterable[str]:
        for ion_id, crm_ids in self._world.crm.created_for.items():
            if len(crm_ids) > 1:
                yield f"second create: the CRM made {', '.join(crm_ids)} of ION customer {ion_id}"

    def _bases(self, seen: Seen) -> Iterable[str]:
        """No base that neither side ever held."""
        for pair in seen.pairs:
            if self._bases_seen.get(pair.crm_id) == pair.base:
                continue
            self._bases_seen[pair.crm_id] = pair.base
            for name in EDITABLE:
                value = pair.base.get(name)
                if value is not None and not self._was_held(pair, name, value):
                    yield f"base: {pair.crm_id}.{name} agreed on {value!r}, which neither side ever held"

    def _was_held(self, pair: Pair, name: str, value: Any) -> bool:
        world = self._world
        edits = (*world.edits.get(("crm", pair.crm_id, name), ()), *world.edits.get(("ion", pair.ion_id, name), ()))
        first = (world.first_values.get(pair.crm_id), world.first_values.get(pair.ion_id))
        held = [edit.value for edit in edits] + [values.get(name) for values in first if values]
        return any(_same(value, known) for known in held)

    def _absences(self, seen: Seen) -> Iterable[str]:
        """Nobody is taken for gone who is there."""
        for pair in seen.pairs:
            if pair.state == "missing-in-ion" and pair.ion_id in self._world.account.customers:
                yield f"absence: ION customer {pair.ion_id} is there, and {pair.crm_id} was told that it is gone"

    def _offsets(self, seen: Seen) -> Iterable[str]:
        """No offset ahead of the effect of what lies before it."""
        for partition, offset in seen.offsets.items():
            for entry in self._world.topic.partitions[partition][self._checked.get(partition, 0) : offset]:
                event = orjson.loads(entry.value or b"{}")
                known = seen.versions.get(event["id"], {})
                names = event.get("customer", {}) if event["type"] == "changed" else ()
                behind = [name for name in names if name in EDITABLE and known.get(name, -1) < event["version"]]
                if behind:
                    yield f"offsets: {offset} is stored, and {behind} of {event['id']} before it are not"
            self._checked[partition] = max(offset, self._checked.get(partition, 0))

    # -- at the end

    def differences(self, seen: Seen) -> Iterable[str]:
        """Both sides equal, everybody linked, nobody doubled."""
        world = self._world
        crm, ion = world.crm.customers, world.account.customers
        for pair in seen.pairs:
            if pair.crm_id not in crm or pair.ion_id not in ion:
                continue  # deleted here, gone there: it stands still
            for name in SHOWN[world.dialect]:
                mine, theirs = crm[pair.crm_id].get(name) or None, ion[pair.ion_id].get(name) or None
                if not _same(mine, theirs):
                    yield f"differs: {pair.crm_id}.{name} is {mine!r} in the CRM and {theirs!r} in ION"
        settled = {
            *seen.in_review,
            *(f"crm:{p.crm_id}" for p in seen.pairs),
            *(f"ion:{p.ion_id}" for p in seen.pairs),
        }
        for who in (*(f"crm:{crm_id}" for crm_id in crm), *(f"ion:{ion_id}" for ion_id in ion)):
            if who not in settled:
                yield f"forgotten: {who} is neither linked nor waiting for a person"

    def _lost_edits(self, seen: Seen) -> Iterable[str]:
        """The last edit of each side is there, or lost to a later one, or lies in the archive."""
        world = self._world
        archived = {(loser.crm_id, loser.field, loser.value) for loser in seen.losers}
        for pair in seen.pairs:
            if pair.crm_id not in world.crm.customers or pair.ion_id not in world.account.customers:
                continue
            for name in SHOWN[world.dialect]:
                mine = world.edits.get(("crm", pair.crm_id, name), [])
                theirs = world.edits.get(("ion", pair.ion_id, name), [])
                final = world.crm.customers[pair.crm_id].get(name)
                for edits, others in ((mine, theirs), (theirs, mine)):
                    if not edits or _same(final, edits[-1].value):
                        continue
                    edit = edits[-1]
                    is_later = any(
                        o.at > edit.at - ORDER_SECONDS - world.skew and _same(final, o.value) for o in others
                    )
                    is_kept = (pair.crm_id, name, edit.value) in archived
                    if not is_later and not is_kept and not self._was_overwritten_unseen(pair.ion_id, edit):
                        what = f"{pair.crm_id}.{name} = {edit.value!r}"
                        yield f"lost edit: {what}, made in {edit.side}; it is {final!r}"

    def _was_overwritten_unseen(self, ion_id: str, edit: Edit) -> bool:
        """ION has no conditional write: an edit made since the reading that a write was built on is lost."""
        if edit.side != "ion":
            return False
        longest = FRESH_SECONDS + CALL_SECONDS
        return any(edit.at <= ended <= edit.at + longest for ended in self._writes.get(ion_id, ()))


def _same(mine: Any, theirs: Any) -> bool:
    """ION may hand back a company in capitals (the accident ``respell``)."""
    return mine == theirs or (isinstance(mine, str) and isinstance(theirs, str) and mine.upper() == theirs.upper())
