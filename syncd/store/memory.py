"""The store in memory: the twin of the SQL one, for the simulator. Units run one after another.

A unit that fails is undone by its journal, so it is all or nothing here too.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Any, TypeVar

from syncd.core.budget import Ledger
from syncd.core.catalogue import Price, Product
from syncd.core.crowd import Crowd, Turn
from syncd.core.errors import LostLease, StoreConflict
from syncd.core.guard import GuardState, Tally, total_of
from syncd.core.intent import Intent, IntentState, Kind
from syncd.core.licences import Contract, Drift, Snapshot, Subscription
from syncd.core.likeness import blocks_of, nearest_of
from syncd.core.link import Link, LinkState
from syncd.core.listing import MISSING_SWEEPS, READ_THROUGH, SweepOutcome
from syncd.core.match import Candidate, Keys, keys_of, match_key
from syncd.core.order import Order, OrderState
from syncd.core.plan import Change, ChangeState
from syncd.core.record import Reading, Record
from syncd.core.values import Millis, Side, Subject
from syncd.core.verify import Divergence
from syncd.core.work import (
    FOR_GUARD,
    STEERED,
    Again,
    Claim,
    Conflict,
    DeadLetter,
    DecisionEntry,
    Erased,
    Hold,
    HoldKind,
    LogCheck,
    Message,
    Stage,
    Sweep,
    Tokens,
    Waiting,
    is_of,
)
from syncd.engine.ports import NO_TRACES, Loop
from syncd.store.bell import Bell


@dataclass(frozen=True, slots=True)
class _Queued:
    stage: Stage
    due: Millis
    since: Millis
    attempts: int = 0
    generation: int = 1
    fence: int = 0
    leased_until: Millis = Millis(0)
    trace: str | None = None
    shown: Millis = Millis(0)
    """When the last page was asked for that showed it while it waited."""


Found = TypeVar("Found")
DELIVERABLE = (IntentState.PREPARED, IntentState.SENT)


class MemoryStore:
    def __init__(self, rng: Random | None = None, clock: Callable[[], float] = time.time) -> None:
        self._tables: dict[str, dict[Any, Any]] = {}
        self._rng = rng or Random()
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._bell = Bell()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryUnit]:
        async with self._one_at_a_time:
            unit = MemoryUnit(self._tables, self._rng, self._clock)
            try:
                yield unit
            except BaseException:
                unit.undo()
                raise
        self._bell.ring(unit.rung)

    async def listen(self, ring: Callable[[Loop], None]) -> None:
        with self._bell.heard_by(ring):
            await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing to close; what was stored goes with the object."""


