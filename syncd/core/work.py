"""Values that the flows keep between two steps: claims, holds, conflicts, messages, sweeps, tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from syncd.core.listing import SweepOutcome
from syncd.core.record import Stamp
from syncd.core.values import Field, Millis, Side, Subject, Value


class Stage(StrEnum):
    """What a queued customer waits for."""

    DECIDE = "decide"
    """Look at the records; costs no call."""
    CALL = "call"
    """ION must be called; waits for a slot of the budget."""


FOR_GUARD = "guard"
"""Where a change is pending that was decided and waits for the guard's word: in no stage of the queue."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on one customer for a while, and the fence that proves it (S12)."""

    subject: Subject
    stage: Stage
    fence: int
    generation: int
    """Counts the reasons to look; if it grew meanwhile, somebody has to look again."""
    since: Millis
    """When the oldest reason to look at it came."""
    attempts: int
    trace: str | None = None
    """The step that gave the newest reason which has one, as a ``traceparent``."""


class Waiting(NamedTuple):
    """A queued customer that nobody works on."""

    subject: Subject
    stage: Stage
    since: Millis


@dataclass(frozen=True, slots=True)
class Again:
    """Look at this customer again."""

    due: Millis
    stage: Stage = Stage.DECIDE
    attempts: int = 0


class HoldKind(StrEnum):
    QUARANTINE = "quarantine"
    """A side refused it; tried again when its record changes or a person releases it."""
    INCOMPLETE = "incomplete"
    """It lacks what ION requires; sent as soon as that comes."""
    REVIEW = "review"
    """A person has to say whom it belongs to, or which value is right."""
    FROZEN = "frozen"
    """Fields of it were written too often in a short time; the rest flows on (S6)."""


SET_ASIDE = (HoldKind.QUARANTINE, HoldKind.FROZEN)
"""What `syncd quarantine` shows and a person releases."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A customer that waits for something other than time, and for what."""

    subject: Subject
    kind: HoldKind
    reason: str
    since: Millis
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conflict:
    """A value that lost, kept so that it can be put back (S4)."""

    id: str
    crm_id: str
    ion_id: str
    field: Field
    rule: str
    winner: Side
    winning: Value
    losing: Value
    crm_stamp: Stamp | None
    ion_stamp: Stamp | None
    intent_id: str
    at: Millis


@dataclass(frozen=True, slots=True)
class Message:
    """A Kafka record on its way out; kept until the broker has it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    id: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event set aside, with the reason and its coordinates."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    at: Millis
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    id: int = 0


def is_of(letter: DeadLetter, crm_id: str) -> bool:
    """It was an event of this customer, as far as one can tell of what could not be used: by its key or its ids."""
    return crm_id in {*_ids(letter.key), *_ids(letter.value)}


def _ids(data: bytes | None) -> set[str]:
    """What names a customer in any of the three forms, and a key that is the id itself."""
    text = (data or b"").decode(errors="replace")
    try:
        told = json.loads(text)
    except ValueError:
        return {text}
    if not isinstance(told, dict):
        return {text, str(told)}
    inner = [told, told.get("payload"), told.get("data")]
    inner += [part.get(name) for part in inner if isinstance(part, dict) for name in ("before", "after")]
    return {str(part.get(name)) for part in inner if isinstance(part, dict) for name in ("id", "subject")}


STEERED = Subject("plan")
"""Whom the log names for what a person does with all and not with one."""
SWEEP = "sweep"
"""The lease under which one replica sweeps."""
CATCH_UP = "catch-up"
"""The lease under which one replica asks the CRM after events that were lost."""
CHORES = "chores"
"""The lease under which one replica imports the catalogue and takes snapshots of licences."""
ORDERS = "orders"
"""The lease under which one replica is at the CRM's orders."""
NEWCOMER = "newcomer"
"""The lease that a newcomer takes for whom others wait: until it runs out no other does."""
RESCORE = "rescore"
"""The lease under which one replica looks at old links again, and the note of when it last did."""
VERIFY = "verify"
"""The lease under which one replica verifies, and the note of when everybody was."""


@dataclass(frozen=True, slots=True)
class Sweep:
    started: Millis
    ended: Millis
    pages: int
    customers: int
    changed: int
    outcome: SweepOutcome
    is_early: bool = False
    """Too soon after another to say anything new of who is missing: ION may lag."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The OAuth tokens as they are kept; both sealed by the store."""

    access: str | None
    refresh: str | None
    obtained: Millis
    access_expires: Millis
    refresh_expires: Millis
    seeded_by: str = ""
    """Fingerprint of the configured token that these descend from."""
    refreshing_since: Millis | None = None
    """Set before a refresh is sent, cleared with its answer: a crash in between is seen (S13)."""
    refused: str | None = None
    """Why ION will not take the refresh token any more."""

    def __repr__(self) -> str:
        return f"Tokens(obtained={self.obtained}, refused={self.refused!r})"


@dataclass(frozen=True, slots=True)
class DecisionEntry:
    """One line of the append-only log of decisions (S16)."""

    at: Millis
    subject: Subject
    crm_id: str | None
    ion_id: str | None
    what: str
    intent_id: str | None
    detail: Mapping[str, object] = field(default_factory=dict)


class LogCheck(NamedTuple):
    """A stretch of the log of decisions, looked through."""

    last: int | None
    """The id of the last entry looked at; ``None`` where there was none left."""
    entries: int
    erased: int
    unmarked: int
    """Written by a version that made no marks, or robbed of theirs."""
    wrong: list[int]
    """Ids of entries that are not as they were written."""


class Erased(NamedTuple):
    """How much was kept of a customer's past."""

    entries: int
    conflicts: int
    dead_letters: int
