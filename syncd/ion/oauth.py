"""Custody of ION's tokens (S13).

The refresh token is single use: the answer to a refresh holds the next one, and a lost answer is a
lost connection. So: one refresher at a time, under a lease; a mark is stored before the call; the
new pair is stored, sealed, before the new access token is used; a refresh is made while half of the
access token's life is left. A refused refresh token is said once, clearly, and never retried.

No token leaves this room but in the ``Authorization`` header of a call.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import structlog

from syncd.core.budget import Lane
from syncd.core.errors import OutcomeUnknown, SideError, SideUnavailable, Throttled, Unauthorised
from syncd.core.values import Millis
from syncd.core.work import Tokens
from syncd.engine.ports import Clock, Gate, Slots, Store, Unit
from syncd.ion.answers import Answer, data_of, oauth_error, retry_after_ms
from syncd.ion.live import text

REFRESH_LIFE_MS = 32 * 24 * 3_600_000
ACCESS_LIFE_MS = 7_200_000
LEASE_NAME, LEASE_MS = "token", 60_000
LATELY_MS = 5_000
"""So long an access token is used without asking whether it was replaced. If it was, ION says 401, or takes it."""
PASTE = "paste a new refresh token with `syncd token set` (ION: Settings → Users → Request New Credentials)"

log = structlog.get_logger()

Post = Callable[[str, dict[str, str]], Awaitable[Answer]]
"""POST a form to a path below ION's root, inside a slot that is already taken."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What the configuration gives to start from."""

    refresh: str | None
    access: str | None = None
    client_id: str | None = None
    client_secret: str | None = None

    @property
    def fingerprint(self) -> str:
        """Tells whether the configured token is still the one we started from, and nothing else."""
        return hashlib.sha256(f"seed\x00{self.refresh or self.access or ''}".encode()).hexdigest()[:16]


