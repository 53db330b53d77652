"""The one border for the address of a broker or run store: read once, checked, and written anew in one form.

Three libraries read it: our own client, kombu (messages) and Celery (results). They differ on what is left out, on
options and on odd characters. So none of them gets to see what the operator wrote, only what we made of it.
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
PORT = 6379  #: when none is given
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
#: Options that switch a check off or on: the one value we take.
_TLS_CHECKS = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_OPTION = re.compile(r"[a-z_]{1,40}")
_DATABASE = re.compile(r"/?|/[0-9]{1,5}")
_FORM = "write it as redis://:PASSWORD@HOST:PORT/DATABASE, or rediss://... for TLS"
_ENCODE = "in user and password write / ? # [ ] @ : % and blanks in percent form, / as %2F for example"


class _Unusable(ValueError):
    """What is wrong, as the end of a sentence, and what to do. Never quotes anything that may be a password."""

    def __init__(self, what: str, remedy: str = _FORM) -> None:
        super().__init__(what)
        self.remedy = remedy


def verified(url: Secret, variable: str = BROKER) -> Secret:
    """The URL as Celery, kombu and our own client all understand it, with the server's certificate verified.

    Over rediss:// kombu verifies nothing by default and Celery's results want to be told: we tell both.

    Args:
        url: as the operator gave it; a result of this function comes out unchanged.
        variable: where it was given, for the message.

    Raises:
        InputRefused: it is malformed, asks for something we do not support, or not to verify the certificate.
    """
    try:
        return Secret(_anew(_parts(url.reveal())))
    except _Unusable as error:
        raise InputRefused(f"{variable} cannot be used: {error}", remedy=error.remedy) from None
    except ValueError:  # its words may quote what is a password in truth
        raise InputRefused(f"{variable} cannot be used: it is not a URL", remedy=f"{_FORM}; {_ENCODE}") from None


def _parts(text: str) -> SplitResult:
    """The URL taken apart, when nothing of a password can have ended up in another part."""
    if not text:
        raise _Unusable("it is empty", f"unset it for a broker on this machine, or {_FORM}")
    if not text.isprintable() or " " in text:
        raise _Unusable("it contains a blank, a line break or a control character", _ENCODE)
    if not text.startswith(("redis://", "rediss://")):
        raise _Unusable(
            "it begins with neither redis:// nor rediss://", f"{_FORM}; sockets, Sentinel and Cluster are not supported"
        )
    parts = urlsplit(text)
    if "#" in text or "@" in f"{parts.path}{parts.query}":
        raise _Unusable("the password contains a character that ends the address", _ENCODE)
    return parts


def _anew(parts: SplitResult) -> str:
    options = dict(_options(parts))
    if parts.scheme == "rediss":
        _check_files(options)
        options["ssl_cert_reqs"] = "required"
    address = f"{parts.scheme}://{_user(parts)}{_host(parts)}:{_port(parts)}/{_database(parts)}"
    return f"{address}?{urlencode(options)}" if options else address


def _user(parts: SplitResult) -> str:
    user, password = unquote(parts.username or "", errors="strict"), unquote(parts.password or "", errors="strict")
    if user and not password:
        raise _Unusable(
            "it has a user but no password", f"{_FORM}; the colon before a password without a user is needed"
        )
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if password else ""


def _host(parts: SplitResult) -> str:
    host = parts.hostname
    if not host:
        raise _Unusable("it names no host")
    if "[" in parts.netloc.rpartition("@")[2]:
        return f"[{ipaddress.IPv6Address(host).compressed}]"
    if not _HOST.fullmatch(host):
        raise _Unusable("what stands for the host is not the name or address of one", f"{_FORM}; {_ENCODE}")
    return host


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise _Unusable("the port is not a number from 1 to 65535", f"{_FORM}; {_ENCODE}")
    return port or PORT


def _database(parts: SplitResult) -> int:
    if not _DATABASE.fullmatch(parts.path):
        raise _Unusable("what follows the last / is not a database: 0, 1, 2 and so on, 0 when left out")
    return int(parts.path.strip("/") or 0)


def _options(parts: SplitResult) -> Iterator[tuple[str, str]]:
    """The options we pass on."""
    for name, value in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else ():
        if name not in _TLS_FILES and name not in _TLS_CHECKS:
            named = f"the option {name}" if _OPTION.fullmatch(name) else "an option"
            known = ", ".join((*_TLS_FILES, *_TLS_CHECKS))
            raise _Unusable(f"it has {named}, which is not supported", f"{_FORM}; options with rediss:// are {known}")
        if name in _TLS_CHECKS and value.lower() != _TLS_CHECKS[name]:
            raise _Unusable(
                "it asks not to verify the server's certificate",
                "use ssl_cert_reqs=required and name the authority with ssl_ca_certs=FILE",
            )
        if parts.scheme == "redis":
            raise _Unusable(f"{name} needs TLS", "begin it with rediss://, or leave the option out")
        if name in _TLS_FILES:
            yield name, value


def _check_files(options: dict[str, str]) -> None:
    """Certificate files are read here, where it can be said which one is wrong: later it is a broken connection."""
    for name, value in options.items():
        if not value:
            raise _Unusable(f"{name} names no file")
        try:
            with Path(value).open("rb"):
                pass
        except OSError as error:
            raise _Unusable(f"{name} names {value}: {error.strerror}", "correct the path; give it in full") from None
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
        raise _Unusable(f"{which} holds no usable PEM", "name files in PEM form, a key without a passphrase") from None
