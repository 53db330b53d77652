"""The vault: reveals secrets, and seals certificate material."""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from workers.errors import InputRefused, SecretUnavailable
from workers.records import DocumentKind
from workers.secrets.references import References, ignore
from workers.secrets.seal import derived_key, missing_key, seal_keys
from workers.settings import Secret

__all__ = ["Documents", "Vault", "new_seal_key"]


class Documents(Protocol):
    """The part of a run store that keeps sealed documents."""

    def put(self, run_id: str, kind: str, name: str, document: str) -> None:
        """Stores a text."""

    def document(self, run_id: str, kind: str, name: str) -> str | None:
        """The stored text; None when there is none."""


def new_seal_key() -> Secret:
    """A new key for ESYNC_SEAL_KEY."""
    return Secret(Fernet.generate_key().decode("ascii"))


class Vault(References):
    """Reveals secrets, and seals certificate material.

    Args:
        store: for sealed documents.
        seal_key: Fernet keys, separated by commas: the first one seals, all of them open. None: nothing can be sealed.
        on_reveal: called with each revealed secret, so that the log can mask it.
        folders: of secret files on this machine, besides the folder of the run's cluster file.
        closed: files and folders that are never read, also below `folders`.

    Raises:
        InputRefused: the seal key is not a Fernet key.
    """

    def __init__(
        self,
        store: Documents,
        seal_key: Secret | None,
        on_reveal: Callable[[Secret], None] = ignore,
        *,
        folders: Iterable[Path] = (),
        closed: Iterable[Path] = (),
    ) -> None:
        keys = seal_keys(seal_key)
        super().__init__(on_reveal, folders=folders, closed=closed, keys=keys)
        self._store = store
        self._seal = MultiFernet([Fernet(key) for key in keys]) if keys else None
        self._digest_key = derived_key(keys[0], b"esync digest v1") if keys else b""
        self._mac_keys = tuple(derived_key(key, b"esync mac v1") for key in keys)

    def seal(self, run_id: str, name: str, data: bytes) -> None:
        """Stores bytes of a run so that they can be read only with the seal key.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        text = self._required_seal().encrypt(_label(run_id, name) + data).decode("ascii")
        self._store.put(run_id, DocumentKind.SEALED, name, text)

    def unseal(self, run_id: str, name: str) -> bytes:
        """The bytes that were sealed under that name in that run.

        Raises:
            SecretUnavailable: there are none, or there is no seal key.
            InputRefused: they were sealed with another key, or changed since.
        """
        text = self._store.document(run_id, DocumentKind.SEALED, name)
        if text is None:
            raise SecretUnavailable(f"run {run_id} has no sealed document {name}")
        try:
            data = self._required_seal().decrypt(text.encode("ascii"))
        except (InvalidToken, UnicodeEncodeError):
            data = b""
        label = _label(run_id, name)
        if not data.startswith(label):
            raise InputRefused(
                f"the sealed document {name} of run {run_id} cannot be opened with this ESYNC_SEAL_KEY",
                remedy="give every worker the same ESYNC_SEAL_KEY; after a change of the key: NEW,OLD",
            )
        return data[len(label) :]

    def digest(self, text: str) -> str:
        """A fingerprint of a secret text such as a connection string: equal texts have equal fingerprints.

        It depends on the first seal key, so that passwords cannot be guessed with it.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        self._required_seal()
        return hmac.new(self._digest_key, text.encode(), hashlib.sha256).hexdigest()

    @property
    def can_seal(self) -> bool:
        """Whether there is a seal key."""
        return self._seal is not None

    def mac(self, text: str) -> str:
        """A code for a text that only the seal key can produce (HMAC-SHA-256, hex), with a separate derived key.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        self._required_seal()
        return _mac(self._mac_keys[0], text)

    def is_mac(self, text: str, code: str) -> bool:
        """Whether the code belongs to that text, with the first seal key or an older one.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        self._required_seal()
        given = code.encode("utf-8", "replace")
        return any(hmac.compare_digest(_mac(key, text).encode(), given) for key in self._mac_keys)

    def _required_seal(self) -> MultiFernet:
        if self._seal is None:
            raise missing_key()
        return self._seal


def _label(run_id: str, name: str) -> bytes:
    """Sealed with the data: an attacker who can write to the store cannot replace one document by another."""
    return json.dumps([run_id, name]).encode("ascii") + b"\n"


def _mac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