class Custody:
    def __init__(
        self, store: Store, gate: Gate, clock: Clock, post: Post, configured: Credentials, owner: str
    ) -> None:
        self._store = store
        self._gate = gate
        self._clock = clock
        self._post = post
        self._configured = configured
        self._owner = owner
        self._refreshing = asyncio.Lock()
        self._under_way: set[asyncio.Future[Tokens]] = set()
        self._lately: tuple[str, Millis] | None = None
        """An access token that was good, and until when that is believed."""

    async def bearer(self, slots: Slots | None = None) -> str:
        """An access token that is good now; raises ``Unauthorised`` when there is none to be had."""
        now = self._clock.now()
        if self._lately is not None and now < self._lately[1]:
            return self._lately[0]
        tokens = await self.tokens()
        if tokens.access is None or now >= tokens.access_expires:
            tokens = await self.refresh(tokens, slots)
        if tokens.access is None:
            raise Unauthorised(f"there is no access token: {tokens.refused or PASTE}")
        self._lately = tokens.access, Millis(min(now + LATELY_MS, tokens.access_expires))
        return tokens.access

    async def renew(self, refused: str, slots: Slots | None = None) -> str:
        """ION said 401 to this access token: get another, unless somebody already did."""
        self._lately = None
        tokens = await self.tokens()
        if tokens.access == refused:
            tokens = await self.refresh(tokens, slots)
        if tokens.access == refused:  # nothing better is to be had: don't spend another call on it
            tokens = await self._replace(tokens, replace(tokens, access=None))
        if tokens.access is None:
            raise Unauthorised(f"ION refuses the access token: {tokens.refused or PASTE}")
        return tokens.access

    async def refresh_ahead(self) -> None:
        """Refresh while half of the access token's life is left."""
        tokens = await self.tokens()
        half = (tokens.access_expires - tokens.obtained) // 2
        if tokens.refused is None and self._clock.now() >= tokens.access_expires - half:
            await self.refresh(tokens)

    async def tokens(self) -> Tokens:
        """The stored tokens; at the first start, and when a person gave new ones, the configured."""
        async with self._store.begin() as unit:
            stored = await unit.tokens()
            fresh = self._seed(stored)
            if fresh is not None:
                await unit.save_tokens(fresh)
        tokens = fresh or stored
        if tokens is None:
            raise Unauthorised(f"no token is configured or stored: set SYNCD_ION__REFRESH_TOKEN, or {PASTE}")
        return tokens

    async def refresh(self, seen: Tokens, slots: Slots | None = None) -> Tokens:
        """Trade the refresh token for a new pair, unless somebody has since ``seen`` was read.

        A caller that holds slots lends one: if all are held by calls that wait for the token, none
        other would come free.
        Once begun it is carried to its end, whoever stops waiting for it: an answer that is dropped
        is a connection lost.
        """
        task = asyncio.ensure_future(self._refresh(seen, slots))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for refreshes under way; the caller has stopped asking for new ones."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _refresh(self, seen: Tokens, lent: Slots | None) -> Tokens:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._refreshing)
            # The slot first, for it may take a while; the lease covers the call alone.
            slots = lent if lent is not None else await stack.enter_async_context(self._gate.slots(Lane.OPERATOR))
            while True:
                async with self._store.begin() as unit:
                    now = self._clock.now()
                    tokens = await unit.tokens() or seen
                    if tokens.access != seen.access or tokens.refused is not None:
                        return tokens
                    if tokens.refresh is None:
                        return replace(tokens, access=None, refused="there is no refresh token")
                    if await unit.lease(LEASE_NAME, self._owner, now, LEASE_MS):
                        await unit.save_tokens(replace(tokens, refreshing_since=now))
                        break
                await self._clock.sleep(0.5)  # another replica refreshes: take what it gets
            try:
                async with slots.call():
                    return await self._trade(tokens)
            finally:
                async with self._store.begin() as unit:
                    await unit.unlease(LEASE_NAME, self._owner)

    async def _trade(self, tokens: Tokens) -> Tokens:
        """The call, and what it brought made durable before anything else can go wrong."""
        form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh or ""}
        if self._configured.client_id:
            form["client_id"] = self._configured.client_id
        if self._configured.client_secret:
            form["client_secret"] = self._configured.client_secret
        answer = await self._post("/oauth/token", form)
        if answer.status == 200:
            return await self._keep(tokens, answer)
        said = oauth_error(answer)
        if answer.status in (400, 401) and ": " in said:
            return await self._refused(tokens, said)
        if answer.status == 429:
            raise Throttled("ION throttles the token call", wait_ms=retry_after_ms(answer.headers, answer.answered))
        raise SideUnavailable(f"ION's token endpoint answered {said}")

    async def _keep(self, tokens: Tokens, answer: Answer) -> Tokens:
        """The new pair is durable before anybody uses it."""
        pair = _pair(answer)
        if pair is None:
            raise OutcomeUnknown("ION's token endpoint gave an answer without an access token")
        access, refresh, life_ms = pair
        now = self._clock.now()
        kept = Tokens(
            access=access,
            refresh=refresh or tokens.refresh,
            obtained=now,
            access_expires=Millis(now + life_ms),
            refresh_expires=Millis(now + REFRESH_LIFE_MS) if refresh else tokens.refresh_expires,
            seeded_by=tokens.seeded_by,
        )
        log.info("token_refreshed", access_expires_in_seconds=life_ms // 1000)
        return await self._replace(tokens, kept)

    async def _refused(self, tokens: Tokens, said: str) -> Tokens:
        refused = f"ION refused the refresh token ({said}): {PASTE}"
        stored = await self._replace(tokens, replace(tokens, refused=refused, refreshing_since=None))
        if stored.refused is None:
            return stored  # a person pasted another one meanwhile
        log.error("token_refused", advice=PASTE, said=said)
        if self._clock.now() < tokens.access_expires and tokens.access is not None:
            return stored  # work goes on while the access token lasts
        raise Unauthorised(refused)

    async def _replace(self, before: Tokens, after: Tokens) -> Tokens:
        """Store what became of ``before``, however long the store takes; never over newer tokens."""
        while True:
            try:
                async with self._store.begin() as unit:
                    stored = await unit.tokens()
                    if stored is not None and stored.refresh != before.refresh:
                        return stored
                    await unit.save_tokens(after)
                    return after
            except Exception as error:
                log.error("token_not_stored_yet", reason=type(error).__name__)
                await self._clock.sleep(0.5)

    def _seed(self, stored: Tokens | None) -> Tokens | None:
        """What the configured token means: a start, or a way out after a refusal."""
        given = self._configured
        if given.refresh is None and given.access is None:
            return None
        if stored is not None and (stored.refused is None or stored.seeded_by == given.fingerprint):
            return None
        return _new(given.refresh, given.access, given.fingerprint, self._clock.now())


async def paste(configured: Credentials, unit: Unit, refresh: str, now: Millis) -> None:
    """A person pasted a new refresh token: it replaces all that was stored."""
    stored = await unit.tokens()
    seeded_by = stored.seeded_by if stored else configured.fingerprint
    await unit.save_tokens(_new(refresh, None, seeded_by, now))


def _new(refresh: str | None, access: str | None, seeded_by: str, now: Millis) -> Tokens:
    life = ACCESS_LIFE_MS if access else 0
    return Tokens(access, refresh, now, Millis(now + life), Millis(now + REFRESH_LIFE_MS), seeded_by)


def _pair(answer: Answer) -> tuple[str, str | None, int] | None:
    try:
        data = data_of(answer, writes=False, what="the token call")
    except SideError:
        return None
    access = text(data.get("access_token"))
    life = data.get("expires_in")
    seconds = int(life) if isinstance(life, int | float) or (isinstance(life, str) and life.isdigit()) else 7200
    return (access, text(data.get("refresh_token")), seconds * 1000) if access else None
