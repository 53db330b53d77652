"""The address of a broker or run store: parsed, checked, and written again in one form.

Three libraries read it: our own client, kombu (messages) and Celery (results). They differ in defaults, in options and
in unusual characters. So all of them get the form that is written here, and not what the operator wrote. An address
may name the Sentinels that know the server, in place of the server.
"""

import ipaddress
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from workers.errors import InputRefused
from workers.settings import Secret

__all__ = ["BROKER", "ENCODE", "STORE", "Address", "address_of", "verified"]

BROKER = "ESYNC_BROKER_URL"
STORE = "ESYNC_STORE_URL"
#: What an address may begin with -> the default port.
_PORTS = {"redis": 6379, "rediss": 6379, "sentinel": 26379, "sentinels": 26379}
_OVER_TLS = ("rediss", "sentinels")
_SENTINEL = ("sentinel", "sentinels")
_MASTER = "master"
#: How to log on at the Sentinels, which need not have the user and password of the server.
_LOGON = ("sentinel_user", "sentinel_password")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
#: Options for checks, and the one value that is accepted.
_TLS_CHECKS = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_OPTION = re.compile(r"[a-z_]{1,40}")
_DATABASE = re.compile(r"/?|/[0-9]{1,5}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")  #: what Sentinel accepts
_FORM = "write it as redis://:PASSWORD@HOST:PORT/DATABASE, or rediss://... for TLS"
_SENTINEL_FORM = "write it as sentinel://:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?master=NAME, or sentinels://... for TLS"
#: How to write unusual characters.
ENCODE = "percent-encode / ? # [ ] @ : % and blanks in user and password, for example / as %2F"


class _Invalid(ValueError):
    """What is wrong, as the end of a sentence, and the remedy. Never quotes anything that may be a password."""

    def __init__(self, what: str, remedy: str = _FORM) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Address:
    """A verified address in parts.

    Attributes:
        url: begins with redis:// or rediss:// and has one host; with Sentinels that is the first of them.
        sentinels: host and port of each; empty when the URL names the server itself.
        master: the name under which the Sentinels know the server.
        user, password: how to log on at the Sentinels.
        tls: the options for TLS.
    """

    url: Secret
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = ""
    user: str = ""
    password: Secret = Secret("")  # noqa: RUF009 - immutable
    tls: tuple[tuple[str, str], ...] = ()


