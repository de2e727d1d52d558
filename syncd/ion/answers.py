"""What an ION answer means: data, or an error named for what to do next (S14). Pure.

Gateways answer HTML, proxies answer nothing, proto JSON drops empty fields: nothing here trusts
the body further than it can be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import orjson

from syncd.core.errors import (
    OutcomeUnknown,
    Rejected,
    SideError,
    SideUnavailable,
    Throttled,
    Transient,
    Unauthorised,
)
from syncd.core.values import Millis

INTERNAL_NAMES = {
    "orgName": "company (customerOrganization)",
    "primaryContactEmail": "email (customerEmail)",
    "languageCode": "language (languageCode)",
}
"""ION's errors name fields by internal names; people know them by others."""

MAX_MESSAGE = 300
MAX_RETRY_AFTER_MS = 3_600_000
"""A server that asks for more than this is asked again after it: nobody is shut out for good by a slip."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes
    answered: Millis


def data_of(answer: Answer, *, writes: bool, what: str) -> dict[str, Any]:
    """The JSON object of a good answer; raises the ``SideError`` that fits any other.

    ``writes``: the call may have changed something, so a good status with an unreadable body, or
    any 5xx, leaves its outcome unknown.
    """
    data = json_of(answer, writes=writes, what=what)
    if isinstance(data, dict):
        return data
    raise _unreadable(answer, writes=writes, what=what)


def json_of(answer: Answer, *, writes: bool, what: str) -> Any:
    """The same for the few answers that are a list, or say with 204 that there is nothing to say."""
    if not 200 <= answer.status < 300:
        raise error_of(answer, writes=writes, what=what)
    data = _json(answer.body)
    if isinstance(data, dict | list):
        return data
    if not answer.body.strip() and (not writes or answer.status == 204):
        return {}
    raise _unreadable(answer, writes=writes, what=what)


def _unreadable(answer: Answer, *, writes: bool, what: str) -> SideError:
    problem = f"ION answered {what} with {_shape(answer.body)} instead of JSON"
    return OutcomeUnknown(problem) if writes else Transient(problem)


def error_of(answer: Answer, *, writes: bool, what: str) -> SideError:
    said = f"ION answered {what} with {answer.status}{_message(answer.body)}"
    match answer.status:
        case 401:
            return Unauthorised(f"{said}: the credentials are wrong or have expired")
        case 403:
            return Unauthorised(
                f"{said}: the credentials have no access to this account: check SYNCD_ION__ACCOUNT_ID"
                " and the role of the ION user"
            )
        case 429:
            wait = retry_after_ms(answer.headers, answer.answered)
            return Throttled(f"{said}: somebody else may be using the credential", wait_ms=wait)
        case 400 | 404 | 409 | 412 | 413 | 422:
            taken = _is_taken_email(answer)
            return Rejected(said, code=_code(answer.body), taken_email=taken, status=answer.status)
        case status if status >= 500:
            return OutcomeUnknown(said) if writes else SideUnavailable(said)
        case _:
            return OutcomeUnknown(said) if writes else Transient(said)


def retry_after_ms(headers: Mapping[str, str], now: Millis) -> int | None:
    """``Retry-After`` in seconds or as a date; ``None`` where it is missing or makes no sense."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        if text.isascii() and text.isdigit():
            wait_ms = int(text) * 1000
        else:
            wait_ms = int(parsedate_to_datetime(text).timestamp() * 1000) - now
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0, min(wait_ms, MAX_RETRY_AFTER_MS))


def oauth_error(answer: Answer) -> str:
    """What ``/oauth/*`` said: a bare ``{"error": …}``, unlike the resources."""
    data = _json(answer.body)
    said = data.get("error") if isinstance(data, dict) else None
    return f"{answer.status}: {said}"[:MAX_MESSAGE] if isinstance(said, str) else str(answer.status)


def _json(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _shape(body: bytes) -> str:
    head = body.lstrip()[:15].lower()
    if not head:
        return "nothing"
    return "an HTML page" if head.startswith((b"<!doctype", b"<html", b"<")) else "something unreadable"


def _message(body: bytes) -> str:
    data = _json(body)
    if not isinstance(data, dict):
        return ""
    text = data.get("message") or data.get("error")
    if not isinstance(text, str):
        return ""
    for internal, known in INTERNAL_NAMES.items():
        text = text.replace(internal, known)
    return f": {text}"[:MAX_MESSAGE]


def _details(body: bytes) -> list[dict[str, Any]]:
    data = _json(body)
    details = data.get("details") if isinstance(data, dict) else None
    return [part for part in details if isinstance(part, dict)] if isinstance(details, list) else []


def _code(body: bytes) -> str:
    return next((str(part["code"]) for part in _details(body) if "code" in part), "")


def _is_taken_email(answer: Answer) -> bool:
    if answer.status not in (409, 412):
        return False
    return _code(answer.body) == "CUS-CR-001" or any(
        part.get("referenceEntity") == "primaryContactEmail" for part in _details(answer.body)
    )
