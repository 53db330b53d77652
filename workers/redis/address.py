"""The address of a broker or run store: parsed, checked, and written again in one form.

Three libraries read it: our own client, kombu (messages) and Celery (results). They differ in defaults, in options and
in unusual characters. So all of them get the form that is written here, and not what the operator wrote.
"""

import ipaddress
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from workers.errors import InputRefused
from workers.settings import Secret

__all__ = ["BROKER", "STORE", "verified"]

BROKER = "ESYNC_BROKER_URL"
STORE = "ESYNC_STORE_URL"
PORT = 6379  #: the default
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
#: Options for checks, and the one value that is accepted.
_TLS_CHECKS = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_OPTION = re.compile(r"[a-z_]{1,40}")
_DATABASE = re.compile(r"/?|/[0-9]{1,5}")
_FORM = "write it as redis://:PASSWORD@HOST:PORT/DATABASE, or rediss://... for TLS"
_ENCODE = "percent-encode / ? # [ ] @ : % and blanks in user and password, for example / as %2F"


class _Invalid(ValueError):
    """What is wrong, as the end of a sentence, and the remedy. Never quotes anything that may be a password."""

    def __init__(self, what: str, remedy: str = _FORM) -> None:
        super().__init__(what)
        self.remedy = remedy


def verified(url: Secret, variable: str = BROKER) -> Secret:
    """The URL in a form that Celery, kombu and our own client read in the same way, with TLS certificates verified.

    With rediss:// kombu verifies nothing by default, and Celery's result backend requires the option: it is always set.

    Args:
        url: as the operator wrote it; a result of this function is returned unchanged.
        variable: the setting that has it, for the message.

    Raises:
        InputRefused: it is malformed, has an unsupported option, or turns the check of the certificate off.
    """
    try:
        return Secret(_written(_parts(url.reveal())))
    except _Invalid as error:
        raise InputRefused(f"{variable} is invalid: {error}", remedy=error.remedy) from None
    except ValueError:  # its text may quote the password
        raise InputRefused(f"{variable} is invalid: it is not a URL", remedy=f"{_FORM}; {_ENCODE}") from None


def _parts(text: str) -> SplitResult:
    """The parts of the URL; refused when a part of the password could be in another part."""
    if not text:
        raise _Invalid("it is empty", f"unset it to use a broker on this machine, or {_FORM}")
    if not text.isprintable() or " " in text:
        raise _Invalid("it contains a blank, a line break or a control character", _ENCODE)
    if not text.startswith(("redis://", "rediss://")):
        raise _Invalid(
            "it begins with neither redis:// nor rediss://", f"{_FORM}; sockets, Sentinel and Cluster are not supported"
        )
    parts = urlsplit(text)
    if "#" in text or "@" in f"{parts.path}{parts.query}":
        raise _Invalid("the password contains a character that must be percent-encoded", _ENCODE)
    return parts


def _written(parts: SplitResult) -> str:
    options = dict(_options(parts))
    if parts.scheme == "rediss":
        _check_files(options)
        options["ssl_cert_reqs"] = "required"
    address = f"{parts.scheme}://{_user(parts)}{_host(parts)}:{_port(parts)}/{_database(parts)}"
    return f"{address}?{urlencode(options)}" if options else address


def _user(parts: SplitResult) -> str:
    user, password = unquote(parts.username or "", errors="strict"), unquote(parts.password or "", errors="strict")
    if user and not password:
        raise _Invalid(
            "it has a user but no password", f"{_FORM}; without a user, the colon before the password is required"
        )
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if password else ""


def _host(parts: SplitResult) -> str:
    host = parts.hostname
    if not host:
        raise _Invalid("it has no host")
    if "[" in parts.netloc.rpartition("@")[2]:
        return f"[{ipaddress.IPv6Address(host).compressed}]"
    if not _HOST.fullmatch(host):
        raise _Invalid("the host is not a valid name or address", f"{_FORM}; {_ENCODE}")
    return host


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise _Invalid("the port is not a number from 1 to 65535", f"{_FORM}; {_ENCODE}")
    return port or PORT


def _database(parts: SplitResult) -> int:
    if not _DATABASE.fullmatch(parts.path):
        raise _Invalid("the text after the last / is not the number of a database: 0, 1, 2 and so on, 0 by default")
    return int(parts.path.strip("/") or 0)


def _options(parts: SplitResult) -> Iterator[tuple[str, str]]:
    """The options that are passed on."""
    for name, value in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else ():
        if name not in _TLS_FILES and name not in _TLS_CHECKS:
            named = f"the option {name}" if _OPTION.fullmatch(name) else "an option"
            known = ", ".join((*_TLS_FILES, *_TLS_CHECKS))
            raise _Invalid(f"it has {named}, which is not supported", f"{_FORM}; options with rediss:// are {known}")
        if name in _TLS_CHECKS and value.lower() != _TLS_CHECKS[name]:
            raise _Invalid(
                "it turns the check of the server certificate off",
                "use ssl_cert_reqs=required and name the authority with ssl_ca_certs=FILE",
            )
        if parts.scheme == "redis":
            raise _Invalid(f"{name} requires TLS", "begin the URL with rediss://, or remove the option")
        if name in _TLS_FILES:
            yield name, value


def _check_files(options: dict[str, str]) -> None:
    """Reads certificate files here, to report which one is wrong: later it would only be a broken connection."""
    for name, value in options.items():
        if not value:
            raise _Invalid(f"{name} is empty")
        try:
            with Path(value).open("rb"):
                pass
        except OSError as error:
            raise _Invalid(f"{name} is {value}: {error.strerror}", "correct the path; write an absolute path") from None
    authority, own = options.get("ssl_ca_certs"), options.get("ssl_certfile")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authority:
            context.load_verify_locations(authority)
        if own:
            context.load_cert_chain(own, options.get("ssl_keyfile"), password=lambda: "")
    except ssl.SSLError:
        which = (
            "ssl_ca_certs" if authority and not context.cert_store_stats()["x509"] else "ssl_certfile or ssl_keyfile"
        )
        raise _Invalid(f"{which} is not valid PEM", "use files in PEM format, and a key without a passphrase") from None
