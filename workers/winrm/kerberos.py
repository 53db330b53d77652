"""Kerberos: who logs on, to which service, where the realm is, and what its errors mean.

The library of the system (MIT) reads its configuration from files that KRB5_CONFIG names. The realms of cluster files
are added in front of those, in a file in memory; the configuration of this machine stays in force.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from workers.errors import EsyncError, InputRefused, LogonRefused, NodeRefused, Unreachable
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm.channel import Limit

__all__ = ["kerberos_errors", "kerberos_logon"]

_Found = TypeVar("_Found")

_SYSTEM, _MEMORY = "/etc/krb5.conf", "/proc/self/fd/"
#: What counts where this machine says nothing: the name in the cluster file is used as it is, without reverse DNS.
_DEFAULTS = "[libdefaults]\n dns_canonicalize_hostname = false\n rdns = false\n"
_CLOCK = "compare the clocks of this machine, the server and the domain controller: 5 minutes are allowed"
_TICKET = (
    "get a ticket (kinit) for the workers, or use a keytab or a password, which get one themselves; check the clock"
)
_NO_CENTER = "check `kdc`, network and firewall (port 88)"
_LOOK_EVERY = 0.2  #: seconds between two looks whether the run was cancelled
_lock = threading.Lock()
_realms: dict[str, set[str]] = {}

#: Error code of Kerberos (krb5_err.et) -> class of the error, what happened, what to do.
_MEANINGS: Mapping[int, tuple[type[EsyncError], str, str]] = {
    -1765328383: (LogonRefused, "the account {user} is locked, disabled or expired", "ask the domain's administrator"),
    -1765328378: (LogonRefused, "the realm does not know the account {user}", "correct `user` and `realm`"),
    -1765328377: (
        NodeRefused,
        "the realm does not know the service {spn}",
        "use the full name of the server as `host`, or write its service principal name as `spn` (setspn -L SERVER)",
    ),
    -1765328366: (LogonRefused, "the account {user} is locked, disabled or expired", "ask the domain's administrator"),
    -1765328361: (LogonRefused, "the password of {user} has expired", "set a new password, then correct `secret`"),
    -1765328360: (LogonRefused, "the realm refused the password or key of {user}", "check `user` and `secret`"),
    -1765328353: (LogonRefused, "the realm refused the password or key of {user}", "check `user` and `secret`"),
    -1765328352: (LogonRefused, "the ticket of {user} has expired", _TICKET),
    -1765328347: (NodeRefused, "the clocks differ too much", _CLOCK),
    -1765328230: (InputRefused, "no key distribution center is known for the realm of {user}", "set `realm` and `kdc`"),
    -1765328228: (Unreachable, "no key distribution center answers", _NO_CENTER),
    -1765328203: (InputRefused, "the keytab has no key for {user}", "compare it with `user` (klist -k FILE)"),
    -1765328189: (LogonRefused, "there is no ticket in the cache", _TICKET),
    -1765328164: (Unreachable, "the name of the key distribution center cannot be resolved", "correct `kdc`, or DNS"),
}
_EXPIRED, _NONE = {11, 12}, 7  #: major codes of GSSAPI: expired credentials or logon, no credentials


def kerberos_logon(
    at: Endpoint, secret: Secret, bindings: GssChannelBindings | None, limit: Limit
) -> tuple[spnego.ContextProxy, bytes | None]:
    """A new logon, with a new ticket where a password or a keytab can get one. Nothing is delegated to the node.

    Args:
        at: the node and the account.
        secret: the password, or the path of a keytab or a ticket cache.
        bindings: what the logon is bound to.
        limit: of the caller; the key distribution center has at most the seconds that a connection may take.

    Returns:
        The logon, and its first token.

    Raises:
        LogonRefused, NodeRefused, Unreachable, InputRefused: what the realm or its tickets say.
        ImportError: the packages for Kerberos are not installed.
        Cancelled, DeadlineExceeded: the caller's limit.
    """
    _configured(at.realm, at.kdc)
    service, _, name = at.spn.partition("/")

    def begun() -> tuple[spnego.ContextProxy, bytes | None]:
        context = spnego.client(
            _credential(at, secret),
            None,
            protocol="kerberos",
            channel_bindings=bindings,
            hostname=name or at.host,
            service=service or "HTTP",
            options=spnego.NegotiateOptions.none,
        )
        return context, context.step()

    with kerberos_errors(at):
        return _answered(begun, at, limit)


def _answered(ask: Callable[[], _Found], at: Endpoint, limit: Limit) -> _Found:
    """What the realm answers. The library waits half a minute for a silent one, and nothing can interrupt it.

    Raises:
        Unreachable: it does not answer in time. The library continues in its thread, which ends by itself.
        Cancelled, DeadlineExceeded: the caller's limit.
    """
    asked: Future[_Found] = Future()
    patience = Limit(at.node, at.connect_timeout)
    threading.Thread(target=_carry_out, args=(ask, asked), name="esync-kerberos", daemon=True).start()
    while not wait([asked], timeout=min(_LOOK_EVERY, limit.left, patience.left)).done:
        limit.check()
        if patience.passed >= at.connect_timeout:
            where = f" ({at.kdc})" if at.kdc else ""
            problem = f"no key distribution center answers within {at.connect_timeout:g} s{where}"
            raise _not_possible(at, Unreachable, problem, _NO_CENTER)
    return asked.result()


def _carry_out(ask: Callable[[], _Found], asked: Future[_Found]) -> None:
    try:
        asked.set_result(ask())
    except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
        asked.set_exception(error)


def _credential(at: Endpoint, secret: Secret) -> spnego.Credential:
    kind, user = at.secret.partition(":")[0], _principal(at)
    if kind == "keytab":
        return spnego.KerberosKeytab(f"FILE:{secret.reveal()}", principal=user)
    if kind == "tickets":
        return spnego.KerberosCCache(f"FILE:{secret.reveal()}", principal=user)
    return spnego.Password(user, secret.reveal())


def _principal(at: Endpoint) -> str:
    """The account as Kerberos writes it: `name@REALM`.

    Raises:
        InputRefused: it names a Windows domain, from which the realm cannot be derived.
    """
    domain, found, name = at.user.rpartition("\\")
    if found and not at.realm:
        raise InputRefused(
            f"{at.node}: the user {domain}\\{name} names no Kerberos realm",
            remedy="write `user` as name@EXAMPLE.ORG, or add `realm`",
        )
    return name if "@" in name or not at.realm else f"{name}@{at.realm}"


@contextmanager
def kerberos_errors(at: Endpoint) -> Iterator[None]:
    """Translates what the Kerberos libraries raise.

    Raises:
        EsyncError: the error is a known one.
    """
    try:
        yield
    except (EsyncError, ImportError):
        raise
    except Exception as error:
        if at.transport is Transport.KERBEROS and (found := _meaning(error, at)):
            raise found from error
        raise


def _meaning(error: Exception, at: Endpoint) -> EsyncError | None:
    reason = error.base_error if isinstance(error, SpnegoError) and error.base_error else error
    code = getattr(reason, "err_code", None) or getattr(reason, "min_code", None) or 0
    major = (getattr(reason, "maj_code", 0) or 0) >> 16 & 0xFF
    signed = code - 2**32 if code >= 2**31 else code
    known = _MEANINGS.get(signed)
    if known is None and major in {*_EXPIRED, _NONE}:
        known = _MEANINGS[-1765328352 if major in _EXPIRED else -1765328189]
    if known is None:
        return None
    kind, problem, remedy = known
    return _not_possible(at, kind, problem.format(user=_principal(at), spn=at.spn or f"HTTP/{at.host}"), remedy)


def _not_possible(at: Endpoint, kind: type[EsyncError], problem: str, remedy: str) -> EsyncError:
    return kind(f"{at.node} ({at.host}:{at.port}): no logon by Kerberos: {problem}", remedy=remedy)


def _configured(realm: str, kdc: str) -> None:
    """Makes the library of the system know where a realm is."""
    with _lock:
        known = _realms.setdefault(realm, set())
        if (
            "KRB5_CONFIG" in os.environ
            and os.environ["KRB5_CONFIG"].endswith(_defaults())
            and (not kdc or kdc in known)
        ):
            return
        known |= {kdc} if kdc else set()
        before = _before()
        os.environ["KRB5_CONFIG"] = ":".join((_file(_added()), before, _defaults()))


@cache
def _before() -> str:
    """The configuration of this machine; files in the memory of the process that started this one are not meant."""
    named = [part for part in os.environ.get("KRB5_CONFIG", "").split(":") if part and not part.startswith(_MEMORY)]
    return ":".join(named) or _SYSTEM


@cache
def _defaults() -> str:
    return _file(_DEFAULTS)


def _added() -> str:
    """The realms of all cluster files so far."""
    lines = ["[realms]"]
    for realm, centers in sorted(_realms.items()):
        if realm and centers:
            lines += [f" {realm} = {{", *(f"  kdc = {center}" for center in sorted(centers)), " }"]
    return "\n".join(lines) + "\n"


def _file(text: str) -> str:
    """A file in memory that only this process can read; it stays open as long as the process lives."""
    memory = os.memfd_create("krb5", os.MFD_CLOEXEC)
    os.write(memory, text.encode())
    return f"{_MEMORY}{memory}"
