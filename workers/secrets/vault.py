"""Secrets at the last moment: a reference becomes a value only here, and certificate material is stored sealed."""

import hashlib
import hmac
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from workers.errors import InputRefused, SecretUnavailable
from workers.host.named_files import NotAllowed, contents, place_of, require_regular
from workers.records import DocumentKind
from workers.secrets.seal import derived, no_key, seal_keys
from workers.settings import Secret

__all__ = ["Documents", "Vault", "new_seal_key"]

LARGEST = 65536  #: bytes of a secret file
LARGEST_AUTHORITIES = 4 * 2**20  #: bytes of a file of certificate authorities; a system's whole bundle is 0.3 MB
#: Where systems keep the certificate authorities they trust; public, and often named in cluster files.
_AUTHORITIES = ("/etc/ssl", "/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates")
_OWN_VARIABLES = {"ESYNC_SEAL_KEY", "ESYNC_BROKER_URL", "ESYNC_STORE_URL"}
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


def _ignore(secret: Secret) -> None:
    del secret


class Vault:
    """What a worker may know, for as long as it needs to.

    Args:
        store: where sealed material is kept.
        seal_key: Fernet keys, separated by commas: the first one seals, all of them open. None: nothing can be sealed.
        on_reveal: told each secret that is revealed, so that the log can mask it.
        folders: of this machine, that secret files may come from besides the folder of the run's cluster file.
        closed: files and folders that nothing is taken from, wherever they lie.

    Raises:
        InputRefused: the seal key is not a Fernet key.
    """

    def __init__(
        self,
        store: Documents,
        seal_key: Secret | None,
        on_reveal: Callable[[Secret], None] = _ignore,
        *,
        folders: Iterable[Path] = (),
        closed: Iterable[Path] = (),
    ) -> None:
        keys = seal_keys(seal_key)
        self._store = store
        self._on_reveal = on_reveal
        self._folders = tuple(folders)
        self._closed = tuple(closed)
        self._keys = keys
        self._seal = MultiFernet([Fernet(key) for key in keys]) if keys else None
        self._digest_key = derived(keys[0], b"esync digest v1") if keys else b""
        self._mac_keys = tuple(derived(key, b"esync mac v1") for key in keys)

    def reveal(self, reference: str, folder: str = "") -> Secret:
        """The secret that a reference names.

        Args:
            reference: `env:NAME`, or `file:PATH`, whose content counts without its last line ending.
            folder: that of the cluster file; the file may lie below it, and a relative path starts there.

        Raises:
            SecretUnavailable: it leads nowhere, or where no secret may come from. The message has the reference, never
                the content.
        """
        kind, _, name = reference.partition(":")
        if kind == "env" and name:
            secret = _from_environment(reference, name)
        elif kind == "file" and name:
            secret = self._from_file(reference, Path(folder, name), folder)
        else:
            # Not repeated here: it may be the secret itself, written where its reference belongs.
            raise SecretUnavailable(
                "a secret reference is neither env:NAME nor file:PATH", remedy="write env:NAME or file:PATH"
            )
        if any(key in secret.reveal() for key in self._keys):
            raise SecretUnavailable(f"secret {reference}: that is the seal key, which goes to no node")
        self._on_reveal(secret)
        return secret

    def authorities(self, path: str, folder: str = "") -> str:
        """Where a file of certificate authorities that a cluster file names really lies.

        Raises:
            InputRefused: where none may come from, no regular file, or very large. That there is none is for whoever
                opens it to say.
        """
        try:
            real = place_of(Path(folder, path), (*self._allowed(folder), *map(Path, _AUTHORITIES)), self._closed)
            require_regular(real, LARGEST_AUTHORITIES)
        except FileNotFoundError:
            return path
        except (NotAllowed, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise InputRefused(f"ca_file: {why}", remedy=_elsewhere("ca_file"), file=path) from None
        return str(real)

    def _allowed(self, folder: str) -> tuple[Path, ...]:
        return (*([Path(folder)] if folder else []), *self._folders)

    def _from_file(self, reference: str, path: Path, folder: str) -> Secret:
        try:
            real = place_of(path, self._allowed(folder), self._closed)
            content, known = contents(real, LARGEST, self._closed)
        except NotAllowed as why:
            raise SecretUnavailable(f"secret {reference}: {why}", remedy=_elsewhere("it"), file=str(path)) from None
        except OSError as error:
            raise SecretUnavailable(
                f"secret {reference}: {error.strerror}",
                remedy="the file must be readable on every worker",
                file=str(path),
            ) from None
        if known.st_mode & 0o077:
            _log.warning("secret file %s can be read by other users; chmod 600 it", path)
        return _secret_in(reference, path, content)

    def seal(self, run_id: str, name: str, data: bytes) -> None:
        """Keeps bytes of a run in the store, readable only with the seal key.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        self._store.put(
            run_id, DocumentKind.SEALED, name, self._sealer().encrypt(_label(run_id, name) + data).decode("ascii")
        )

    def unseal(self, run_id: str, name: str) -> bytes:
        """What was sealed under that name in that run.

        Raises:
            SecretUnavailable: nothing was, or there is no seal key.
            InputRefused: it was sealed with another key, or tampered with.
        """
        text = self._store.document(run_id, DocumentKind.SEALED, name)
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
            raise no_key()
        return self._seal


def _label(run_id: str, name: str) -> bytes:
    """Sealed in with the data: whoever can write to the store cannot pass one blob off as another."""
    return json.dumps([run_id, name]).encode("ascii") + b"\n"


def _mac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _from_environment(reference: str, name: str) -> Secret:
    if name in _OWN_VARIABLES:
        raise SecretUnavailable(f"secret {reference}: that variable is esync's own, and goes to no node")
    value = os.environ.get(name)
    if not value:
        raise SecretUnavailable(
            f"secret {reference}: the variable is {'not set' if value is None else 'empty'}",
            remedy=f"set {name} in the environment of every worker",
        )
    return Secret(value)


def _elsewhere(what: str) -> str:
    return f"move {what} below the folder of the cluster file, or name its folder in ESYNC_SECRETS on every worker"


def _secret_in(reference: str, path: Path, content: bytes) -> Secret:
    try:
        text = content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except ValueError:
        raise SecretUnavailable(f"secret {reference}: the file is not UTF-8 text", file=str(path)) from None
    if not text or len(content) > LARGEST:
        what = "empty" if not text else f"larger than {LARGEST} bytes"
        raise SecretUnavailable(f"secret {reference}: the file is {what}", file=str(path))
    return Secret(text)
