"""Intents: a change written down before the call, and what became of it (S1, S5, S7).

The life of an intent::

    PREPARED --call begins--> SENT --answered--> CONFIRMED
        |                      |  \\--refused--> REJECTED
        |                      |   \\--answer lost--> UNKNOWN --found, or answered late--> CONFIRMED, REJECTED
        \\--never sent--> DROPPED \\                       \\--proven absent--> DROPPED
                                  \\--certainly not applied--> DROPPED
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from syncd.core.values import Field, Millis, Side, Subject, Value, Values, values_to_json


class Kind(StrEnum):
    CREATE = "create"
    UPDATE = "update"


class IntentState(StrEnum):
    PREPARED = "prepared"
    SENT = "sent"
    UNKNOWN = "unknown"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    DROPPED = "dropped"

    @property
    def is_open(self) -> bool:
        return self in OPEN


OPEN = frozenset({IntentState.PREPARED, IntentState.SENT, IntentState.UNKNOWN})

TRANSITIONS: Mapping[IntentState, frozenset[IntentState]] = {
    IntentState.PREPARED: frozenset({IntentState.SENT, IntentState.DROPPED}),
    IntentState.SENT: frozenset(
        {IntentState.CONFIRMED, IntentState.REJECTED, IntentState.UNKNOWN, IntentState.DROPPED}
    ),
    IntentState.UNKNOWN: frozenset({IntentState.CONFIRMED, IntentState.REJECTED, IntentState.DROPPED}),
    IntentState.CONFIRMED: frozenset(),
    IntentState.REJECTED: frozenset(),
    IntentState.DROPPED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Intent:
    id: str
    """Deterministic: the same decision gives the same id, so that a CRM can drop repeats."""
    subject: Subject
    side: Side
    """Where the change is to be made."""
    kind: Kind
    set: Values
    expect: Values
    """What the side held in those fields when it was decided."""
    state: IntentState
    at: Millis
    crm_id: str | None = None
    ion_id: str | None = None
    why: Mapping[str, object] = field(default_factory=dict)
    attempts: int = 0
    changed_at: Millis = Millis(0)
    """When the state was last set."""
    answer: str | None = None
    """What the side said, where it refused or the answer was lost."""
    answered: Values | None = None
    """What the CRM's answering event said of the customer; fields that it left out are done as asked."""

    def moved_to(self, state: IntentState, at: Millis, answer: str | None = None) -> Intent:
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"an intent that is {self.state} cannot become {state}")
        return replace(self, state=state, changed_at=at, answer=answer)

    def sent_again(self, at: Millis) -> Intent:
        """A command is repeated with the same id: the state stays, the clock starts anew."""
        return replace(self, state=IntentState.SENT, attempts=self.attempts + 1, changed_at=at)


def intent_id(subject: Subject, side: Side, kind: Kind, values: Values, expect: Values, salt: str = "") -> str:
    """A hash of the decision: whom, where, what, and what was held before.

    ``salt`` tells apart two decisions that are alike in all of that, such as the same change made
    again after it had been undone: the stamp of the winning edit.
    """
    parts = [subject, side, kind, salt, repr(_sorted(values)), repr(_sorted(expect))]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def _sorted(values: Mapping[Field, Value]) -> list[tuple[str, object]]:
    return sorted(values_to_json(values).items())
