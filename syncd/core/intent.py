"""Intents: a change written down before the call, and what became of it (S1, S5, S7).

``LIFE`` is the whole life of an intent; docs/life-of-an-intent.md is drawn from it.
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
    NOTICE = "notice"
    """Tells the CRM of something that it must know and not change by itself (S10)."""
    UNDO = "undo"
    """Asks the CRM to hold a value again that lost, as if a user had entered it (S4)."""


ANSWERED = (Kind.UPDATE, Kind.UNDO)
"""What the CRM says in answer to these is kept until they are closed."""


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

LIFE: Mapping[tuple[IntentState, IntentState], str] = {
    (IntentState.PREPARED, IntentState.SENT): "the call begins",
    (IntentState.PREPARED, IntentState.DROPPED): "no longer wanted",
    (IntentState.SENT, IntentState.CONFIRMED): "answered",
    (IntentState.SENT, IntentState.REJECTED): "refused",
    (IntentState.SENT, IntentState.UNKNOWN): "the answer was lost",
    (IntentState.SENT, IntentState.DROPPED): "certainly not applied",
    (IntentState.UNKNOWN, IntentState.CONFIRMED): "found, or answered late",
    (IntentState.UNKNOWN, IntentState.REJECTED): "refused late",
    (IntentState.UNKNOWN, IntentState.DROPPED): "proven absent",
    (IntentState.REJECTED, IntentState.DROPPED): "released by a person",
}
"""Each step that an intent can take, and what makes it take it."""


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
    trace: str | None = None
    """The step that decided it, as a ``traceparent``."""

    def moved_to(self, state: IntentState, at: Millis, answer: str | None = None) -> Intent:
        if (self.state, state) not in LIFE:
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
