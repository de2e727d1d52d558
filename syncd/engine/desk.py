"""The desk: all that a person can see and do. The command line, the API and the console are its doors.

Each method is one unit of work on the store, and may run beside the daemons. Whoever does something is
named, and the log of decisions keeps it. What a person got wrong is a ``UserError`` that says what to do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from syncd.core.errors import NotFound, UserError
from syncd.core.guard import GuardState
from syncd.core.intent import Intent
from syncd.core.link import Link, LinkState
from syncd.core.order import Order, OrderState
from syncd.core.plan import Plan
from syncd.core.policy import Dialect, Policy
from syncd.core.record import Record
from syncd.core.values import Field, Millis, Side, Subject, Value, field_named, subject_of
from syncd.core.verify import Divergence
from syncd.core.work import SET_ASIDE, STEERED, Conflict, DeadLetter, DecisionEntry, Erased, Hold, HoldKind, LogCheck
from syncd.engine import guard, quarantine
from syncd.engine.erase import erase
from syncd.engine.explain import Explanation, Step, explain
from syncd.engine.ingest import Ingest
from syncd.engine.intents import Intents
from syncd.engine.licences import Change, last_change
from syncd.engine.orders import OrderBook, find_order
from syncd.engine.ports import Store, Unit
from syncd.engine.quarantine import Story
from syncd.engine.review import Case, Review
from syncd.engine.status import Status, survey
from syncd.engine.tries import insist
from syncd.engine.undo import Undo, find_conflict

PAGE = 1_000
MAX_ID = 200
NEW_LINK, KNOWN_LINK = "new", "known already"


PasteToken = Callable[[Unit, str, Millis], Awaitable[None]]


class ImportLine(NamedTuple):
    """One line of a file of links, and what becomes of it."""

    line: int
    crm_id: str
    ion_id: str
    what: str


class Found(NamedTuple):
    """A customer of one side, and the link it has."""

    customer: Record
    link: Link | None


class Desk:
    def __init__(
        self,
        store: Store,
        review: Review,
        intents: Intents,
        policy_for: Callable[[Dialect], Policy],
        dialect: Dialect | None,
        ingest: Ingest,
        paste_token: PasteToken,
        events_topic: str,
        order_book: OrderBook,
    ) -> None:
        """``dialect``: ION's, where it is configured; else it is known once the daemon has found it out."""
        self._store = store
        self._review = review
        self._intents = intents
        self._policy_for = policy_for
        self._dialect = dialect
        self._ingest = ingest
        self._paste_token = paste_token
        self._events_topic = events_topic
        self._order_book = order_book

    # -- how things stand

    async def status(self) -> Status:
        return await survey(self._store, self._events_topic)

    async def links(self, state: LinkState | None, after: str, limit: int) -> list[Link]:
        """By CRM id, those after ``after``."""
        async with self._store.begin() as unit:
            return await unit.list_links(state, after, limit)

    async def find(self, text: str, limit: int) -> list[Found]:
        """Customers of either side by id, or by a part of company or e-mail."""
        async with self._store.begin() as unit:
            customers = await unit.find(text, limit)
            links = {
                side: await unit.links(side, [one.customer_id for one in customers if one.side is side])
                for side in Side
            }
        return [Found(one, links[one.side].get(one.customer_id)) for one in customers]

    async def companies(self, crm_ids: Collection[str]) -> dict[str, Value]:
        """What the CRM calls these customers."""
        async with self._store.begin() as unit:
            known = await unit.peek(Side.CRM, crm_ids)
        return {crm_id: record.value(Field.COMPANY) for crm_id, record in known.items()}

    async def explain(self, customer: str, field: str | None = None) -> Explanation:
        """``customer``: a CRM id, or ``ion:ID``."""
        only = None if field is None else field_named(field)
        async with self._store.begin() as unit:
            dialect = await self._known_dialect(unit)
            return await explain(unit, customer, only, self._policy_for(dialect) if dialect else None)

    async def conflicts(self, customer: str | None, before: Millis | None, limit: int) -> list[Conflict]:
        """The newest first, those before an instant."""
        async with self._store.begin() as unit:
            return await unit.list_conflicts(customer, before, limit)

    async def conflict(self, conflict_id: str) -> Conflict:
        async with self._store.begin() as unit:
            return await find_conflict(unit, conflict_id, None)

    async def put_back(self, conflicts: Iterable[Conflict]) -> set[str]:
        """The ids of those whose value that lost is what the CRM holds again."""
        conflicts = list(conflicts)
        async with self._store.begin() as unit:
            known = await unit.peek(Side.CRM, {conflict.crm_id for conflict in conflicts})
        held = {crm_id: record.values() for crm_id, record in known.items()}
        return {c.id for c in conflicts if c.crm_id in held and held[c.crm_id].get(c.field) == c.losing}

    async def undo(self, what: str, field: str | None, by: str) -> Intent:
        """``what``: a conflict's id, or with ``field`` a CRM id, whose newest value put aside it is."""
        async with self._store.begin() as unit:
            conflict = await find_conflict(unit, what, field)
            undo = Undo(self._intents, await self._policy(unit))
            return await undo.undo(unit, conflict, by, await unit.time())

    async def policy(self) -> Policy:
        """What decides, as this configuration and ION's dialect have it."""
        async with self._store.begin() as unit:
            return await self._policy(unit)

    async def _policy(self, unit: Unit) -> Policy:
        dialect = await self._known_dialect(unit)
        if dialect is None:
            raise UserError("ION's dialect is not known yet: start `syncd run` first")
        return self._policy_for(dialect)

    async def _known_dialect(self, unit: Unit) -> Dialect | None:
        noted = None if self._dialect else await unit.note("ion_dialect")
        return Dialect(noted) if noted else self._dialect

    # -- the guard

    async def plan(self) -> Plan:
        async with self._store.begin() as unit:
            return await guard.plan_now(unit, await self._known_dialect(unit))

    async def approve(self, digest: str, by: str) -> int:
        """How many changes may go now."""
        async with self._store.begin() as unit:
            return await guard.approve(unit, digest, by, await unit.time())

    async def steered(self, limit: int) -> list[Step]:
        """What people did that is about nobody by name: plans approved, writes stopped, events tried again."""
        async with self._store.begin() as unit:
            return [Step(entry, None, ()) for entry in await unit.steered(limit)]

    async def guard_state(self) -> GuardState:
        async with self._store.begin() as unit:
            return await unit.guard_state()

    async def pause(self, by: str) -> bool:
        """``False``: writes were paused already."""
        async with self._store.begin() as unit:
            return await guard.pause(unit, by, await unit.time())

    async def resume(self, by: str) -> bool:
        async with self._store.begin() as unit:
            return await guard.resume(unit, by, await unit.time())

    async def paste_token(self, refresh: str, by: str) -> None:
        """ION's new refresh token, requested by a person; the daemons take it up by themselves."""
        refresh = refresh.strip()
        if not refresh or any(character.isspace() for character in refresh):
            raise UserError("that is not a refresh token: ION shows it as one word without spaces")
        async with self._store.begin() as unit:
            now = await unit.time()
            await self._paste_token(unit, refresh, now)
            await unit.log([DecisionEntry(now, STEERED, None, None, "token-pasted", None, {"by": by})])

    # -- orders from the CRM

    async def orders(self, state: OrderState | None, after: str, limit: int) -> list[Order]:
        """By the CRM's id, those after ``after``."""
        async with self._store.begin() as unit:
            return await unit.list_orders(state, after, limit)

    async def order(self, order_id: str) -> Order:
        async with self._store.begin() as unit:
            return await find_order(unit, order_id)

    async def release_order(self, order_id: str, by: str, ion_order: str | None = None) -> None:
        """``ion_order``: it is that one in ION, and is not sent."""
        async with self._store.begin() as unit:
            now = await unit.time()
            if ion_order is not None:
                await self._order_book.adopt(unit, order_id, ion_order, by, now)
            else:
                await self._order_book.release(unit, order_id, by, now)

    async def drop_order(self, order_id: str, by: str) -> None:
        async with self._store.begin() as unit:
            await self._order_book.drop(unit, order_id, by, await unit.time())

    # -- licences

    async def licences(self, since: Millis | None = None) -> Change | None:
        """What moved in the newest snapshot, or since a time; ``None``: none was taken yet."""
        return await last_change(self._store, since)

    # -- who is whom

    async def cases(self, after: str, limit: int) -> list[Case]:
        """Who waits to be told whom it is, by subject."""
        async with self._store.begin() as unit:
            return await self._review.cases(unit, after, limit)

    async def accept(self, crm_id: str, ion_id: str, by: str) -> None:
        """These two are one, as suggested."""
        async with self._store.begin() as unit:
            both = [subject_of(Side.CRM, crm_id), subject_of(Side.ION, ion_id)]
            suggested = [(c.crm_id, c.ion_id) for subject in both for c in await unit.candidates(subject)]
            if (crm_id, ion_id) not in suggested:
                raise UserError(
                    f"nobody suggested that {crm_id} is {ion_id}: `syncd links review` shows what was,"
                    " and `syncd links add` links any two"
                )
            await self._review.link(unit, crm_id, ion_id, by, await unit.time())

    async def link(self, crm_id: str, ion_id: str, by: str) -> list[Subject]:
        """Link any two; who of them is not known yet."""
        async with self._store.begin() as unit:
            known = [(side, number, await unit.records(side, [number])) for side, number in _both(crm_id, ion_id)]
            await self._review.link(unit, crm_id, ion_id, by, await unit.time())
        return [subject_of(side, number) for side, number, found in known if not found]

    async def reject(self, crm_id: str, ion_id: str, by: str) -> None:
        async with self._store.begin() as unit:
            await self._review.reject(unit, crm_id, ion_id, by, await unit.time())

    async def part(self, crm_id: str, by: str) -> Link:
        """Take a link apart; the link that was."""
        async with self._store.begin() as unit:
            return await self._review.part(unit, crm_id, by, await unit.time())

    async def import_links(
        self, lines: Iterable[tuple[int, str, str]], by: str, *, is_meant: bool
    ) -> list[ImportLine]:
        """What becomes of each line (number, CRM id, ION id); the new links are made only if that ``is_meant``."""
        told = list[ImportLine]()
        by_crm, by_ion = dict[str, str](), dict[str, str]()  # what the lines before have linked
        for number, crm_id, ion_id in lines:
            async with self._store.begin() as unit:
                what = await _what_of(unit, crm_id, ion_id, by_crm, by_ion)
            if what == NEW_LINK:
                by_crm[crm_id], by_ion[ion_id] = ion_id, crm_id
                if is_meant:
                    try:
                        await insist(partial(self.link, crm_id, ion_id, by))
                    except UserError as error:
                        what = error.sentence
            told.append(ImportLine(number, crm_id, ion_id, what))
        return told

    # -- are both sides equal, and what is kept of whom

    async def divergences(self) -> list[Divergence]:
        """Who was not proven equal when all were last compared."""
        async with self._store.begin() as unit:
            return await unit.divergences()

    async def check_log(self) -> LogCheck:
        """Look through the whole log of decisions."""
        last, entries, erased, unmarked, wrong = 0, 0, 0, 0, list[int]()
        while True:
            async with self._store.begin() as unit:
                some = await unit.check_log(last, PAGE)
            if some.last is None:
                return LogCheck(last, entries, erased, unmarked, wrong)
            last, entries, erased = some.last, entries + some.entries, erased + some.erased
            unmarked += some.unmarked
            wrong += some.wrong

    async def erase(self, customer: str, by: str) -> Erased:
        """Blank what is kept of a customer's past."""
        async with self._store.begin() as unit:
            return await erase(unit, customer, by, await unit.time())

    # -- who is set aside

    async def holds(self, kinds: Collection[HoldKind], after: str, limit: int) -> list[Hold]:
        """Customers that wait for something, by subject."""
        async with self._store.begin() as unit:
            return await unit.list_holds(kinds, after, limit)

    async def set_aside(self, after: str, limit: int) -> list[Hold]:
        return await self.holds(SET_ASIDE, after, limit)

    async def story(self, customer: str) -> Story:
        """Why a customer is set aside, what each side held, and the last day's writes."""
        async with self._store.begin() as unit:
            return await quarantine.story(unit, customer, await unit.time())

    async def release(self, customer: str, by: str) -> None:
        async with self._store.begin() as unit:
            await quarantine.release(unit, customer, by, await unit.time())

    async def letters(self, before: int | None, limit: int) -> list[DeadLetter]:
        """The newest first, those of ids below ``before``."""
        async with self._store.begin() as unit:
            return await unit.list_dead_letters(before, limit)

    async def letter(self, number: int) -> DeadLetter:
        async with self._store.begin() as unit:
            found = await unit.dead_letter(number)
        if found is None:
            raise NotFound(f"there is no dead letter {number}: `syncd dead-letters list` shows their ids")
        return found

    async def redrive(self, numbers: Sequence[int] | None, by: str) -> dict[int, str | None]:
        """Try events again, these or all; by id what is still wrong with each, ``None`` when it is stored."""
        chosen = await self._all_letters() if numbers is None else numbers
        told = {number: await self._ingest.redrive(await self.letter(number)) for number in chosen}
        detail = {"by": by, "stored": [number for number, wrong in told.items() if wrong is None]}
        async with self._store.begin() as unit:
            await unit.log([DecisionEntry(await unit.time(), STEERED, None, None, "redriven", None, detail)])
        return told

    async def _all_letters(self) -> list[int]:
        """Oldest first, as they came."""
        found, before = list[int](), None
        while page := await self.letters(before, PAGE):
            found += [letter.id for letter in page]
            before = page[-1].id
        return found[::-1]


def _both(crm_id: str, ion_id: str) -> tuple[tuple[Side, str], tuple[Side, str]]:
    return (Side.CRM, crm_id), (Side.ION, ion_id)


def _may_be_id(text: str) -> bool:
    return len(text) <= MAX_ID and text.isprintable()


async def _what_of(unit: Unit, crm_id: str, ion_id: str, by_crm: dict[str, str], by_ion: dict[str, str]) -> str:
    if not crm_id or not ion_id:
        return "an id is missing"
    if not _may_be_id(crm_id) or not _may_be_id(ion_id):
        return "that is no id"
    mine = (await unit.links(Side.CRM, [crm_id])).get(crm_id)
    theirs = (await unit.links(Side.ION, [ion_id])).get(ion_id)
    its_ion = mine.ion_id if mine else by_crm.get(crm_id)
    its_crm = theirs.crm_id if theirs else by_ion.get(ion_id)
    if its_ion == ion_id:
        return KNOWN_LINK
    if its_ion is not None:
        return f"{crm_id} is linked to {its_ion}"
    return f"{ion_id} is linked to {its_crm}" if its_crm is not None else NEW_LINK
