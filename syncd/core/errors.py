"""Errors, named for what to do next (S14). A class's docstring is its default message."""

from __future__ import annotations


class SyncdError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)

    @property
    def sentence(self) -> str:
        return str(self.args[0])


class UserError(SyncdError):
    """That cannot be done as asked."""


class NotFound(UserError):
    """There is no such thing."""


class Paused(UserError):
    """Writes are paused: `syncd resume` lets them go on."""


class StoreAway(UserError):
    """The database does not answer."""


class BadConfiguration(UserError):
    """The configuration is not usable."""


class SideError(SyncdError):
    """A call to one of the two sides failed."""


class Transient(SideError):
    """It may work the next time: try again with back-off."""


class Rejected(SideError):
    """The side refuses this customer as it is: set it aside until its record changes."""

    def __init__(
        self, message: str | None = None, *, code: str = "", taken_email: bool = False, status: int = 400
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.taken_email = taken_email
        """ION's 412 on an e-mail address that another customer has: a match to look at (S7)."""


class OutcomeUnknown(SideError):
    """The answer of a write was lost: look before doing anything again."""


class Unauthorised(SideError):
    """ION refuses the credentials: paste a new refresh token with `syncd token set`."""


class Throttled(SideError):
    """ION answers 429: everyone waits."""

    def __init__(self, message: str | None = None, *, wait_ms: int | None = None) -> None:
        super().__init__(message)
        self.wait_ms = wait_ms


class SideUnavailable(SideError):
    """The side does not answer at all: probe, and quarantine nobody."""


class DecideAgain(SideError):
    """The side moved on since it was decided: look at the newest records again."""

    def __init__(self, message: str | None = None, *, answer: object = None) -> None:
        super().__init__(message)
        self.answer = answer
        """What the side holds now, where it could be asked."""


class NoSlotInTime(SyncdError):
    """The budget had no slot before it was too late for one."""


class LostLease(SyncdError):
    """Another worker took over: this one records nothing."""


class StoreConflict(SyncdError):
    """Somebody else changed the same row: run the unit of work again."""
