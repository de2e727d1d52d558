"""The answer to a create was lost: which ION customers may be what it made? (S7)

One that ION says it made while the create may have taken effect, that was never seen before the
create was written down, and that was not seen to be born as somebody else.

Next in the flow: ``pairing`` asks for these; where there is one and nothing tells more, a person decides.
"""

from __future__ import annotations

from syncd.core.intent import Intent
from syncd.core.match import match_key
from syncd.core.record import Record
from syncd.core.values import Field, Millis

ION_CLOCK_MS = 10_000
"""How far ION's clock may be from ours."""
CREATE_MS = 40_000
"""From a create's intent until it must have taken effect, if it ever does: it is sent within seconds."""


def made_between(create: Intent) -> tuple[Millis, Millis]:
    """By ION's clock, when what this create made was made."""
    return Millis(create.at - ION_CLOCK_MS), Millis(create.at + CREATE_MS + ION_CLOCK_MS)


def may_be_of(record: Record, create: Intent) -> bool:
    return appeared_after(record, create.at) and not was_born_otherwise(record, create)


def appeared_after(record: Record, at: Millis) -> bool:
    """It was never seen before then, by our own clock: ION's may be wrong by some seconds."""
    sightings = (sighting for register in record.registers.values() for sighting in register)
    return all((sighting.until if sighting.is_exact else sighting.first) >= at for sighting in sightings)


def was_born_otherwise(record: Record, create: Intent) -> bool:
    """It was seen as it was made, with another name or address than this create sent: somebody else's.

    ION dates by whole seconds; the dialect that tells no modification time can't show this.
    """
    for name in (Field.EMAIL, Field.COMPANY):
        oldest = min(record.registers.get(name, ()), key=lambda sighting: sighting.first, default=None)
        as_made = oldest is not None and oldest.is_exact and oldest.first <= (record.created or 0) + 1_000
        if oldest is not None and as_made and match_key(oldest.value) != match_key(create.set.get(name)):
            return True
    return False
