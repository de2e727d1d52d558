"""Sealing secrets and archived values at rest, and fingerprints that tell equal from different."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from syncd.core.errors import BadConfiguration


class Seal:
    """Several keys make a rotation: the first seals, all open."""

    def __init__(self, keys: list[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise BadConfiguration(
                "SYNCD_SECRET_KEY is not a usable key: make one with `syncd config new-key`"
            ) from None
        self._hash_key = hashlib.sha256(b"fingerprint\x00" + keys[0].encode()).digest()

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise BadConfiguration(
                "what is sealed in the database does not open with SYNCD_SECRET_KEY:"
                " give the key it was sealed with, after a comma if you have a new one"
            ) from None

    def fingerprint(self, data: bytes) -> str:
        return hmac.new(self._hash_key, data, hashlib.sha256).hexdigest()[:32]