def verified(url: Secret, variable: str = BROKER) -> Secret:
    """The URL in one form, whatever the operator left out, with TLS certificates verified.

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
        raise InputRefused(f"{variable} is invalid: it is not a URL", remedy=f"{_FORM}; {ENCODE}") from None


def address_of(url: Secret, variable: str = BROKER) -> Address:
    """The parts that Celery, kombu and our own client read in the same way.

    Raises:
        InputRefused: as `verified`.
    """
    checked = verified(url, variable)
    parts = _split(checked.reveal())
    if parts.scheme not in _SENTINEL:
        return Address(checked)
    options = dict(parse_qsl(parts.query))
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    scheme, account = "rediss" if tls else "redis", parts.netloc.rpartition("@")[:2]
    hosts = [(str(one.hostname), one.port or 0) for one in _hosts(parts)]
    first = parts.netloc.rpartition("@")[2].split(",")[0]
    one_host = f"{scheme}://{''.join(account)}{first}{parts.path}"
    return Address(
        Secret(f"{one_host}?{urlencode(tls)}" if tls else one_host),
        tuple(hosts),
        options[_MASTER],
        options.get(_LOGON[0], ""),
        Secret(options.get(_LOGON[1], "")),
        tuple(tls.items()),
    )


def _parts(text: str) -> SplitResult:
    """The parts of the URL; refused when a part of the password could be in another part."""
    if not text:
        raise _Invalid("it is empty", f"unset it to use a broker on this machine, or {_FORM}")
    if not text.isprintable() or " " in text:
        raise _Invalid("it contains a blank, a line break or a control character", ENCODE)
    if text.partition("://")[0] not in _PORTS or "://" not in text:
        raise _Invalid(
            "it begins with neither redis:// nor rediss://, sentinel:// nor sentinels://",
            f"{_FORM}; sockets and Cluster are not supported",
        )
    account, at, _ = text.partition("://")[2].rpartition("@")
    if "#" in text or (at and any(one in account for one in "/?[]")):
        raise _Invalid("the password contains a character that must be percent-encoded", ENCODE)
    return _split(text)


def _split(text: str) -> SplitResult:
    """The parts of a URL that may have several hosts: of those, newer Pythons accept none with an IPv6 address."""
    scheme, _, rest = text.partition("://")
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    account, at, hosts = place.rpartition("@")
    first = hosts.split(",")[0]
    return urlsplit(f"{scheme}://{account}{at}{first}{rest[len(place) :]}")._replace(netloc=place)


def _written(parts: SplitResult) -> str:
    options = dict(_options(parts))
    if parts.scheme in _OVER_TLS:
        _check_files({name: value for name, value in options.items() if name in _TLS_FILES})
        options["ssl_cert_reqs"] = "required"
    if parts.scheme in _SENTINEL and _MASTER not in options:
        raise _Invalid("it does not name the server that the Sentinels know", _SENTINEL_FORM)
    hosts = ",".join(f"{_host(one)}:{_port(one)}" for one in _hosts(parts))
    address = f"{parts.scheme}://{_user(parts)}{hosts}/{_database(parts)}"
    return f"{address}?{urlencode(options)}" if options else address


def _hosts(parts: SplitResult) -> list[SplitResult]:
    """One for each host: only Sentinels may be several."""
    if parts.scheme not in _SENTINEL:
        return [parts]
    return [parts._replace(netloc=host) for host in parts.netloc.rpartition("@")[2].split(",")]


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
        raise _Invalid("the host is not a valid name or address", f"{_FORM}; {ENCODE}")
    return host


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise _Invalid("the port is not a number from 1 to 65535", f"{_FORM}; {ENCODE}")
    return port or _PORTS[parts.scheme]


def _database(parts: SplitResult) -> int:
    if not _DATABASE.fullmatch(parts.path):
        raise _Invalid("the text after the last / is not the number of a database: 0, 1, 2 and so on, 0 by default")
    return int(parts.path.strip("/") or 0)


def _options(parts: SplitResult) -> Iterator[tuple[str, str]]:
    """The options that are passed on."""
    of_sentinel = (_MASTER, *_LOGON) if parts.scheme in _SENTINEL else ()
    known = (*of_sentinel, *_TLS_FILES, *_TLS_CHECKS)
    for name, value in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else ():
        if name not in known:
            named = f"the option {name}" if _OPTION.fullmatch(name) else "an option"
            form = _SENTINEL_FORM if of_sentinel else f"{_FORM}; options with rediss:// are {', '.join(known)}"
            raise _Invalid(f"it has {named}, which is not supported", form)
        if name in _TLS_CHECKS and value.lower() != _TLS_CHECKS[name]:
            raise _Invalid(
                "it turns the check of the server certificate off",
                "use ssl_cert_reqs=required and name the authority with ssl_ca_certs=FILE",
            )
        if name in of_sentinel:
            yield name, _of_sentinel(name, value)
        elif parts.scheme not in _OVER_TLS:
            raise _Invalid(f"{name} requires TLS", "begin the URL with rediss:// or sentinels://, or remove the option")
        elif name in _TLS_FILES:
            yield name, value


def _of_sentinel(name: str, value: str) -> str:
    if not value:
        raise _Invalid(f"{name} is empty", _SENTINEL_FORM)
    if name == _MASTER and not _NAME.fullmatch(value):
        raise _Invalid("master is not a name that Sentinel accepts: letters, digits, dot, - and _", _SENTINEL_FORM)
    return value


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
    if "ssl_keyfile" in options and not own:
        raise _Invalid("it has ssl_keyfile and no ssl_certfile", "name the certificate of that key with ssl_certfile")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authority:
            context.load_verify_locations(authority)
        if own:
            context.load_cert_chain(own, options.get("ssl_keyfile"), password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _Invalid("ssl_keyfile is not the key of ssl_certfile", "name the two files of one pair") from None
        which = (
            "ssl_ca_certs" if authority and not context.cert_store_stats()["x509"] else "ssl_certfile or ssl_keyfile"
        )
        raise _Invalid(f"{which} is not valid PEM", "use files in PEM format, and a key without a passphrase") from None
