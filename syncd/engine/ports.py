"""The seams: what the flows need from the rooms around them. Joined in ``syncd.app``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from syncd.core.budget import Lane, Ledger
from syncd.core.catalogue import Price, Product
from syncd.core.crowd import Crowd, Turn
from syncd.core.guard import GuardState, Tally
from syncd.core.intent import Intent, IntentState
from syncd.core.licences import Contract, Drift, Snapshot, Subscription
from syncd.core.link import Link, LinkState
from syncd.core.match import Candidate
from syncd.core.order import Order, OrderState, Seen
from syncd.core.plan import Change, ChangeState
from syncd.core.policy import Dialect
from syncd.core.record import Reading, Record
from syncd.core.values import Field, Millis, Side, Subject, Value, Values
from syncd.core.verify import Divergence
from syncd.core.work import (
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
)

NO_TRACES: Mapping[Subject, str] = MappingProxyType({})


class Clock(Protocol):
    """Time, and nothing else that a test could not hold still."""

    def now(self) -> Millis: ...
    async def sleep(self, seconds: float) -> None: ...


class Outlook(Protocol):
    """What a plan is made from. There is nothing to write with, by type (S9)."""

    async def guard_state(self) -> GuardState: ...
    async def ledger(self) -> Ledger | None: ...
    async def list_changes(self, after: str, limit: int) -> list[Change]: ...


class Unit(Outlook, Protocol):
    """One transaction. All that is read is locked for as long as it lasts; all or nothing is kept.

    Collections come back as plain values; a customer that is not stored is missing from them.
    """

    async def time(self) -> Millis:
        """The store's own time at this moment, the same for all who use it."""

    # records and links
    async def records(self, side: Side, ids: Collection[str]) -> dict[str, Record]: ...
    async def peek(self, side: Side, ids: Collection[str]) -> dict[str, Record]:
        """Records to look at, not to change."""

    async def find(self, text: str, limit: int) -> list[Record]:
        """Customers of either side with this id, or this text in company or e-mail; to look at."""

    async def save_records(self, records: Collection[Record]) -> None: ...
    async def look_alikes(self, customer: Record, side: Side) -> list[Record]:
        """Unlinked customers of this side that share a key with it, or are noted or note it as theirs."""

    async def neighbours(self, customer: Record, side: Side) -> list[Record]:
        """Unlinked customers of this side that share blocks with it, those with the most first."""

    async def created_between(self, start: Millis, end: Millis) -> list[Record]:
        """Unlinked ION customers that ION says it made in that time."""

    async def note_missing(self, listed: Collection[str], before: Millis) -> list[str]:
        """Count one more complete sweep without them; who has now been missed often enough to ask."""

    async def links(self, side: Side, ids: Collection[str]) -> dict[str, Link]: ...
    async def add_link(self, link: Link) -> None:
        """A new one; a ``StoreConflict`` where either id is linked by now."""

    async def save_link(self, link: Link) -> None: ...
    async def drop_link(self, crm_id: str) -> None: ...
    async def reject(self, crm_id: str, ion_id: str) -> None:
        """Remember that these two are not one; said twice it is the same."""

    async def unreject(self, crm_id: str, ion_id: str) -> None: ...
    async def rejected(self, customer: Record) -> set[str]:
        """The customers of the other side that this one is not."""

    async def list_links(self, state: LinkState | None, after: str, limit: int) -> list[Link]: ...
    async def count_links(self) -> dict[LinkState, int]: ...

    # intents, conflicts, the log of decisions
    async def intents(self, ids: Collection[str]) -> dict[str, Intent]: ...
    async def open_intents(self, subject: Subject) -> list[Intent]: ...
    async def open_creates(self, side: Side) -> list[Intent]: ...
    async def commands_due(self, now: Millis, limit: int) -> list[Intent]: ...
    async def next_command_due(self) -> Millis | None: ...
    async def unknown_commands(self, before: Millis) -> list[Intent]:
        """Commands to the CRM that were given up before then and never answered."""

    async def recent_intents(self, subject: Subject, since: Millis) -> list[Intent]: ...
    async def save_intent(self, intent: Intent, deliver_at: Millis | None = None) -> None: ...
    async def count_open_intents(self) -> dict[tuple[Side, IntentState], tuple[int, Millis]]: ...
    async def archive(self, conflicts: Collection[Conflict]) -> None: ...
    async def conflict(self, conflict_id: str) -> Conflict | None: ...
    async def list_conflicts(self, crm_id: str | None, before: Millis | None, limit: int) -> list[Conflict]:
        """The newest first; a few more than the limit where one moment has several."""

    async def save_divergences(self, found: Collection[Divergence]) -> None:
        """These and no others."""

    async def divergences(self) -> list[Divergence]:
        """By CRM id."""

    async def story(self, crm_id: str | None, ion_id: str | None, limit: int) -> list[DecisionEntry]:
        """What was decided about either, the newest first."""

    async def steered(self, limit: int) -> list[DecisionEntry]:
        """The newest entries about nobody by name."""

    async def log(self, entries: Collection[DecisionEntry]) -> None: ...
    async def check_log(self, after: int, limit: int) -> LogCheck:
        """Is it as it was written? So many entries after that id; those without a mark are older than marks."""

    async def erase(self, subject: Subject, crm_id: str | None, ion_id: str | None) -> Erased:
        """Blank what is kept of the customer's past; the log's entries stay, without their detail."""

    # changes decided and not yet made; the guard
    async def changes_of(self, subject: Subject) -> list[Change]: ...
    async def save_change(self, change: Change) -> None: ...
    async def drop_changes(self, ids: Collection[str]) -> None: ...
    async def pass_changes(self, ids: Collection[str] | None, by: str, now: Millis) -> list[Subject]:
        """Let waiting changes go, all or these; whose they are."""

    async def withdraw_passes(self) -> None:
        """What only the limits let go, and was not sent yet, waits again."""

    async def forget_spent(self, before: Millis) -> None: ...
    async def tally_changes(self, since: Millis) -> dict[ChangeState, Tally]:
        """Counts by state; what a person let go by name is not counted, nor what was spent before ``since``."""

    async def count_changes(self, states: Collection[ChangeState], limit: int) -> int:
        """How many are in one of these states; counts no further than ``limit``."""

    async def save_guard_state(self, state: GuardState) -> None: ...

    # the queue of customers to look at
    async def enqueue(
        self, subjects: Collection[Subject], now: Millis, traces: Mapping[Subject, str] = NO_TRACES
    ) -> None:
        """Somebody has to look at them; ``traces``: the steps that say so, for those that have one."""

    async def reserve(self, subjects: Collection[Subject]) -> None:
        """Whoever works on one of them is let finish, and nobody else begins before this unit ends.

        For units that store records of many, and then queue them: those who work on one take the same two in the
        other order, and each would wait for the other.
        """

    async def claim(
        self,
        stage: Stage,
        now: Millis,
        lease_ms: int,
        limit: int,
        turn: Turn | None = None,
        only: Collection[Subject] | None = None,
    ) -> list[Claim]:
        """Who is due, the oldest first; with ``turn`` of the linked ones only those whose turn it is."""

    async def newest(self, now: Millis, limit: int) -> list[Waiting]:
        """Who is due, in whichever stage; the last one first."""

    async def renew(self, claims: Collection[Claim], until: Millis) -> None: ...
    async def check(self, claim: Claim) -> None: ...
    async def finish(self, claim: Claim, again: Again | None = None) -> None: ...
    async def unqueue(self, subject: Subject, now: Millis) -> None:
        """Nobody has to look at it by itself any more; whoever works on it is let."""

    async def next_due(self, stage: Stage) -> Millis | None: ...
    async def undecided(self, now: Millis, before: Millis, limit: int) -> int:
        """Customers due to be decided, queued no later than ``before``; counts no further than ``limit``."""

    async def is_queued(self, subject: Subject) -> bool: ...
    async def pending(self) -> dict[str, tuple[int, Millis]]:
        """How many customers wait in which stage, and changes ``FOR_GUARD``, and since when the oldest does.

        All as of one moment: who leaves the one goes to the other.
        """

    async def crowd(self, turn: Turn, now: Millis, limit: int) -> Crowd: ...
    async def keep_readings(self, readings: Collection[Reading], now: Millis) -> None:
        """For those of them who are due; who is due for a call, waits anew from now on."""

    async def reading_of(self, subject: Subject) -> Reading | None: ...
    async def drop_readings(self, before: Millis) -> None:
        """Those asked for before then."""

    # who waits for a person
    async def hold(self, hold: Hold) -> None:
        """For the same reason as before, it is held since then."""

    async def release(self, subject: Subject, kinds: Collection[HoldKind] = tuple(HoldKind)) -> None: ...
    async def list_holds(self, kinds: Collection[HoldKind], after: str, limit: int) -> list[Hold]:
        """By subject; a few more than the limit where one has several."""

    async def holds_of(self, subject: Subject) -> list[Hold]: ...
    async def count_holds(self) -> dict[HoldKind, int]: ...
    async def save_candidates(self, subject: Subject, candidates: Collection[Candidate]) -> None: ...
    async def candidates(self, subject: Subject) -> list[Candidate]: ...

    # Kafka: where we are, what is on its way out, what was set aside
    async def offsets(self, topic: str) -> dict[int, int]: ...
    async def save_offsets(self, topic: str, offsets: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Where to read on, by partition, and where partitions end, as far as that is known.

        An end that is not known stays as it was. The end of a partition that is only in ``ends`` moves on and
        never back.
        """

    async def places(self, topic: str) -> dict[int, range]:
        """What waits in Kafka, by partition, over all replicas, as far as was known when they last read."""

    async def post(self, messages: Collection[Message]) -> None: ...
    async def posted(self, limit: int, without: Collection[str] = ()) -> list[Message]:
        """The oldest that wait, of all topics but those."""

    async def unpost(self, ids: Collection[int]) -> None: ...
    async def bury(self, letters: Collection[DeadLetter]) -> None: ...
    async def list_dead_letters(self, before: int | None, limit: int) -> list[DeadLetter]: ...
    async def dead_letter(self, letter_id: int) -> DeadLetter | None: ...
    async def unbury(self, letter_id: int) -> None: ...

    # the catalogue
    async def products(self, ids: Collection[str]) -> dict[str, Product]: ...
    async def list_products(self, after: str, limit: int) -> list[Product]: ...
    async def save_products(self, products: Collection[Product], now: Millis) -> None: ...
    async def add_prices(self, prices: Sequence[Price]) -> None: ...
    async def prices_of(self, product: str) -> list[Price]:
        """The history of each offer, oldest first."""

    # licences
    async def subscriptions(self, ids: Collection[str]) -> dict[str, Subscription]: ...
    async def list_subscriptions(self, after: str, limit: int) -> list[Subscription]: ...
    async def save_subscriptions(self, subscriptions: Collection[Subscription], now: Millis) -> None: ...
    async def add_drift(self, drift: Sequence[Drift]) -> None: ...
    async def drift_after(self, at: Millis) -> list[Drift]:
        """Oldest first."""

    async def save_snapshot(self, snapshot: Snapshot) -> None: ...
    async def snapshots(self, limit: int) -> list[Snapshot]:
        """The newest first."""

    async def save_contracts(self, contracts: Collection[Contract]) -> None:
        """Those of no seats are forgotten."""

    async def contracts(self) -> list[Contract]: ...

    # orders from the CRM
    async def order(self, order_id: str) -> Order | None: ...
    async def save_order(self, order: Order) -> None: ...
    async def order_due(self, now: Millis) -> Order | None:
        """Of those whose time has come, the one that has waited longest; those that ION has come last."""

    async def next_order_due(self) -> Millis | None: ...
    async def list_orders(self, state: OrderState | None, after: str, limit: int) -> list[Order]:
        """By the CRM's id."""

    async def orders_of(self, customer: str) -> list[Order]:
        """Of a CRM customer, by the CRM's id of the order."""

    async def count_orders(self) -> dict[OrderState, int]: ...
    async def ion_orders(self, ion_customer: str) -> set[str]:
        """ION's ids of this customer's orders that came from the CRM."""

    # ION: budget, tokens, sweeps, small facts worth remembering
    async def save_ledger(self, ledger: Ledger) -> None: ...
    async def tokens(self) -> Tokens | None: ...
    async def save_tokens(self, tokens: Tokens) -> None: ...
    async def save_sweep(self, sweep: Sweep) -> None: ...
    async def recent_sweeps(self, limit: int) -> list[Sweep]: ...
    async def last_complete(self) -> Millis | None:
        """When the newest complete sweep began."""

    async def measuring_sweeps(self, limit: int) -> list[Sweep]:
        """The newest of those that others are measured by: read through, not early, and not empty."""

    async def note(self, name: str) -> str | None: ...
    async def save_note(self, name: str, text: str) -> None: ...
    async def lease(self, name: str, owner: str, now: Millis, lease_ms: int) -> bool: ...
    async def unlease(self, name: str, owner: str) -> None: ...
    async def progress(self, name: str, now: Millis) -> int:
        """How far the work under a lease has come; zero once the lease has run out."""

    async def save_progress(self, name: str, progress: int) -> None: ...


class Loop(StrEnum):
    """The loops that sleep until there is something to do."""

    SWEEP = "sweep"
    DECIDE = "decide"
    PUSH = "push"
    JUDGE = "judge"
    SEND_COMMANDS = "send-commands"
    SEND_MESSAGES = "send-messages"
    ORDERS = "orders"


class Store(Protocol):
    def begin(self) -> AbstractAsyncContextManager[Unit]: ...

    async def listen(self, ring: Callable[[Loop], None]) -> None:
        """Ring, for ever, whenever a unit of any process leaves something to do for a loop."""


class Slots(Protocol):
    """Slots of the budget in hand; one is spent by each call, the rest go back."""

    lane: Lane

    def call(self) -> AbstractAsyncContextManager[None]: ...


class Gate(Protocol):
    """The only door to ION: waits until the budget has room."""

    def slots(
        self, lane: Lane, count: int = 1, not_after: Millis | None = None, *, goes_first: bool = False
    ) -> AbstractAsyncContextManager[Slots]:
        """``NoSlotInTime`` where there is none by then; ``goes_first``: before all others in this lane, and of the
        budget's spare slots too."""

    async def wait_ms(self, count: int) -> int:
        """How long until it is worth while to begin what needs so many slots, as things stand."""


class Page(NamedTuple):
    readings: Sequence[Reading]
    announced: int | None
    """How many customers the side says there are in all, where it says so."""
    is_repeated: bool
    is_last: bool


class Ion(Protocol):
    """ION as the flows see it. Each method raises a ``SideError`` of the kind that says what to do."""

    async def dialect(self) -> Dialect: ...
    def list_customers(self, lane: Lane) -> AsyncGenerator[Page]: ...
    async def get(self, ion_id: str, slots: Slots) -> Reading | None: ...
    async def find_by_email(self, email: str, slots: Slots) -> list[Reading] | None:
        """``None``: this dialect can't be asked."""

    # A write is sent by ``not_after`` or not at all: whoever was stopped for longer has lost its lease,
    # and another may have written meanwhile (S12). ``Transient`` where it is too late.
    async def create(self, values: Values, slots: Slots, not_after: Millis) -> Reading: ...
    async def update(self, reading: Reading, changes: Values, slots: Slots, not_after: Millis) -> Reading: ...


class Seller(Protocol):
    """Where ION takes orders. Each method raises a ``SideError`` of the kind that says what to do."""

    def slots(self, lane: Lane, count: int) -> AbstractAsyncContextManager[Slots]: ...
    async def is_told_references(self) -> bool:
        """An order can be found again by the CRM's id."""

    async def placed(self, order: Order, since: Millis) -> list[Seen]:
        """What ION has that may be this order, made since then: named by the CRM's id, or of the same items."""

    async def check(self, order: Order) -> None:
        """A ``UserError`` where this dialect can't be asked it."""

    async def place(self, order: Order, slots: Slots, not_after: Millis) -> Seen: ...

    async def look(self, order: Order) -> Seen: ...


class Command(NamedTuple):
    """What the CRM is to change, as it goes out."""

    intent: Intent
    at: Millis


class CrmAnswer(NamedTuple):
    """What the CRM said at once (HTTP); Kafka answers later, by an ordinary event."""

    crm_id: str
    values: Mapping[str, Value]
    asked: Millis


class CrmSink(Protocol):
    """Takes changes to the CRM. ``None`` as an answer: delivered, the answer comes as an event."""

    async def deliver(self, command: Command) -> CrmAnswer | None: ...


class CrmReader(Protocol):
    """A CRM that can be asked what it holds."""

    async def read(self, crm_id: str) -> CrmAnswer | None:
        """``None`` where it shows no such customer."""


class Posts(Protocol):
    """Takes Kafka records and returns when the broker has them."""

    async def send(self, messages: Sequence[Message]) -> None: ...


class Counters(Protocol):
    """What the flows report; the names are those of the metrics."""

    def event(self, form: str, outcome: str, count: int = 1) -> None: ...
    def dead_letter(self, reason: str) -> None: ...
    def missed(self, events: int) -> None: ...
    def conflict(self, field: Field, winner: str, rule: str) -> None: ...
    def echo(self, side: Side) -> None: ...
    def sweep(self, outcome: str, seconds: float) -> None: ...
    def confirmed(self, side: Side, seconds: float) -> None: ...
