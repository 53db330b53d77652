"""The seal key, and what follows from it: one key, one use.

What lies in the run store decides which host is spoken to and with which secret. Whoever can write to the store must
not be able to decide that; so every text that a decision reads is kept with a code that only this key gives.
docs/decisions/0008-no-clock-and-sealed-records.md says what is sealed and what that does not protect from.
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

__all__ = ["NotOurs", "Seal", "derived", "no_key", "seal_keys"]

_CODE = 32  #: hex digits: the first 128 bits of the HMAC


class NotOurs(ValueError):
    """A text is not what was sealed in that place; says in a few words why."""


def seal_keys(seal_key: Secret | None) -> tuple[str, ...]:
    """The Fernet keys that a setting names, separated by commas, the newest first.

    Raises:
        InputRefused: one of them is none.
    """
    keys = [key.strip() for key in seal_key.reveal().split(",") if key.strip()] if seal_key else []
    try:
        for key in keys:
            Fernet(key)
    except ValueError:
        raise InputRefused(
            "ESYNC_SEAL_KEY holds something that is no seal key",
            remedy="set it to 32 random bytes in URL-safe base64, for example: openssl rand -base64 32 | tr +/ -_",
        ) from None
    return tuple(keys)


def no_key() -> SecretUnavailable:
    """What is said where a seal key is needed and none is set."""
    return SecretUnavailable(
        "there is no seal key", remedy="set ESYNC_SEAL_KEY, the same for every worker and command of this broker"
    )


def derived(key: str, use: bytes) -> bytes:
    """A key of its own for one use."""
    return HKDF(SHA256(), 32, salt=None, info=use).derive(base64.urlsafe_b64decode(key))


class Seal:
    """Tells what this installation wrote in a place of the run store from everything else that may be found there.

    Args:
        seal_key: Fernet keys, separated by commas: the first one seals, all of them are known. None: nothing can be
            sealed or read.

    Raises:
        InputRefused: that is no seal key.
    """

    def __init__(self, seal_key: Secret | None) -> None:
        self._keys = tuple(derived(key, b"esync records v1") for key in seal_keys(seal_key))

    def sealed(self, place: tuple[str, ...], text: str) -> str:
        """The text as it is kept in that place.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        return f"{_code(self._known()[0], place, text)} {text}"

    def opened(self, place: tuple[str, ...], kept: str) -> str:
        """The text that was sealed in that place.

        Raises:
            NotOurs: it was not, or with another key.
            SecretUnavailable: there is no seal key.
        """
        code, blank, text = kept[:_CODE], kept[_CODE : _CODE + 1], kept[_CODE + 1 :]
        keys = self._known()
        if blank != " " or not code.isascii():
            raise NotOurs("carries no seal: an earlier version of esync wrote it, or somebody else did")
        if not any(hmac.compare_digest(code, _code(key, place, text)) for key in keys):
            raise NotOurs("was not written by this installation, or ESYNC_SEAL_KEY differs")
        return text

    def _known(self) -> tuple[bytes, ...]:
        if not self._keys:
            raise no_key()
        return self._keys


def _code(key: bytes, place: tuple[str, ...], text: str) -> str:
    # The place as one line of JSON: no two places and texts give the same bytes.
    message = json.dumps(place).encode("ascii") + b"\n" + text.encode("utf-8", "surrogatepass")
    return hmac.digest(key, message, hashlib.sha256).hex()[:_CODE]
