"""The flap breaker: a field that two sides, or one that can't hold it, keep changing is frozen (S6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from syncd.core.intent import Intent, IntentState, Kind
from syncd.core.values import Field

FLAP_WINDOW_MS = 600_000
MAX_WRITES = 5
"""Automatic writes of one field of one customer in the window; the next one freezes the field."""

UNMADE = frozenset({IntentState.PREPARED, IntentState.DROPPED, IntentState.REJECTED})


def flapping(recent: Iterable[Intent], wanted: Iterable[Field]) -> frozenset[Field]:
    """The wanted fields that these intents, of the window, wrote too often, on whichever side.

    What a person put back was no automatic write.
    """
    made = (intent for intent in recent if intent.state not in UNMADE and intent.kind is not Kind.UNDO)
    writes = Counter(name for intent in made for name in intent.set)
    return frozenset(name for name in wanted if writes[name] >= MAX_WRITES)
