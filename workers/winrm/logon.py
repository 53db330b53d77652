"""Logon over HTTP: with every request (basic, certificate), or once per connection (NTLM, Kerberos, CredSSP)."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import spnego
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from workers.records import Endpoint, Transport
from workers.settings import Secret

__all__ = ["UNAUTHORIZED", "Answer", "LogonBroken", "Post", "fixed_header", "negotiated"]

UNAUTHORIZED = 401
_OK = 200
LEGS = 8  #: maximum messages of a logon; CredSSP needs five
_CLIENT_CERTIFICATE = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
#: The name of each method in the header and in `pyspnego`. WinRM offers NTLM under the name Negotiate.
_SCHEMES: Mapping[Transport, tuple[str, str]] = {
    Transport.NTLM: ("Negotiate", "ntlm"),
    Transport.KERBEROS: ("Kerberos", "kerberos"),
    Transport.CREDSSP: ("CredSSP", "credssp"),
}


class LogonBroken(Exception):
    """The logon failed for another reason than the credentials: method not offered, or an invalid answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `challenges` are its WWW-Authenticate headers; `location` is the target of a redirect."""

    status: int
    body: bytes = field(repr=False)
    challenges: tuple[str, ...] = ()
    location: str = ""


Post = Callable[[bytes, Mapping[str, str]], Answer]


def fixed_header(at: Endpoint, secret: Secret) -> Mapping[str, str]:
    """The header of every request; empty if the logon is once per connection."""
    if at.transport is Transport.BASIC:
        token = base64.b64encode(f"{at.user}:{secret.reveal()}".encode()).decode("ascii")
        return {"Authorization": f"Basic {token}"}
    return {"Authorization": _CLIENT_CERTIFICATE} if at.transport is Transport.CERTIFICATE else {}


def negotiated(at: Endpoint, secret: Secret, certificate: bytes, message: bytes, post: Post) -> Answer:
    """Logs on over a new connection and sends the message on it.

    The message travels with the last token of the logon if that token is known to be the last.

    Args:
        at: the node and the account.
        secret: the password.
        certificate: the node's TLS certificate, DER: the logon is bound to it, so that a relay cannot use it elsewhere.
        message: the body of the request.
        post: sends one HTTP request on the connection.

    Returns:
        The answer of the node; its status is 401 if the node refused the credentials or the method.

    Raises:
        LogonBroken: the node does not offer the method, or sent an invalid answer.
        SpnegoError: the method is not installed, or there is no ticket.
    """
    scheme, protocol = _SCHEMES[at.transport]
    context = spnego.client(
        at.user,
        secret.reveal(),
        protocol=protocol,
        channel_bindings=_bindings(certificate),
        hostname=at.host,
        service="http",
        options=spnego.NegotiateOptions.use_ntlm if protocol == "ntlm" else spnego.NegotiateOptions.none,
    )
    token = context.step()
    for _ in range(LEGS):
        encoded = base64.b64encode(token or b"").decode("ascii")
        last = context.complete
        answer = post(message if last else b"", {"Authorization": f"{scheme} {encoded}"})
        if last or answer.status not in {UNAUTHORIZED, _OK}:
            return answer
        challenge = _challenge(answer, scheme)
        if not challenge:
            return answer
        token = _stepped(context, challenge)
        if answer.status == _OK and not token:
            return post(message, {})
    raise LogonBroken(f"did not complete the logon within {LEGS} messages")


def _challenge(answer: Answer, scheme: str) -> bytes:
    """The node's token in the logon. An empty token, although it offers the method, is a refusal, also of NTLM itself.

    Raises:
        LogonBroken: the method is not offered, the logon ended without authentication, or the token is not base64.
    """
    offered = []
    for challenge in answer.challenges:
        name, _, token = challenge.strip().partition(" ")
        if name.lower() == scheme.lower() and token.strip():
            try:
                return base64.b64decode(token.strip(), validate=True)
            except ValueError:
                raise LogonBroken("sent a logon token that is not base64") from None
        offered.append(name)
    if answer.status != UNAUTHORIZED:
        raise LogonBroken("ended the logon without authentication")
    if scheme.lower() in {name.lower() for name in offered}:
        return b""
    raise LogonBroken(f"does not offer the logon method {scheme}; it offers {', '.join(offered) or 'none'}")


def _stepped(context: spnego.ContextProxy, token: bytes) -> bytes | None:
    """Our next token.

    Raises:
        LogonBroken: the node's token is invalid. The decoders of `pyspnego` raise many kinds of errors then.
    """
    try:
        return context.step(token)
    except Exception as error:
        kind = "SpnegoError" if isinstance(error, SpnegoError) else type(error).__name__
        raise LogonBroken(f"sent an invalid logon token ({kind})") from error


def _bindings(certificate: bytes) -> GssChannelBindings | None:
    """RFC 5929, tls-server-end-point: the hash by the signature's algorithm, or SHA-256 where that is weak."""
    if not certificate:
        return None
    try:
        named = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None
    weak = named is None or isinstance(named, (hashes.MD5, hashes.SHA1))
    digest = hashes.Hash(hashes.SHA256() if weak or named is None else named)
    digest.update(certificate)
    return GssChannelBindings(application_data=b"tls-server-end-point:" + digest.finalize())
