"""The seal key, and the keys derived from it: one key for each use.

The run store decides which host a worker connects to, and with which secret. An attacker who can write to the store
must not decide that. So every text that a decision reads is stored with a code that only this key can produce.
docs/decisions/0008-no-clock-and-sealed-records.md lists what is sealed, and what that does not protect from.
"""

import base64
import hashlib
import hmac
import json

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from workers.errors import InputRefused, SecretUnavailable
from workers.settings import Secret

__all__ = ["InvalidSeal", "Seal", "derived_key", "missing_key", "seal_keys"]

_CODE = 32  #: hex digits: the first 128 bits of the HMAC


class InvalidSeal(ValueError):
    """A text is not what was sealed for that place; its text is the reason."""


def seal_keys(seal_key: Secret | None) -> tuple[str, ...]:
    """The Fernet keys of a setting, separated by commas, the newest first.

    Raises:
        InputRefused: one of them is not a Fernet key.
    """
    keys = [key.strip() for key in seal_key.reveal().split(",") if key.strip()] if seal_key else []
    try:
        for key in keys:
            Fernet(key)
    except ValueError:
        raise InputRefused(
            "ESYNC_SEAL_KEY is not a valid seal key",
            remedy="set it to 32 random bytes in URL-safe base64, for example: openssl rand -base64 32 | tr +/ -_",
        ) from None
    return tuple(keys)


def missing_key() -> SecretUnavailable:
    """The error when a seal key is needed and none is set."""
    return SecretUnavailable(
        "no seal key is set", remedy="set ESYNC_SEAL_KEY, the same for every worker and command of this broker"
    )


def derived_key(key: str, use: bytes) -> bytes:
    """The key for one use."""
    return HKDF(SHA256(), 32, salt=None, info=use).derive(base64.urlsafe_b64decode(key))


class Seal:
    """Recognises the texts that this installation wrote to a place in the run store.

    Args:
        seal_key: Fernet keys, separated by commas: the first one seals, all of them are accepted. None: nothing can be
            sealed or read.

    Raises:
        InputRefused: it is not a valid seal key.
    """

    def __init__(self, seal_key: Secret | None) -> None:
        self._keys = tuple(derived_key(key, b"esync records v1") for key in seal_keys(seal_key))

    def sealed(self, place: tuple[str, ...], text: str) -> str:
        """The text as it is stored in that place.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        return f"{_code(self._required_keys()[0], place, text)} {text}"

    def opened(self, place: tuple[str, ...], stored: str) -> str:
        """The text that was sealed for that place.

        Raises:
            InvalidSeal: it was sealed for another place, with another key, or not at all.
            SecretUnavailable: there is no seal key.
        """
        code, blank, text = stored[:_CODE], stored[_CODE : _CODE + 1], stored[_CODE + 1 :]
        keys = self._required_keys()
        if blank != " " or not code.isascii():
            raise InvalidSeal("has no seal: an earlier version of esync wrote it, or another program")
        if not any(hmac.compare_digest(code, _code(key, place, text)) for key in keys):
            raise InvalidSeal("was not written by this installation, or ESYNC_SEAL_KEY differs")
        return text

    def _required_keys(self) -> tuple[bytes, ...]:
        if not self._keys:
            raise missing_key()
        return self._keys


def _code(key: bytes, place: tuple[str, ...], text: str) -> str:
    # The place as one line of JSON: different places or texts never give the same bytes.
    message = json.dumps(place).encode("ascii") + b"\n" + text.encode("utf-8", "surrogatepass")
    return hmac.digest(key, message, hashlib.sha256).hex()[:_CODE]
