"""TLS to one node: whom a connection trusts, which versions it speaks, and the certificate that a listener shows."""

import os
import ssl
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from workers.errors import InputRefused
from workers.host.named_files import FileRefused, contents
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm.bounded import Bound, BoundedSocket, NoAnswer, connected
from workers.winrm.channel import Limit
from workers.winrm.not_connected import NotConnected, OldTls, WrongPin, fingerprint_of

__all__ = ["context_for", "fetch_certificate", "secured"]

_CA_LIMIT = 5 * 2**20
_HANDSHAKE_LIMIT = 2**16  #: bytes that a node may send before the first answer
_OLD_VERSIONS = {"SSLv3", "TLSv1", "TLSv1.1"}
LOOK = 2.0  #: seconds for a look at a certificate that was not accepted
#: Whom a certificate is compared with decides, not its own strength: keys of 1024 bits are accepted where it is pinned.
_PINNED_CIPHERS = "DEFAULT:@SECLEVEL=1"
_OLD_CIPHERS = "DEFAULT:@SECLEVEL=0"  # TLS 1.0 signs with MD5 and SHA-1


def fetch_certificate(host: str, port: int, timeout: float) -> bytes:
    """The certificate that a listener shows, DER. Nothing is verified, and nothing is sent but the TLS handshake.

    Args:
        host: name or address.
        port: of the listener.
        timeout: seconds for connection and handshake together.

    Raises:
        NotConnected: no connection, or no TLS there.
    """
    return _shown(host, port, timeout)[0]


def _shown(host: str, port: int, timeout: float) -> tuple[bytes, str]:
    """The certificate that a listener shows, and the newest TLS version that it speaks."""
    bound = Bound(Limit(host, timeout), timeout, _HANDSHAKE_LIMIT)
    try:
        wire = connected(host, port, bound)
    except (OSError, NoAnswer) as error:
        raise NotConnected(error) from error
    try:
        wire.secured(_unverified(), host)
    except (OSError, NoAnswer, ValueError) as error:
        raise NotConnected(error, tls=True) from error
    else:
        return wire.certificate, wire.version
    finally:
        wire.disconnect()


def secured(wire: BoundedSocket, context: ssl.SSLContext, at: Endpoint) -> None:
    """Starts TLS on a connection, and compares the node's certificate with the pin of the endpoint, if there is one.

    Raises:
        NotConnected: TLS failed, or the certificate is not accepted.
    """
    try:
        wire.secured(context, at.host)
    except ssl.SSLCertVerificationError as error:
        raise NotConnected(error, tls=True, certificate=_looked_at(at)[0]) from error
    except OSError as error:
        version = _looked_at(at)[1]  # many servers of that age close the connection without saying why
        raise NotConnected(OldTls(version) if version in _OLD_VERSIONS else error, tls=True) from error
    except (NoAnswer, ValueError) as error:
        raise NotConnected(error, tls=True) from error
    if at.fingerprint and (shown := fingerprint_of(wire.certificate)) != at.fingerprint:
        raise NotConnected(WrongPin(at.fingerprint, shown), tls=True, certificate=wire.certificate)


def _looked_at(at: Endpoint) -> tuple[bytes, str]:
    """As `_shown`, of a node that was not accepted: TLS itself does not tell what it was. Empty if it cannot be had."""
    with suppress(Exception):
        return _shown(at.host, at.port, min(LOOK, at.connect_timeout))
    return b"", ""


def context_for(at: Endpoint, secret: Secret) -> ssl.SSLContext:
    """The TLS context of an endpoint. Nodes that trust the same share one: loading it costs more than a connection.

    Raises:
        InputRefused: the CA file, or the client certificate in the secret, cannot be used.
    """
    authorities = None if at.fingerprint or at.ca_file is None else _authorities(at.ca_file)
    trusted = (at.ca_file or "", authorities, bool(at.fingerprint), at.tls_minimum == "1.0")
    if at.transport is not Transport.CERTIFICATE:
        return _shared(*trusted)
    context = _usable(*trusted)
    _present(context, at, secret)
    return context


def _present(context: ssl.SSLContext, at: Endpoint, secret: Secret) -> None:
    """Gives the context a client certificate. OpenSSL reads it only from a file: here a file in memory."""
    memory = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        os.write(memory, secret.reveal().encode())
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    except (ssl.SSLError, OSError):
        raise InputRefused(
            f"{at.node}: the secret is not a PEM of certificate and key", remedy="correct `secret`"
        ) from None
    finally:
        os.close(memory)


def _authorities(path: str) -> str:
    """The text of a CA file.

    Raises:
        InputRefused: the file cannot be read, or does not contain certificates.
    """
    data: bytes | None = None
    try:
        data, _ = contents(Path(os.path.realpath(path)), _CA_LIMIT, ())
    except FileRefused:
        pass
    except FileNotFoundError:
        raise InputRefused(f"the CA file {path} does not exist", remedy="correct `ca_file`", file=path) from None
    except (OSError, ValueError) as error:
        raise InputRefused(
            f"the CA file {path} cannot be read: {getattr(error, 'strerror', '') or error}",
            remedy="correct `ca_file`",
            file=path,
        ) from None
    if data is None or len(data) > _CA_LIMIT:
        raise InputRefused(f"the CA file {path} contains no certificates", remedy="correct `ca_file`", file=path)
    return data.decode("ascii", "ignore")


def _usable(path: str, authorities: str | None, pinned: bool, old: bool) -> ssl.SSLContext:  # noqa: FBT001 - a cache key
    """A new context that trusts these authorities, or those of the system, or any certificate that will be compared.

    Raises:
        InputRefused: the text has no certificates.
    """
    try:
        return _fresh(authorities, pinned=pinned, old=old)
    except (ssl.SSLError, ValueError):
        why = f"the CA file {path} contains no certificates"
    raise InputRefused(why, remedy="use a PEM file", file=path)


_shared = lru_cache(maxsize=64)(_usable)


@lru_cache(maxsize=1)
def _unverified() -> ssl.SSLContext:
    """To look at a certificate only: accepts every one, also of listeners that speak nothing newer than TLS 1.0."""
    return _fresh(None, pinned=True, old=True)


def _fresh(authorities: str | None, *, pinned: bool, old: bool) -> ssl.SSLContext:
    """Verifies chain and name, except where the certificate will be compared with a pin.

    The strict mode of Python 3.13 is off: certificates of old Windows servers fail it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED if old else ssl.TLSVersion.TLSv1_2
    if old or pinned:
        context.set_ciphers(_OLD_CIPHERS if old else _PINNED_CIPHERS)
    if pinned:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if authorities is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=authorities)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
