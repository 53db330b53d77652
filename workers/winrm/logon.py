"""Who we are: told with every request (basic, certificate), or once a connection (NTLM, Kerberos, CredSSP)."""

import base64
import binascii
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

__all__ = ["UNAUTHORIZED", "Answer", "LogonBroken", "negotiated", "standing_header"]

UNAUTHORIZED = 401
_OK = 200
LEGS = 8  #: messages of a logon at most; CredSSP takes five
_CLIENT_CERTIFICATE = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
#: How each method is called in the header, and by `pyspnego`. WinRM offers NTLM under the name Negotiate.
_SCHEMES: Mapping[Transport, tuple[str, str]] = {
    Transport.NTLM: ("Negotiate", "ntlm"),
    Transport.KERBEROS: ("Kerberos", "kerberos"),
    Transport.CREDSSP: ("CredSSP", "credssp"),
}


class LogonBroken(Exception):
    """The logon came to no end that means anything: the node does not offer the method, or answers nonsense."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `challenges` are its WWW-Authenticate headers; `location` where it sends the caller to."""

    status: int
    body: bytes = field(repr=False)
    challenges: tuple[str, ...] = ()
    location: str = ""


Post = Callable[[bytes, Mapping[str, str]], Answer]


def standing_header(at: Endpoint, secret: Secret) -> Mapping[str, str]:
    """What goes with every request; nothing where the connection is logged on once."""
    if at.transport is Transport.BASIC:
        token = base64.b64encode(f"{at.user}:{secret.reveal()}".encode()).decode("ascii")
        return {"Authorization": f"Basic {token}"}
    return {"Authorization": _CLIENT_CERTIFICATE} if at.transport is Transport.CERTIFICATE else {}


def negotiated(at: Endpoint, secret: Secret, certificate: bytes, message: bytes, post: Post) -> Answer:
    """Logs a new connection on and has the message answered on it.

    The message goes along with the last word of the logon where that is known to be the last.

    Args:
        at: the node, and as whom.
        secret: the password.
        certificate: the node's TLS certificate, DER: the logon is bound to it, so that nobody can pass it on.
        message: what is to be answered.
        post: sends one HTTP request on that connection.

    Returns:
        The node's answer; with status 401 where it refused the credentials, or the method.

    Raises:
        LogonBroken: it does not offer the method, or answers nonsense.
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
        word = base64.b64encode(token or b"").decode("ascii")
        last = context.complete
        answer = post(message if last else b"", {"Authorization": f"{scheme} {word}"})
        if last or answer.status not in {UNAUTHORIZED, _OK}:
            return answer
        challenge = _challenge(answer, scheme)
        if not challenge:
            return answer
        token = _stepped(context, challenge)
        if answer.status == _OK and not token:
            return post(message, {})
    raise LogonBroken(f"went on asking after {LEGS} messages of the logon")


def _challenge(answer: Answer, scheme: str) -> bytes:
    """What the node said in the logon. Nothing, although it knows the method, is a refusal, also of NTLM as a whole.

    Raises:
        LogonBroken: it does not know the method, lets anybody in, or its word is no base64.
    """
    offered = []
    for challenge in answer.challenges:
        name, _, word = challenge.strip().partition(" ")
        if name.lower() == scheme.lower() and word.strip():
            try:
                return base64.b64decode(word.strip(), validate=True)
            except (binascii.Error, ValueError):
                raise LogonBroken("answered the logon with something that is no base64") from None
        offered.append(name)
    if answer.status != UNAUTHORIZED:
        raise LogonBroken("ended the logon before it asked who we are")
    if scheme.lower() in {name.lower() for name in offered}:
        return b""
    raise LogonBroken(f"does not offer the logon method {scheme}; it offers {', '.join(offered) or 'none'}")


def _stepped(context: spnego.ContextProxy, word: bytes) -> bytes | None:
    """Our next word.

    Raises:
        LogonBroken: the node's is none that the method knows. Decoders of `pyspnego` fail in many ways on nonsense.
    """
    try:
        return context.step(word)
    except Exception as error:
        raise LogonBroken(f"answered the logon with something that is no such message ({_kind(error)})") from error


def _kind(error: Exception) -> str:
    return "SpnegoError" if isinstance(error, SpnegoError) else type(error).__name__


def _bindings(certificate: bytes) -> GssChannelBindings | None:
    """RFC 5929, tls-server-end-point: the certificate's hash by its signature's algorithm, SHA-256 for weak ones."""
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
