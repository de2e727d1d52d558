"""The plan: changes decided and not yet made, as a value that can be printed, hashed and approved (S9).

What a person approves is the digest: it covers each change with the values it replaces, what the
sides last agreed on, and the configuration and version that decided it. Another change, another
base or another configuration is another digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from syncd.core.guard import Tally, total_of
from syncd.core.intent import Intent
from syncd.core.policy import Dialect
from syncd.core.values import Millis, Side, Subject, Values, values_to_json


class ChangeKind(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    LINK = "link"
    """A pair comes to stand still, because its customer is gone from one side."""


class ChangeState(StrEnum):
    WAITING = "waiting"
    """For the guard's word, or, when it holds, for a person's."""
    PASSED = "passed"
    """It may go, and waits for its call."""
    SPENT = "spent"
    """It went out, and counts for an hour."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change to one side, decided and not yet made."""

    id: str
    """That of the intent it becomes: the same decision, the same id."""
    subject: Subject
    side: Side
    kind: ChangeKind
    set: Values
    expect: Values
    base: Values
    at: Millis
    crm_id: str | None = None
    ion_id: str | None = None
    why: Mapping[str, object] = field(default_factory=dict)
    context: str = ""
    """Fingerprint of the configuration and version that decided it."""
    state: ChangeState = ChangeState.WAITING
    by: str = ""
    """Who let it go: a person, or nobody while the limits did."""

    @property
    def tally(self) -> Tally:
        """What it counts for."""
        if self.kind is ChangeKind.LINK:
            return Tally(link_changes=1)
        if self.kind is ChangeKind.CREATE:
            return Tally(creates=1)
        cleared = [name for name, value in self.set.items() if value is None and self.expect.get(name) is not None]
        return Tally(updates=1, cleared_fields=len(cleared))


def change_of(intent: Intent, base: Values) -> Change:
    """The change that an intent would make."""
    return Change(
        intent.id,
        intent.subject,
        intent.side,
        ChangeKind(intent.kind.value),
        intent.set,
        intent.expect,
        base,
        intent.at,
        intent.crm_id,
        intent.ion_id,
        intent.why,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be written now, in order, and what it would cost."""

    changes: tuple[Change, ...]
    reason: str
    """Why it is held; empty when it isn't."""
    digest: str
    ion_calls: int
    minutes: float
    """How long these calls take at the current rate, with nothing else to do."""

    @property
    def tally(self) -> Tally:
        return total_of(change.tally for change in self.changes)


def make_plan(changes: Sequence[Change], *, reason: str, mapping: str, dialect: Dialect | None, rate: float) -> Plan:
    """``mapping``: fingerprint of a changed mapping that comes into force with the plan, or empty."""
    ordered = tuple(sorted(changes, key=lambda change: (change.subject, change.side, change.id)))
    calls = sum(_calls(change, dialect) for change in ordered)
    return Plan(ordered, reason, digest_of(ordered, mapping), calls, calls / rate if rate else 0.0)


def digest_of(changes: Sequence[Change], mapping: str) -> str:
    """16 hex digits over the changes that wait, in order. Those that passed are no part of it."""
    parts = [mapping]
    for change in changes:
        if change.state is ChangeState.WAITING:
            held = (values_to_json(change.set), values_to_json(change.expect), values_to_json(change.base))
            parts += [change.id, change.kind, change.context, json.dumps(held, sort_keys=True)]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def _calls(change: Change, dialect: Dialect | None) -> int:
    """Calls to ION: a reading and a write; for a create a look-up where the dialect has one."""
    if change.side is Side.CRM:
        return 0
    if change.kind is ChangeKind.LINK:
        return 1
    return 1 if change.kind is ChangeKind.CREATE and dialect is Dialect.SEED else 2
