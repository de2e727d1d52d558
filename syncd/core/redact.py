"""What nobody may see is taken out of ION's answers before anything can print, log or store them. Pure.

A create's answer carries a generated portal password; an order's items carry, as attributes, the name
and password of a tenant's administrator.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "(hidden)"
_SECRET = re.compile(
    r"pass(w|phrase|code|$)|pwd|secret|credential|api_?key|(access|refresh|bearer|auth)_?token", re.IGNORECASE
)


def is_secret(name: object) -> bool:
    return isinstance(name, str) and _SECRET.search(name) is not None


def _names_secret(pair: Mapping[str, Any]) -> bool:
    return any(is_secret(pair.get(key)) for key in ("name", "key", "attributeName", "displayName"))


def redacted(value: Any) -> Any:
    """The same with every secret hidden: by its key, or by the name beside it in a ``{name, value}`` pair."""
    if isinstance(value, Mapping):
        is_pair = _names_secret(value)
        return {
            key: HIDDEN if (is_secret(key) or (is_pair and key == "value")) and part else redacted(part)
            for key, part in value.items()
        }
    return [redacted(part) for part in value] if isinstance(value, list) else value


def without_secrets(text: str, sent: Any) -> str:
    """A text of ION's, such as an error, without the secrets that were sent to it."""
    for secret in sorted(_secrets(sent), key=len, reverse=True):
        for spelled in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
            text = text.replace(spelled, HIDDEN)
    return text


def _secrets(value: Any, *, is_attribute: bool = False) -> Iterator[str]:
    """What a vendor wants to know with an order is nobody else's business, whatever its name."""
    if isinstance(value, Mapping):
        is_pair = _names_secret(value) or is_attribute
        for key, part in value.items():
            if isinstance(part, str) and len(part) > 1 and (is_secret(key) or (is_pair and key == "value")):
                yield part
            else:
                yield from _secrets(part, is_attribute=key == "attributes")
    elif isinstance(value, list):
        for part in value:
            yield from _secrets(part, is_attribute=is_attribute)
