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
        self._hash_keys = [hashlib.sha256(b"fingerprint\x00" + key.encode()).digest() for key in keys]

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
        return self.fingerprints(data)[0]

    def fingerprints(self, data: bytes) -> list[str]:
        """By each of the keys, the newest first: what an older one made is recognised too."""
        return [hmac.new(key, data, hashlib.sha256).hexdigest()[:32] for key in self._hash_keys]