class MemoryUnit:
    def __init__(self, tables: dict[str, dict[Any, Any]], rng: Random, clock: Callable[[], float]) -> None:
        self._tables = tables
        self._rng = rng
        self._clock = clock
        self._journal: list[Callable[[], object]] = []
        self.rung = set[Loop]()

    def undo(self) -> None:
        while self._journal:
            self._journal.pop()()

    async def time(self) -> Millis:
        return Millis(int(self._clock() * 1000))

    # -- records and links

    async def records(self, side: Side, ids: Collection[str]) -> dict[str, Record]:
        table = self._table("records")
        return {key: table[side, key] for key in sorted(ids) if (side, key) in table}

    async def peek(self, side: Side, ids: Collection[str]) -> dict[str, Record]:
        return await self.records(side, ids)

    async def find(self, text: str, limit: int) -> list[Record]:
        found = [record for record in self._table("records").values() if _is_named(record, text)]
        found.sort(key=lambda record: (record.customer_id != text, record.side, record.customer_id))
        return found[:limit]

    async def save_records(self, records: Collection[Record]) -> None:
        for record in records:
            key = (record.side, record.customer_id)
            if not record.row_version and key in self._table("records"):
                raise StoreConflict
            self._put("records", key, replace(record, row_version=record.row_version + 1))

    async def look_alikes(self, customer: Record, side: Side) -> list[Record]:
        ion_id = customer.customer_id if customer.side is Side.ION else customer.noted_ion_id
        keys = keys_of(customer)
        return [record for record in self._unlinked(side) if _is_alike(record, keys, ion_id)][:50]

    async def neighbours(self, customer: Record, side: Side) -> list[Record]:
        unlinked = {record.customer_id: record for record in self._unlinked(side)}
        members: dict[str, list[str]] = {block: [] for block in blocks_of(customer)}
        for record in unlinked.values():
            for block in members.keys() & set(blocks_of(record)):
                members[block].append(record.customer_id)
        return [unlinked[customer_id] for customer_id in nearest_of(members.values())]

    def _unlinked(self, side: Side) -> list[Record]:
        linked = {link.crm_id if side is Side.CRM else link.ion_id for link in self._table("links").values()}
        return [
            record
            for (its_side, customer_id), record in sorted(self._table("records").items())
            if its_side is side and customer_id not in linked
        ]

    async def created_between(self, start: Millis, end: Millis) -> list[Record]:
        linked = {link.ion_id for link in self._table("links").values()}
        return [
            record
            for (side, customer_id), record in sorted(self._table("records").items())
            if side is Side.ION and customer_id not in linked
            if record.created is not None and start <= record.created <= end
        ]

    async def note_missing(self, listed: Collection[str], before: Millis) -> list[str]:
        due = []
        for (side, customer_id), record in sorted(self._table("records").items()):
            if side is not Side.ION or record.written_until >= before or customer_id in listed:
                continue
            if record.missing_sweeps < MISSING_SWEEPS:
                count = record.missing_sweeps + 1
                seen = replace(record, missing_sweeps=count, row_version=record.row_version + 1)
                self._put("records", (Side.ION, customer_id), seen)
                due += [customer_id] if count == MISSING_SWEEPS else []
        return due

    async def links(self, side: Side, ids: Collection[str]) -> dict[str, Link]:
        links = self._table("links")
        if side is Side.CRM:
            return {key: links[key] for key in ids if key in links}
        wanted = set(ids)
        return {link.ion_id: link for link in links.values() if link.ion_id in wanted}

    async def add_link(self, link: Link) -> None:
        if link.crm_id in self._table("links"):
            raise StoreConflict
        await self.save_link(link)

    async def save_link(self, link: Link) -> None:
        taken = (await self.links(Side.ION, [link.ion_id])).get(link.ion_id)
        if taken is not None and taken.crm_id != link.crm_id:
            raise StoreConflict
        self._put("links", link.crm_id, link)

    async def drop_link(self, crm_id: str) -> None:
        self._drop("links", crm_id)

    async def reject(self, crm_id: str, ion_id: str) -> None:
        self._put("rejections", (crm_id, ion_id), True)

    async def unreject(self, crm_id: str, ion_id: str) -> None:
        self._drop("rejections", (crm_id, ion_id))

    async def rejected(self, customer: Record) -> set[str]:
        mine, other = (0, 1) if customer.side is Side.CRM else (1, 0)
        return {pair[other] for pair in self._table("rejections") if pair[mine] == customer.customer_id}

    async def list_links(self, state: LinkState | None, after: str, limit: int) -> list[Link]:
        links = sorted(self._table("links").values(), key=lambda link: link.crm_id)
        return [link for link in links if link.crm_id > after and state in (None, link.state)][:limit]

    async def count_links(self) -> dict[LinkState, int]:
        return _counted(link.state for link in self._table("links").values())

    # -- intents, conflicts, the log of decisions

    async def intents(self, ids: Collection[str]) -> dict[str, Intent]:
        table = self._table("intents")
        return {key: table[key][0] for key in ids if key in table}

    async def open_intents(self, subject: Subject) -> list[Intent]:
        mine = [intent for intent, _ in self._table("intents").values() if intent.subject == subject]
        return sorted((intent for intent in mine if intent.state.is_open), key=lambda intent: intent.at)

    async def open_creates(self, side: Side) -> list[Intent]:
        every = [intent for intent, _ in self._table("intents").values()]
        return [i for i in every if i.state.is_open and i.side is side and i.kind is Kind.CREATE]

    async def commands_due(self, now: Millis, limit: int) -> list[Intent]:
        due = [intent for intent, deliver_at in self._deliverable() if deliver_at <= now]
        return sorted(due, key=lambda intent: intent.at)[:limit]

    async def next_command_due(self) -> Millis | None:
        return min((deliver_at for _, deliver_at in self._deliverable()), default=None)

    def _deliverable(self) -> list[tuple[Intent, Millis]]:
        return [
            (intent, deliver_at)
            for intent, deliver_at in self._table("intents").values()
            if intent.side is Side.CRM and intent.state in DELIVERABLE and deliver_at is not None
        ]

    async def unknown_commands(self, before: Millis) -> list[Intent]:
        unknown = [i for i, _ in self._table("intents").values() if i.state is IntentState.UNKNOWN]
        return [intent for intent in unknown if intent.side is Side.CRM and intent.changed_at < before]

    async def recent_intents(self, subject: Subject, since: Millis) -> list[Intent]:
        every = [intent for intent, _ in self._table("intents").values()]
        return [intent for intent in every if intent.subject == subject and intent.changed_at > since]

    async def save_intent(self, intent: Intent, deliver_at: Millis | None = None) -> None:
        if deliver_at is not None:
            self.rung.add(Loop.SEND_COMMANDS)
        self._put("intents", intent.id, (intent, deliver_at))

    async def count_open_intents(self) -> dict[tuple[Side, IntentState], tuple[int, Millis]]:
        found: dict[tuple[Side, IntentState], tuple[int, Millis]] = {}
        for intent, _ in self._table("intents").values():
            if intent.state.is_open:
                key = (intent.side, intent.state)
                count, oldest = found.get(key, (0, intent.at))
                found[key] = (count + 1, min(oldest, intent.at))
        return found

    async def archive(self, conflicts: Collection[Conflict]) -> None:
        for conflict in conflicts:
            self._put("conflicts", conflict.id, conflict)

    async def list_conflicts(self, crm_id: str | None, before: Millis | None, limit: int) -> list[Conflict]:
        conflicts = sorted(self._table("conflicts").values(), key=lambda conflict: (-conflict.at, conflict.id))
        mine = [
            conflict
            for conflict in conflicts
            if crm_id in (None, conflict.crm_id) and (before is None or conflict.at < before)
        ]
        return _page(mine, limit, lambda conflict: conflict.at)

    async def conflict(self, conflict_id: str) -> Conflict | None:
        return self._table("conflicts").get(conflict_id)

    async def save_divergences(self, found: Collection[Divergence]) -> None:
        for crm_id in [*self._table("divergences")]:
            self._drop("divergences", crm_id)
        for divergence in found:
            self._put("divergences", divergence.crm_id, divergence)

    async def divergences(self) -> list[Divergence]:
        return [divergence for _, divergence in sorted(self._table("divergences").items())]

    async def story(self, crm_id: str | None, ion_id: str | None, limit: int) -> list[DecisionEntry]:
        mine = [
            entry
            for _, entry in sorted(self._table("decisions").items(), reverse=True)
            if (crm_id is not None and entry.crm_id == crm_id) or (ion_id is not None and entry.ion_id == ion_id)
        ]
        return mine[:limit]

    async def check_log(self, after: int, limit: int) -> LogCheck:
        """Nobody can get at it: all is as it was written."""
        rows = [(n, entry) for n, entry in sorted(self._table("decisions").items()) if n > after][:limit]
        erased = sum(not entry.detail for _, entry in rows)
        return LogCheck(rows[-1][0] if rows else None, len(rows), erased, 0, [])

    async def erase(self, subject: Subject, crm_id: str | None, ion_id: str | None) -> Erased:
        both = (subject, f"ion:{ion_id}")
        mine = [
            (n, entry)
            for n, entry in self._table("decisions").items()
            if (crm_id is not None and entry.crm_id == crm_id) or (ion_id is not None and entry.ion_id == ion_id)
        ]
        for n, entry in mine:
            self._put("decisions", n, replace(entry, detail={}))
        conflicts = [c.id for c in self._table("conflicts").values() if c.crm_id == crm_id]
        letters = [n for n, x in self._table("letters").items() if crm_id is not None and is_of(x, crm_id)]
        for table, keys in (("conflicts", conflicts), ("letters", letters)):
            for key in keys:
                self._drop(table, key)
        for change in self._changes():
            if change.subject in both:
                self._put("changes", change.id, replace(change, set={}, expect={}, base={}, why={}))
        for intent, _ in [*self._table("intents").values()]:
            if intent.subject in both and not intent.state.is_open:
                names = dict.fromkeys(intent.set)
                said = intent.answer and "erased"
                blank = replace(intent, set=names, expect={}, why={}, answer=said, answered=None)
                self._put("intents", intent.id, (blank, None))
        for who in both:
            self._drop("readings", who)
        return Erased(len(mine), len(conflicts), len(letters))

    async def steered(self, limit: int) -> list[DecisionEntry]:
        entries = [entry for _, entry in sorted(self._table("decisions").items(), reverse=True)]
        return [entry for entry in entries if entry.subject == STEERED][:limit]

    async def log(self, entries: Collection[DecisionEntry]) -> None:
        for entry in entries:
            self._put("decisions", self._next_id("decisions"), entry)

    # -- changes and the guard

    async def changes_of(self, subject: Subject) -> list[Change]:
        return [change for change in self._changes() if change.subject == subject]

    async def save_change(self, change: Change) -> None:
        self.rung.add(Loop.JUDGE)
        self._put("changes", change.id, change)
        self._put("tallies", change.id, change.tally)  # asked for far more often than it changes

    async def drop_changes(self, ids: Collection[str]) -> None:
        for change_id in ids:
            self._drop("changes", change_id)
            self._drop("tallies", change_id)

    async def list_changes(self, after: str, limit: int) -> list[Change]:
        return [change for change in self._changes() if change.id > after][:limit]

    async def pass_changes(self, ids: Collection[str] | None, by: str, now: Millis) -> list[Subject]:
        wanted = None if ids is None else set(ids)
        subjects = dict[Subject, None]()
        for change in self._changes():
            if change.state is ChangeState.WAITING and (wanted is None or change.id in wanted):
                self._put("changes", change.id, replace(change, state=ChangeState.PASSED, by=by, at=now))
                subjects[change.subject] = None
        return list(subjects)

    async def withdraw_passes(self) -> None:
        for change in self._changes():
            if change.state is ChangeState.PASSED and not change.by:
                self._put("changes", change.id, replace(change, state=ChangeState.WAITING))

    async def forget_spent(self, before: Millis) -> None:
        for change in self._changes():
            if change.state is ChangeState.SPENT and change.at < before:
                await self.drop_changes([change.id])

    async def tally_changes(self, since: Millis) -> dict[ChangeState, Tally]:
        tallies, found = self._table("tallies"), dict[ChangeState, list[Tally]]()
        for change in self._table("changes").values():
            if not change.by and not (change.state is ChangeState.SPENT and change.at <= since):
                found.setdefault(change.state, []).append(tallies[change.id])
        return {state: total_of(each) for state, each in found.items()}

    async def count_changes(self, states: Collection[ChangeState], limit: int) -> int:
        return sum(islice((1 for change in self._table("changes").values() if change.state in states), limit))

    async def guard_state(self) -> GuardState:
        state: GuardState = self._table("single").get("guard", GuardState())
        return state

    async def save_guard_state(self, state: GuardState) -> None:
        self.rung |= {Loop.JUDGE, Loop.SEND_COMMANDS}
        self._put("single", "guard", state)

    def _changes(self) -> list[Change]:
        return [change for _, change in sorted(self._table("changes").items())]

    # -- the queue

    async def reserve(self, subjects: Collection[Subject]) -> None:
        """Units don't wait for each other here."""

    async def enqueue(
        self, subjects: Collection[Subject], now: Millis, traces: Mapping[Subject, str] = NO_TRACES
    ) -> None:
        for subject in dict.fromkeys(subjects):
            self.rung.add(Loop.DECIDE)
            known = self._table("queue").get(subject)
            if known is None:
                queued = _Queued(Stage.DECIDE, now, now)
            else:
                due = Millis(min(known.due, now))
                queued = replace(known, stage=Stage.DECIDE, due=due, generation=known.generation + 1, attempts=0)
            self._put("queue", subject, replace(queued, trace=traces.get(subject, queued.trace)))

    async def claim(
        self,
        stage: Stage,
        now: Millis,
        lease_ms: int,
        limit: int,
        turn: Turn | None = None,
        only: Collection[Subject] | None = None,
    ) -> list[Claim]:
        due = [
            (since, subject, queued)
            for since, subject, queued in self._free(now)
            if queued.stage is stage and (only is None or subject in only)
            if turn is None or self._has_turn(subject, queued, turn)
        ]
        claims = []
        if turn is not None:
            due.sort(key=lambda item: (item[2].shown <= turn.fresh, *item[:2]))
        else:
            due.sort(key=lambda item: item[:2])
        for since, subject, queued in due[:limit]:
            fence = self._rng.getrandbits(62) + 1
            self._put("queue", subject, replace(queued, fence=fence, leased_until=Millis(now + lease_ms)))
            claims.append(Claim(subject, stage, fence, queued.generation, since, queued.attempts, queued.trace))
        return claims

    async def newest(self, now: Millis, limit: int) -> list[Waiting]:
        free = sorted(self._free(now), key=lambda item: item[:2], reverse=True)
        return [Waiting(subject, queued.stage, since) for since, subject, queued in free[:limit]]

    def _free(self, now: Millis) -> list[tuple[Millis, Subject, _Queued]]:
        queue = self._table("queue").items()
        return [(q.since, subject, q) for subject, q in queue if q.due <= now and q.leased_until <= now]

    async def renew(self, claims: Collection[Claim], until: Millis) -> None:
        for claim in claims:
            queued = self._table("queue").get(claim.subject)
            if queued is not None and queued.fence == claim.fence:
                self._put("queue", claim.subject, replace(queued, leased_until=until))

    async def check(self, claim: Claim) -> None:
        queued = self._table("queue").get(claim.subject)
        if queued is None or queued.fence != claim.fence:
            raise LostLease

    async def finish(self, claim: Claim, again: Again | None = None) -> None:
        await self.check(claim)
        queued = self._table("queue")[claim.subject]
        if queued.generation != claim.generation:
            self.rung.add(Loop.DECIDE)
            self._put("queue", claim.subject, replace(queued, fence=0, leased_until=Millis(0)))
        elif again is None:
            self._drop("queue", claim.subject)
        else:
            self.rung.add(Loop.PUSH if again.stage is Stage.CALL else Loop.DECIDE)
            free = replace(queued, stage=again.stage, due=again.due, attempts=again.attempts)
            self._put("queue", claim.subject, replace(free, fence=0, leased_until=Millis(0)))

    async def unqueue(self, subject: Subject, now: Millis) -> None:
        queued = self._table("queue").get(subject)
        if queued is not None and queued.leased_until <= now:
            self._drop("queue", subject)

    async def next_due(self, stage: Stage) -> Millis | None:
        waiting = [queued for queued in self._table("queue").values() if queued.stage is stage]
        return min((max(queued.due, queued.leased_until) for queued in waiting), default=None)

    async def undecided(self, now: Millis, before: Millis, limit: int) -> int:
        due = (
            queued
            for queued in self._table("queue").values()
            if queued.stage is Stage.DECIDE and queued.due <= now and queued.since <= before
        )
        return sum(1 for _ in islice(due, limit))

    async def is_queued(self, subject: Subject) -> bool:
        return subject in self._table("queue")

    async def pending(self) -> dict[str, tuple[int, Millis]]:
        waiting = [(queued.stage.value, queued.since) for queued in self._table("queue").values()]
        changes = self._table("changes").values()
        waiting += [(FOR_GUARD, change.at) for change in changes if change.state is ChangeState.WAITING]
        found = dict[str, tuple[int, Millis]]()
        for place, since in waiting:
            count, oldest = found.get(place, (0, since))
            found[place] = (count + 1, min(oldest, since))
        return found

    async def crowd(self, turn: Turn, now: Millis, limit: int) -> Crowd:
        deciding = unshown = shown = 0
        for subject, queued in self._table("queue").items():
            is_new = turn.listed <= queued.due <= now and self._is_linked(subject)
            if queued.stage is Stage.DECIDE:
                deciding += is_new
            elif queued.shown > turn.fresh:
                shown += queued.due <= now
            else:
                unshown += is_new and queued.leased_until <= now
        return Crowd(min(deciding, limit), min(unshown, limit), min(shown, limit))

    async def keep_readings(self, readings: Collection[Reading], now: Millis) -> None:
        links = await self.links(Side.ION, [reading.ion_id for reading in readings])
        for reading in readings:
            link = links.get(reading.ion_id)
            queued = self._table("queue").get(f"crm:{link.crm_id}") if link is not None else None
            if link is None or queued is None or queued.due > now or queued.leased_until > now:
                continue
            subject = f"crm:{link.crm_id}"
            known = self._table("readings").get(subject)
            if known is None or known.asked < reading.asked:
                self._put("readings", subject, reading)
            queued = replace(queued, shown=max(queued.shown, reading.asked))
            if queued.stage is Stage.CALL:
                queued = replace(queued, due=reading.answered)
                self.rung.add(Loop.PUSH)
            self._put("queue", subject, queued)

    async def reading_of(self, subject: Subject) -> Reading | None:
        return self._table("readings").get(subject)

    async def drop_readings(self, before: Millis) -> None:
        for subject in [key for key, reading in self._table("readings").items() if reading.asked < before]:
            self._drop("readings", subject)

    def _has_turn(self, subject: str, queued: _Queued, turn: Turn) -> bool:
        is_shown = queued.shown > turn.fresh
        if turn.is_only_for_shown or is_shown:
            return is_shown
        return queued.due < turn.listed or queued.due <= turn.late or not self._is_linked(subject)

    def _is_linked(self, subject: str) -> bool:
        side, _, crm_id = subject.partition(":")
        return side == Side.CRM.value and crm_id in self._table("links")

    # -- who waits for a person

    async def hold(self, hold: Hold) -> None:
        before = self._table("holds").get((hold.subject, hold.kind))
        is_same = before is not None and (before.reason, before.fields) == (hold.reason, hold.fields)
        self._put("holds", (hold.subject, hold.kind), before if is_same else hold)

    async def release(self, subject: Subject, kinds: Collection[HoldKind] = tuple(HoldKind)) -> None:
        for kind in kinds:
            self._drop("holds", (subject, kind))
        if HoldKind.REVIEW in kinds:
            self._drop("candidates", subject)

    async def list_holds(self, kinds: Collection[HoldKind], after: str, limit: int) -> list[Hold]:
        holds = [hold for _, hold in sorted(self._table("holds").items())]
        mine = [hold for hold in holds if hold.subject > after and hold.kind in kinds]
        return _page(mine, limit, lambda hold: hold.subject)

    async def holds_of(self, subject: Subject) -> list[Hold]:
        return [hold for (its, _), hold in sorted(self._table("holds").items()) if its == subject]

    async def count_holds(self) -> dict[HoldKind, int]:
        return _counted(hold.kind for hold in self._table("holds").values())

    async def save_candidates(self, subject: Subject, candidates: Collection[Candidate]) -> None:
        self._put("candidates", subject, tuple(candidates))

    async def candidates(self, subject: Subject) -> list[Candidate]:
        found = self._table("candidates").get(subject, ())
        return sorted(found, key=lambda candidate: (-candidate.score, candidate.crm_id, candidate.ion_id))

    # -- Kafka

    async def offsets(self, topic: str) -> dict[int, int]:
        return {part: offset for (name, part), (offset, _) in self._table("offsets").items() if name == topic}

    async def save_offsets(self, topic: str, offsets: Mapping[int, int], ends: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            _, known_end = self._table("offsets").get((topic, partition), (0, 0))
            end = ends.get(partition, max(offset, known_end))
            self._put("offsets", (topic, partition), (offset, end))
        for partition in ends.keys() - offsets.keys():
            known = self._table("offsets").get((topic, partition))
            if known is not None and known[1] < ends[partition]:
                self._put("offsets", (topic, partition), (known[0], ends[partition]))

    async def places(self, topic: str) -> dict[int, range]:
        return {part: range(*place) for (name, part), place in self._table("offsets").items() if name == topic}

    async def post(self, messages: Collection[Message]) -> None:
        for message in messages:
            self.rung.add(Loop.SEND_MESSAGES)
            number = self._next_id("messages")
            self._put("messages", number, replace(message, id=number))

    async def posted(self, limit: int, without: Collection[str] = ()) -> list[Message]:
        waiting = [message for _, message in sorted(self._table("messages").items())]
        return [message for message in waiting if message.topic not in without][:limit]

    async def unpost(self, ids: Collection[int]) -> None:
        for number in ids:
            self._drop("messages", number)

    async def bury(self, letters: Collection[DeadLetter]) -> None:
        places = {(known.topic, known.partition, known.offset) for known in self._table("letters").values()}
        for letter in letters:
            if (letter.topic, letter.partition, letter.offset) not in places:
                number = self._next_id("letters")
                self._put("letters", number, replace(letter, id=number))

    async def list_dead_letters(self, before: int | None, limit: int) -> list[DeadLetter]:
        letters = sorted(self._table("letters").items(), reverse=True)
        return [letter for number, letter in letters if before is None or number < before][:limit]

    async def dead_letter(self, letter_id: int) -> DeadLetter | None:
        return self._table("letters").get(letter_id)

    async def unbury(self, letter_id: int) -> None:
        self._drop("letters", letter_id)

    # -- ION

    async def ledger(self) -> Ledger | None:
        return self._table("single").get("ledger")

    async def save_ledger(self, ledger: Ledger) -> None:
        self._put("single", "ledger", ledger)

    async def tokens(self) -> Tokens | None:
        return self._table("single").get("tokens")

    async def save_tokens(self, tokens: Tokens) -> None:
        self._put("single", "tokens", tokens)

    async def save_sweep(self, sweep: Sweep) -> None:
        self._put("sweeps", sweep.started, sweep)

    async def recent_sweeps(self, limit: int) -> list[Sweep]:
        return [sweep for _, sweep in sorted(self._table("sweeps").items(), reverse=True)][:limit]

    async def last_complete(self) -> Millis | None:
        complete = (s.started for s in self._table("sweeps").values() if s.outcome is SweepOutcome.COMPLETE)
        return max(complete, default=None)

    async def measuring_sweeps(self, limit: int) -> list[Sweep]:
        sweeps = [sweep for _, sweep in sorted(self._table("sweeps").items(), reverse=True)]
        mine = (s for s in sweeps if s.outcome in READ_THROUGH and not s.is_early and s.customers)
        return list(islice(mine, limit))

    async def products(self, ids: Collection[str]) -> dict[str, Product]:
        table = self._table("products")
        return {key: table[key] for key in ids if key in table}

    async def list_products(self, after: str, limit: int) -> list[Product]:
        rows = sorted(self._table("products").items())
        return [product for key, product in rows if key > after][:limit]

    async def save_products(self, products: Collection[Product], now: Millis) -> None:
        for product in products:
            self._put("products", product.id, product)

    async def add_prices(self, prices: Sequence[Price]) -> None:
        for price in prices:
            self._put("prices", (price.product, price.key, price.since), price)

    async def prices_of(self, product: str) -> list[Price]:
        return [price for key, price in sorted(self._table("prices").items()) if key[0] == product]

    async def subscriptions(self, ids: Collection[str]) -> dict[str, Subscription]:
        table = self._table("subscriptions")
        return {key: table[key] for key in ids if key in table}

    async def list_subscriptions(self, after: str, limit: int) -> list[Subscription]:
        return [one for key, one in sorted(self._table("subscriptions").items()) if key > after][:limit]

    async def save_subscriptions(self, subscriptions: Collection[Subscription], now: Millis) -> None:
        for one in subscriptions:
            self._put("subscriptions", one.id, one)

    async def add_drift(self, drift: Sequence[Drift]) -> None:
        for one in drift:
            self._put("drift", (one.at, one.subscription.id), one)

    async def drift_after(self, at: Millis) -> list[Drift]:
        return [one for key, one in sorted(self._table("drift").items()) if key[0] > at]

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        self._put("snapshots", snapshot.at, snapshot)

    async def snapshots(self, limit: int) -> list[Snapshot]:
        return [snapshot for _, snapshot in sorted(self._table("snapshots").items(), reverse=True)][:limit]

    async def save_contracts(self, contracts: Collection[Contract]) -> None:
        for one in contracts:
            if one.seats:
                self._put("contracts", (one.customer, one.sku), one)
            else:
                self._drop("contracts", (one.customer, one.sku))

    async def contracts(self) -> list[Contract]:
        return [one for _, one in sorted(self._table("contracts").items())]

    async def order(self, order_id: str) -> Order | None:
        return self._table("orders").get(order_id)

    async def save_order(self, order: Order) -> None:
        self._put("orders", order.id, order)
        if order.due is not None:
            self.rung.add(Loop.ORDERS)

    async def order_due(self, now: Millis) -> Order | None:
        due = [order for order in self._table("orders").values() if order.due is not None and order.due <= now]
        return min(due, key=lambda o: (o.state is OrderState.PLACED, o.due, o.id), default=None)

    async def next_order_due(self) -> Millis | None:
        return min((order.due for order in self._table("orders").values() if order.due is not None), default=None)

    async def list_orders(self, state: OrderState | None, after: str, limit: int) -> list[Order]:
        rows = [order for key, order in sorted(self._table("orders").items()) if key > after]
        return [order for order in rows if state in (None, order.state)][:limit]

    async def orders_of(self, customer: str) -> list[Order]:
        return [order for _, order in sorted(self._table("orders").items()) if order.customer == customer]

    async def count_orders(self) -> dict[OrderState, int]:
        return Counter(order.state for order in self._table("orders").values())

    async def ion_orders(self, ion_customer: str) -> set[str]:
        mine = (o for o in self._table("orders").values() if o.ion_customer == ion_customer)
        return {order.ion_order for order in mine if order.ion_order is not None}

    async def note(self, name: str) -> str | None:
        return self._table("notes").get(name)

    async def save_note(self, name: str, text: str) -> None:
        self._put("notes", name, text)

    async def lease(self, name: str, owner: str, now: Millis, lease_ms: int) -> bool:
        holder, until, progress = self._table("leases").get(name, (owner, Millis(0), 0))
        if holder != owner and until > now:
            return False
        self._put("leases", name, (owner, Millis(now + lease_ms), progress if holder == owner else 0))
        return True

    async def unlease(self, name: str, owner: str) -> None:
        holder, *_ = self._table("leases").get(name, (None,))
        if holder == owner:
            self._drop("leases", name)

    async def progress(self, name: str, now: Millis) -> int:
        _, until, progress = self._table("leases").get(name, ("", Millis(0), 0))
        return progress if until > now else 0

    async def save_progress(self, name: str, progress: int) -> None:
        if name in self._table("leases"):
            owner, until, _ = self._table("leases")[name]
            self._put("leases", name, (owner, until, progress))

    # -- tables with a journal

    def _table(self, name: str) -> dict[Any, Any]:
        return self._tables.setdefault(name, {})

    def _put(self, name: str, key: Any, row: Any) -> None:
        table = self._table(name)
        if key in table:
            before = table[key]
            self._journal.append(lambda: table.__setitem__(key, before))
        else:
            self._journal.append(lambda: table.pop(key))
        table[key] = row

    def _drop(self, name: str, key: Any) -> None:
        table = self._table(name)
        if key in table:
            before = table.pop(key)
            self._journal.append(lambda: table.__setitem__(key, before))

    def _next_id(self, name: str) -> int:
        number = int(self._table("numbers").get(name, 0)) + 1
        self._put("numbers", name, number)
        return number


def _page(found: list[Found], limit: int, group: Callable[[Found], object]) -> list[Found]:
    """So many, and those that belong to the last of them."""
    last = found[limit - 1 : limit]
    return found[:limit] + [one for one in found[limit:] if group(one) == group(last[0])]


def _is_named(record: Record, text: str) -> bool:
    part, keys = match_key(text), keys_of(record)
    return record.customer_id == text or any(part and part in (key or "") for key in (keys.company, keys.email))


def _is_alike(record: Record, keys: Keys, ion_id: str | None) -> bool:
    mine = keys_of(record)
    note = record.customer_id if record.side is Side.ION else mine.noted_ion_id
    return (
        (keys.email is not None and mine.email == keys.email)
        or (keys.company is not None and mine.company == keys.company)
        or (ion_id is not None and note == ion_id)
    )


def _counted(items: Iterable[Any]) -> dict[Any, int]:
    counts: dict[Any, int] = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return counts
