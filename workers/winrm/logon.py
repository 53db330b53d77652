"""Logon over HTTP: with every request (basic, certificate), or once per connection (NTLM, Kerberos, CredSSP)."""

import base64
from collections.abc import Callable, Mapping

import spnego
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from spnego._ntlm_raw.crypto import ntowfv1
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import ContextExpiredError, SpnegoError
from winrm.exceptions import InvalidCredentialsError

from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm.answers import Answer, LogonBroken, NotOffered
from workers.winrm.challenges import offered
from workers.winrm.channel import Gate, Limit
from workers.winrm.encryption import Encryption, NotEncrypted, weak_session
from workers.winrm.kerberos import kerberos_errors, kerberos_logon
from workers.winrm.methods import load_kerberos

__all__ = [
    "UNAUTHORIZED",
    "Post",
    "fixed_header",
    "logged_on",
    "negotiated",
]

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


Post = Callable[[bytes, Mapping[str, str]], Answer]


def fixed_header(at: Endpoint, secret: Secret) -> Mapping[str, str]:
    """The header of every request; empty if the logon is once per connection."""
    if at.transport is Transport.BASIC:
        token = base64.b64encode(f"{at.user}:{secret.reveal()}".encode()).decode("ascii")
        return {"Authorization": f"Basic {token}"}
    return {"Authorization": _CLIENT_CERTIFICATE} if at.transport is Transport.CERTIFICATE else {}


def negotiated(
    at: Endpoint, secret: Secret, certificate: bytes, message: bytes, post: Post, limit: Limit, gate: Gate
) -> Answer:
    """Logs on over a new connection and sends the message on it.

    The message travels with the last token of the logon if that token is known to be the last.

    Args:
        at: the node and the account.
        secret: the password.
        certificate: the node's TLS certificate, DER: the logon is bound to it, so that a relay cannot use it elsewhere.
        message: the body of the request.
        post: sends one HTTP request on the connection.
        limit: of the caller; other servers than the node may have to answer.
        gate: it is passed before anything is sent by which the account may be refused.

    Returns:
        The answer of the node; its status is 401 if the node refused the credentials or the method.

    Raises:
        LogonBroken: the node does not offer the method, or sent an invalid answer.
        SpnegoError: the method is not installed, or there is no ticket.
        Cancelled, DeadlineExceeded: the caller's limit.
    """
    with kerberos_errors(at):
        context, token = _begun(at, secret, certificate, limit, gate)
        return _exchanged(context, token, _SCHEMES[at.transport][0], message, post, gate)


def logged_on(at: Endpoint, secret: Secret, post: Post, limit: Limit, gate: Gate) -> Encryption | Answer:
    """Logs on over a new http connection; no message is sent before it can be encrypted.

    Returns:
        The encryption of all messages on this connection, or the answer of a node that refused the logon.

    Raises:
        LogonBroken: as `negotiated`.
        NotEncrypted: the node would not encrypt.
        SpnegoError, Cancelled, DeadlineExceeded: as `negotiated`.
    """
    with kerberos_errors(at):
        context, token = _begun(at, secret, b"", limit, gate)
        answer = _exchanged(context, token, _SCHEMES[at.transport][0], b"", post, gate)
    if answer.status != _OK:
        return answer
    if not context.complete:
        raise LogonBroken("ended the logon without authentication")
    return Encryption(context, at.transport)


def _begun(
    at: Endpoint, secret: Secret, certificate: bytes, limit: Limit, gate: Gate
) -> tuple[spnego.ContextProxy, bytes | None]:
    """A logon and its first token. That of NTLM says nothing of the account."""
    by_ntlm = at.transport is Transport.NTLM
    if not by_ntlm:
        gate.admit()
        load_kerberos()
    if at.transport is Transport.KERBEROS:
        return kerberos_logon(at, secret, _bindings(certificate), limit)
    context = spnego.client(
        _ntlm_credential(at.user, secret) if by_ntlm else at.user,
        None if by_ntlm else secret.reveal(),
        protocol=_SCHEMES[at.transport][1],
        channel_bindings=_bindings(certificate),
        hostname=at.host,
        service="http",
        options=spnego.NegotiateOptions.use_ntlm if by_ntlm else spnego.NegotiateOptions.none,
    )
    return context, context.step()


def _ntlm_credential(user: str, secret: Secret) -> spnego.NTLMHash:
    """The credential of NTLMv2. Of a password `pyspnego` would compute the LM hash too: unused, most of a logon."""
    return spnego.NTLMHash(user, nt_hash=ntowfv1(secret.reveal()).hex())


def _exchanged(
    context: spnego.ContextProxy, token: bytes | None, scheme: str, message: bytes, post: Post, gate: Gate
) -> Answer:
    """Exchanges tokens until the logon is complete, and sends the message if there is one."""
    for _ in range(LEGS):
        encoded = base64.b64encode(token or b"").decode("ascii")
        last = context.complete
        if last:
            gate.admit()
        answer = post(message if last else b"", {"Authorization": f"{scheme} {encoded}"})
        if last or answer.status not in {UNAUTHORIZED, _OK}:
            return answer
        challenge = _challenge(answer, scheme)
        if not challenge:
            return answer
        if not message and weak_session(challenge):
            raise NotEncrypted("asked for a weak encryption of messages in the logon")
        token = _stepped(context, challenge)
        if answer.status == _OK and not token:
            return post(message, {}) if message else answer
    raise LogonBroken(f"did not complete the logon within {LEGS} messages")


def _challenge(answer: Answer, scheme: str) -> bytes:
    """The node's token in the logon. An empty token, although it offers the method, is a refusal, also of NTLM itself.

    Raises:
        LogonBroken: the method is not offered, the logon ended without authentication, or the token is not base64.
    """
    for challenge in answer.challenges:
        name, _, token = challenge.strip().partition(" ")
        if name.lower() == scheme.lower() and token.strip():
            try:
                return base64.b64decode(token.strip(), validate=True)
            except ValueError:
                raise LogonBroken("sent a logon token that is not base64") from None
    if answer.status != UNAUTHORIZED:
        raise LogonBroken("ended the logon without authentication")
    names = offered(answer.challenges)
    if scheme.lower() in {name.lower() for name in names}:
        return b""
    raise NotOffered(f"does not offer the logon method {scheme}; it offers {', '.join(names) or 'none'}")


def _stepped(context: spnego.ContextProxy, token: bytes) -> bytes | None:
    """Our next token.

    Raises:
        InvalidCredentialsError: the node says in the token that it refuses them, as CredSSP does.
        ContextExpiredError: our ticket has expired.
        LogonBroken: the node's token is invalid. The decoders of `pyspnego` raise many kinds of errors then.
    """
    try:
        return context.step(token)
    except ContextExpiredError:
        raise
    except Exception as error:
        if isinstance(error, SpnegoError) and getattr(error.base_error, "winerror", False):
            raise InvalidCredentialsError("the node refused the credentials") from error
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
