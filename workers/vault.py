"""Secrets at the last moment: a reference becomes a value only here, and certificate material is stored sealed."""

import base64
import hashlib
import hmac
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from workers.errors import InputRefused, SecretUnavailable
from workers.settings import Secret

__all__ = ["Documents", "Vault", "new_seal_key"]

KIND = "sealed"  #: of the documents in the run store
LARGEST = 65536  #: bytes of a secret file
_log = logging.getLogger(__name__)


class Documents(Protocol):
    """The part of a run store that sealed things are kept in."""

    def put(self, run_id: str, kind: str, name: str, document: str) -> None:
        """Keeps a text."""

    def document(self, run_id: str, kind: str, name: str) -> str | None:
        """The text that was kept."""


def new_seal_key() -> Secret:
    """A fresh key for ESYNC_SEAL_KEY."""
    return Secret(Fernet.generate_key().decode("ascii"))


def _keys(seal_key: Secret) -> list[str]:
    return [key.strip() for key in seal_key.reveal().split(",") if key.strip()]


def _seal_of(keys: list[str]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise InputRefused(
            "ESYNC_SEAL_KEY holds something that is no seal key",
            remedy="set it to 32 random bytes in URL-safe base64, for example: openssl rand -base64 32 | tr +/ -_",
        ) from None


def _ignore(secret: Secret) -> None:
    del secret


class Vault:
    """What a worker may know, for as long as it needs to.

    Args:
        store: where sealed material is kept.
        seal_key: Fernet keys, separated by commas: the first one seals, all of them open. None: nothing can be sealed.
        on_reveal: told each secret that is revealed, so that the log can mask it.

    Raises:
        InputRefused: the seal key is not a Fernet key.
    """

    def __init__(
        self, store: Documents, seal_key: Secret | None, on_reveal: Callable[[Secret], None] = _ignore
    ) -> None:
        keys = _keys(seal_key) if seal_key else []
        self._store = store
        self._on_reveal = on_reveal
        self._seal = _seal_of(keys) if keys else None
        self._digest_key = _derived(keys[0]) if keys else b""
        self._mac_keys = tuple(_derived(key, b"esync mac v1") for key in keys)

    def reveal(self, reference: str, base: Path | None = None) -> Secret:
        """The secret that a reference names.

        Args:
            reference: `env:NAME`, or `file:PATH`, whose content counts without its last line ending.
            base: the folder that a relative path starts from; the current one by default.

        Raises:
            SecretUnavailable: it leads nowhere. The message has the reference, never the content.
        """
        kind, _, name = reference.partition(":")
        if kind == "env" and name:
            secret = _from_environment(reference, name)
        elif kind == "file" and name:
            secret = _from_file(reference, (base or Path.cwd()) / name)
        else:
            # Not repeated here: it may be the secret itself, written where its reference belongs.
            raise SecretUnavailable(
                "a secret reference is neither env:NAME nor file:PATH", remedy="write env:NAME or file:PATH"
            )
        self._on_reveal(secret)
        return secret

    def seal(self, run_id: str, name: str, data: bytes) -> None:
        """Keeps bytes of a run in the store, readable only with the seal key.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        self._store.put(run_id, KIND, name, self._sealer().encrypt(_label(run_id, name) + data).decode("ascii"))

    def unseal(self, run_id: str, name: str) -> bytes:
        """What was sealed under that name in that run.

        Raises:
            SecretUnavailable: nothing was, or there is no seal key.
            InputRefused: it was sealed with another key, or tampered with.
        """
        text = self._store.document(run_id, KIND, name)
        if text is None:
            raise SecretUnavailable(f"run {run_id} has nothing sealed under {name}")
        try:
            data = self._sealer().decrypt(text.encode("ascii"))
        except (InvalidToken, UnicodeEncodeError):
            data = b""
        label = _label(run_id, name)
        if not data.startswith(label):
            raise InputRefused(
                f"what run {run_id} has sealed under {name} cannot be opened with this ESYNC_SEAL_KEY",
                remedy="give every worker the same ESYNC_SEAL_KEY; after a change, the old key second: NEW,OLD",
            )
        return data[len(label) :]

    def digest(self, text: str) -> str:
        """A fingerprint of a secret text such as a connection string: equal texts, equal fingerprints.

        Keyed, so that nobody can try out passwords against it; it changes when the first seal key does.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        self._sealer()
        return hmac.new(self._digest_key, text.encode(), hashlib.sha256).hexdigest()

    @property
    def can_seal(self) -> bool:
        """Whether there is a seal key."""
        return self._seal is not None

    def mac(self, text: str) -> str:
        """A code that only holders of the seal key can make of a text (HMAC-SHA-256, hex), under a key of its own.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        self._sealer()
        return _mac(self._mac_keys[0], text)

    def is_mac(self, text: str, code: str) -> bool:
        """Whether the code was made of that text, with the first seal key or an older one.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        self._sealer()
        given = code.encode("utf-8", "replace")
        return any(hmac.compare_digest(_mac(key, text).encode(), given) for key in self._mac_keys)

    def _sealer(self) -> MultiFernet:
        if self._seal is None:
            raise SecretUnavailable(
                "there is no seal key", remedy="set ESYNC_SEAL_KEY, the same for every worker of this broker"
            )
        return self._seal


def _label(run_id: str, name: str) -> bytes:
    """Sealed in with the data: whoever can write to the store cannot pass one blob off as another."""
    return json.dumps([run_id, name]).encode("ascii") + b"\n"


def _derived(key: str, use: bytes = b"esync digest v1") -> bytes:
    """A key of its own for fingerprints, and another for codes: one key, one use."""
    return HKDF(SHA256(), 32, salt=None, info=use).derive(base64.urlsafe_b64decode(key))


def _mac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _from_environment(reference: str, name: str) -> Secret:
    value = os.environ.get(name)
    if not value:
        raise SecretUnavailable(
            f"secret {reference}: the variable is {'not set' if value is None else 'empty'}",
            remedy=f"set {name} in the environment of every worker",
        )
    return Secret(value)


def _from_file(reference: str, path: Path) -> Secret:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                _log.warning("secret file %s can be read by other users; chmod 600 it", path)
            content = file.read(LARGEST + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise SecretUnavailable(
            f"secret {reference}: {error.strerror}", remedy="the file must be readable on every worker", file=str(path)
        ) from None
    except ValueError:
        raise SecretUnavailable(f"secret {reference}: the file is not UTF-8 text", file=str(path)) from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or len(content) > LARGEST:
        what = "empty" if not text else f"larger than {LARGEST} bytes"
        raise SecretUnavailable(f"secret {reference}: the file is {what}", file=str(path))
    return Secret(text)
