"""The only place where a reference of a cluster file becomes a secret, or a file of this machine."""

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from workers.errors import InputRefused, SecretUnavailable
from workers.host.named_files import FileRefused, contents, real_path, require_regular
from workers.settings import Secret

__all__ = ["References", "ignore"]

LARGEST = 65536  #: bytes of a secret file
FOUND_FOR = 5.0  #: seconds for which the place of a file of certificate authorities is not looked up again
_FILES = 1000  #: such files that are remembered before all are forgotten
LARGEST_AUTHORITIES = 4 * 2**20  #: bytes of a file of certificate authorities; a system's whole bundle is 0.3 MB
#: Folders of the certificate authorities that systems trust; public, and often named in cluster files.
_AUTHORITIES = ("/etc/ssl", "/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates")
_OWN_VARIABLES = {"ESYNC_SEAL_KEY", "ESYNC_BROKER_URL", "ESYNC_STORE_URL"}
_log = logging.getLogger(__name__)


def ignore(secret: Secret) -> None:
    """Does nothing with a revealed secret."""
    del secret


def _warn(path: Path) -> None:
    _log.warning("secret file %s can be read by other users; chmod 600 it", path)


class References:
    """Finds what a reference names, if cluster files may name it.

    Args:
        on_reveal: called with each revealed secret, so that the log can mask it.
        folders: of secret files on this machine, besides the folder of the run's cluster file.
        closed: files and folders that are never read, also below `folders`.
        on_exposed: called with each secret file that other users of this machine can read.
        keys: texts that no secret may contain: the seal keys.
    """

    def __init__(
        self,
        on_reveal: Callable[[Secret], None] = ignore,
        *,
        folders: Iterable[Path] = (),
        closed: Iterable[Path] = (),
        on_exposed: Callable[[Path], None] = _warn,
        keys: tuple[str, ...] = (),
    ) -> None:
        self._on_reveal = on_reveal
        self._folders = tuple(folders)
        self._closed = tuple(closed)
        self._on_exposed = on_exposed
        self._keys = keys
        self._found: dict[tuple[str, str], tuple[str, float]] = {}

    def reveal(self, reference: str, folder: str = "") -> Secret:
        """The secret that a reference names.

        Args:
            reference: `env:NAME`; `file:PATH`, whose content is used without its last line ending; `keytab:PATH` or
                `tickets:PATH`, whose real path is returned, because Kerberos reads these files itself.
            folder: of the cluster file; the file may be below it, and a relative path starts there.

        Raises:
            SecretUnavailable: it does not exist, cannot be read, or is in a folder that is not allowed. The message has
                the reference, never the content.
        """
        kind, _, name = reference.partition(":")
        if kind == "env" and name:
            secret = _from_environment(reference, name)
        elif kind == "file" and name:
            secret = self._from_file(reference, Path(folder, name), folder)
        elif kind in {"keytab", "tickets"} and name:
            return Secret(str(self._read(reference, Path(folder, name), folder)[0]))
        else:
            # Not quoted: it may be the secret itself, written in place of its reference.
            raise SecretUnavailable(
                "a secret reference is neither env:NAME nor file:PATH", remedy="write env:NAME or file:PATH"
            )
        if any(key in secret.reveal() for key in self._keys):
            raise SecretUnavailable(f"secret {reference}: this is the seal key, which esync never sends to a node")
        self._on_reveal(secret)
        return secret

    def authorities(self, path: str, folder: str = "") -> str:
        """The path, with links resolved, of a file of certificate authorities that a cluster file names.

        Looked up again after some seconds: each step of each node asks for it.

        Raises:
            InputRefused: it is in a folder that is not allowed, not a regular file, or very large. A missing file is no
                error here: the session that opens it reports that.
        """
        known = self._found.get((path, folder))
        if known is not None and time.monotonic() - known[1] < FOUND_FOR:
            return known[0]
        try:
            real = real_path(Path(folder, path), (*self._allowed(folder), *map(Path, _AUTHORITIES)), self._closed)
            require_regular(real, LARGEST_AUTHORITIES)
        except FileNotFoundError:
            return path
        except (FileRefused, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise InputRefused(f"ca_file: {why}", remedy=_allowed_place("ca_file"), file=path) from None
        if len(self._found) > _FILES:
            self._found.clear()
        self._found[path, folder] = (str(real), time.monotonic())
        return str(real)

    def program(self, path: str, folder: str = "") -> str:
        """The path, with links resolved, of a program that a cluster file names.

        Raises:
            InputRefused: it is in a folder that is not allowed, does not exist, or is no program.
        """
        try:
            real = real_path(Path(folder, path), self._allowed(folder), self._closed)
        except FileRefused as why:
            raise InputRefused(f"program: {why}", remedy=_allowed_place("the program"), file=path) from None
        if real.is_file() and os.access(real, os.X_OK):
            return str(real)
        raise InputRefused("program: there is no file that this account may execute", file=path)

    def _allowed(self, folder: str) -> tuple[Path, ...]:
        return (*([Path(folder)] if folder else []), *self._folders)

    def _from_file(self, reference: str, path: Path, folder: str) -> Secret:
        return _secret_in(reference, path, self._read(reference, path, folder)[1])

    def _read(self, reference: str, path: Path, folder: str) -> tuple[Path, bytes]:
        """The real path and the content of a file that a reference names."""
        try:
            real = real_path(path, self._allowed(folder), self._closed)
            content, known = contents(real, LARGEST, self._closed)
        except FileRefused as why:
            raise SecretUnavailable(
                f"secret {reference}: {why}", remedy=_allowed_place("the file"), file=str(path)
            ) from None
        except OSError as error:
            raise SecretUnavailable(
                f"secret {reference}: {error.strerror}",
                remedy="the file must be readable on every worker",
                file=str(path),
            ) from None
        if known.st_mode & 0o077:
            self._on_exposed(path)
        return real, content


def _from_environment(reference: str, name: str) -> Secret:
    if name in _OWN_VARIABLES:
        raise SecretUnavailable(f"secret {reference}: this variable is esync's own, and esync never sends it to a node")
    value = os.environ.get(name)
    if not value:
        raise SecretUnavailable(
            f"secret {reference}: the variable is {'not set' if value is None else 'empty'}",
            remedy=f"set {name} in the environment of every worker",
        )
    return Secret(value)


def _allowed_place(what: str) -> str:
    return f"move {what} below the folder of the cluster file, or add its folder to ESYNC_SECRETS on every worker"


def _secret_in(reference: str, path: Path, content: bytes) -> Secret:
    try:
        text = content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except ValueError:
        raise SecretUnavailable(f"secret {reference}: the file is not UTF-8 text", file=str(path)) from None
    if not text or len(content) > LARGEST:
        what = "empty" if not text else f"larger than {LARGEST} bytes"
        raise SecretUnavailable(f"secret {reference}: the file is {what}", file=str(path))
    return Secret(text)
