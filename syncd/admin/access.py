"""Who may come in: a bearer token for ``/v1``, a signed session for the console (contract 7).

Rules
1. The token is compared in constant time; whoever is wrong too often waits.
2. A session is a signed cookie, so any replica knows it. It ends after twelve hours, or when the token changes.
3. Whatever changes something in the console carries the session's own CSRF token; ``/v1`` takes no cookie.
4. Without a token only the loopback is listened on, and only names of the loopback are answered to:
   a page elsewhere can't reach it by a name of its own, nor anybody through a proxy that says what it is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import structlog
from aiohttp import web

from syncd.core.values import Millis

log = structlog.get_logger()

COOKIE = "syncd_session"
PROXIED = ("forwarded", "via")
SESSION_MS, WINDOW_MS = 12 * 3_600_000, 60_000
MAX_WRONG, MAX_ADDRESSES = 10, 10_000
LOCAL = "local"
"""Who it is where no token is asked for."""


@dataclass(frozen=True, slots=True)
class Session:
    name: str
    """Who came in, as they say; the log of decisions names them."""
    since: Millis
    csrf: str
    door: str
    """Fingerprint of the token that opened it."""


class Access:
    def __init__(self, token: str | None, sign: Callable[[bytes], list[str]], now: Callable[[], Millis]) -> None:
        """``sign``: a keyed hash, by each key there is, the newest first."""
        self._token = token
        self._sign = sign
        self._now = now
        self._wrong: dict[str, deque[Millis]] = {}

    @property
    def is_open(self) -> bool:
        """No token was configured: whoever is on this machine may."""
        return self._token is None

    def wait_seconds(self, request: web.Request) -> int:
        """How long this address has to wait, after too many wrong tokens."""
        since = Millis(self._now() - WINDOW_MS)
        wrong = [at for at in self._wrong.get(_address(request), ()) if at > since]
        return (wrong[0] - since) // 1000 + 1 if len(wrong) >= MAX_WRONG else 0

    def is_token(self, request: web.Request, given: str) -> bool:
        if self._token is None:
            return True
        if hmac.compare_digest(_digest(given), _digest(self._token)):
            return True
        address, now = _address(request), self._now()
        if address not in self._wrong and len(self._wrong) >= MAX_ADDRESSES:
            self._wrong.pop(next(iter(self._wrong)))  # whose first wrong token lies back the longest
        self._wrong.setdefault(address, deque(maxlen=MAX_WRONG)).append(now)
        log.warning("token_wrong", address=address)
        return False

    def may_use_api(self, request: web.Request) -> bool:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        return self.is_open or (kind.lower() == "bearer" and self.is_token(request, given.strip()))

    def is_called_by_name(self, request: web.Request) -> bool:
        """Rule 4; where a token is asked for, any name will do."""
        if not self.is_open:
            return True
        if any(name.lower().startswith("x-forwarded") or name.lower() in PROXIED for name in request.headers):
            return False
        try:
            host = request.url.host or ""
        except ValueError:
            return False
        return host == "localhost" or _is_loopback(host)

    def begin(self, name: str) -> Session:
        return Session(name, self._now(), secrets.token_urlsafe(24), self._doors()[0])

    def seal(self, kind: str, told: object) -> str:
        """Signed text for a cookie; ``kind`` keeps one from being taken for another."""
        body = base64.urlsafe_b64encode(orjson.dumps(told))
        return f"{body.decode()}.{self._sign(kind.encode() + body)[0]}"

    def unseal(self, kind: str, cookie: str) -> Any:
        """``None`` where it is none of ours."""
        body, _, mark = cookie.partition(".")
        marks = self._sign(kind.encode() + _bytes(body))
        is_ours = any(hmac.compare_digest(_bytes(mark), known.encode()) for known in marks)
        return orjson.loads(base64.urlsafe_b64decode(body)) if is_ours else None

    def cookie_of(self, session: Session) -> str:
        return self.seal("session", asdict(session))

    def session_of(self, request: web.Request) -> Session | None:
        told = self.unseal("session", request.cookies.get(COOKIE, ""))
        session = Session(**told) if told else None
        is_young = session is not None and self._now() - session.since < SESSION_MS
        return session if session and is_young and session.door in self._doors() else None

    def _doors(self) -> list[str]:
        """By each key there is, the newest first: a rotation signs nobody out."""
        return self._sign(b"door" + (self._token or "").encode())


def is_of_session(session: Session, given: object) -> bool:
    return isinstance(given, str) and hmac.compare_digest(_bytes(given), session.csrf.encode())


def _digest(text: str) -> bytes:
    return hashlib.sha256(_bytes(text)).digest()


def _bytes(text: str) -> bytes:
    """What came in a header may be no text at all."""
    return text.encode(errors="surrogateescape")


def _address(request: web.Request) -> str:
    return request.remote or ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
