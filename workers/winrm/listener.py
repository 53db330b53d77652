"""The certificate of a WinRM listener: what it says, and what to say and do when it is not accepted."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.x509.oid import NameOID

from workers.records import Endpoint
from workers.texts import cleaned
from workers.winrm.known_answers import known
from workers.winrm.not_connected import OldTls, WrongPin, fingerprint_of

__all__ = ["ListenerCertificate", "grouped", "listener_certificate", "tls_problem"]

_SHOWN = 12  #: names in a message
_LONGEST = 100  #: characters of a name in a message
_SMALL = 2048  #: bits of a key; smaller ones are refused
_BROKEN = {"md5", "sha1"}
_OLD_TLS = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"}
_OLD_KEYS = {"DH_KEY_TOO_SMALL", "EE_KEY_TOO_SMALL", "UNSAFE_LEGACY_RENEGOTIATION_DISABLED"}
_SCHANNEL = "see the event log System there (source Schannel)"

Said = tuple[str, str]  #: what is wrong, and the remedy


@dataclass(frozen=True, slots=True)
class ListenerCertificate:
    """What a listener's certificate says. Texts are cleaned: they come from the node.

    Attributes:
        subject, issuer: common names, or the whole names where there is none.
        names: host names and addresses that it is valid for; without them no host name matches.
        bits: of an RSA or DSA key; 0 for other kinds.
        digest: hash algorithm of its signature, such as `sha256`; empty if it has none.
        fingerprint: SHA-256 in lower case hex.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    bits: int
    digest: str
    fingerprint: str

    @property
    def self_signed(self) -> bool:
        """Whether it names itself as its issuer."""
        return self.subject == self.issuer


def grouped(fingerprint: str) -> str:
    """A fingerprint as people compare it: `AA:BB:...`."""
    return ":".join(fingerprint[at : at + 2] for at in range(0, len(fingerprint), 2)).upper()


def listener_certificate(certificate: bytes) -> ListenerCertificate | None:
    """Reads a certificate (DER); None if it cannot be read. Nothing is verified."""
    try:
        found = x509.load_der_x509_certificate(certificate)
        key = found.public_key()
        digest = found.signature_hash_algorithm
        return ListenerCertificate(
            subject=_name(found.subject),
            issuer=_name(found.issuer),
            names=_names(found),
            begins=found.not_valid_before_utc,
            ends=found.not_valid_after_utc,
            bits=key.key_size if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey) else 0,
            digest=digest.name if digest else "",
            fingerprint=fingerprint_of(certificate),
        )
    except Exception:  # noqa: BLE001 - the library's errors have no common parent, and the bytes come from the node
        return None


def _name(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return _short(common[0].value if common else name.rfc4514_string())


def _names(found: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = extension.get_values_for_type(x509.DNSName)
    addresses = extension.get_values_for_type(x509.IPAddress)
    return tuple(_short(one) for one in (*hosts, *addresses))


def _short(text: object) -> str:
    return " ".join(cleaned(str(text), 2 * _LONGEST).split())[:_LONGEST]


def tls_problem(reason: Exception, at: Endpoint, certificate: bytes) -> Said:
    """Why TLS failed, as the predicate of a sentence, and the remedy.

    Args:
        reason: the error of the connection.
        at: the node.
        certificate: the certificate that was not accepted, DER; empty if it is not known.
    """
    shown = listener_certificate(certificate)
    if isinstance(reason, WrongPin):
        return _changed(reason, shown)
    if isinstance(reason, ssl.SSLCertVerificationError):
        sentence = _UNTRUSTED.get(getattr(reason, "verify_code", 0), _untrusted)
        return sentence(reason, at, shown)
    return _no_handshake(reason)


def _no_handshake(reason: Exception) -> Said:
    """The certificate was not the reason."""
    kind = getattr(reason, "reason", "") or ""
    if isinstance(reason, OldTls) or kind in _OLD_TLS:
        remedy = (
            "enable TLS 1.2 on the server (SCHANNEL, Protocols, TLS 1.2, Server: Enabled = 1, then restart it); until "
            'then `tls_minimum: "1.0"` in its `connection` accepts it, and every report warns about that'
        )
        return "speaks only TLS versions older than 1.2", remedy
    if kind in _OLD_KEYS:
        problem = f"uses TLS with a weakness that is known for years ({kind.replace('_', ' ').lower()})"
        remedy = 'install the updates of Windows there; until then `tls_minimum: "1.0"` in its `connection` accepts it'
        return problem, remedy
    if kind in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        remedy = (
            "use the port of the https listener (5986), or write `scheme: http` for the http listener (5985), whose "
            "messages are encrypted with ntlm and kerberos"
        )
        return "does not speak TLS on this port", remedy
    row = known().of_alert(kind)
    if row is not None:
        return f"ended the TLS handshake: it {row.says} (alert {row.text.replace('_', ' ').lower()})", row.remedy
    return f"failed the TLS handshake: {_short(reason)}", _SCHANNEL


def _changed(reason: WrongPin, shown: ListenerCertificate | None) -> Said:
    about = f" ({shown.subject}, valid from {shown.begins:%Y-%m-%d} to {shown.ends:%Y-%m-%d})" if shown else ""
    problem = (
        f"has another TLS certificate than the pinned one: pinned is SHA-256 {grouped(reason.pinned)}, it shows "
        f"{grouped(reason.shown)}{about}"
    )
    remedy = (
        "if the certificate of the listener was replaced on purpose, compare the new one on the server, then correct "
        "`fingerprint`; otherwise another machine answers in its place"
    )
    return problem, remedy


_Sentence = Callable[[ssl.SSLCertVerificationError, Endpoint, ListenerCertificate | None], Said]


def _pin(shown: ListenerCertificate | None) -> str:
    """The way out that always works, with the value where it is known."""
    value = f'"{grouped(shown.fingerprint)}"' if shown else "its SHA-256"
    return f"pin this certificate, once you have compared it on the server: `fingerprint: {value}`"


def _other_name(reason: ssl.SSLCertVerificationError, at: Endpoint, shown: ListenerCertificate | None) -> Said:
    if shown is None:
        return (
            f"has a TLS certificate for another name: {_short(reason.verify_message)}",
            "use the name in the certificate as `host`, or issue a new certificate",
        )
    if not shown.names:
        return (
            f"has a TLS certificate without a subject alternative name: its subject {shown.subject} does not count",
            f"issue one with the DNS name {at.host} (New-SelfSignedCertificate -DnsName), or {_pin(shown)}",
        )
    listed = ", ".join(shown.names[:_SHOWN]) + (", ..." if len(shown.names) > _SHOWN else "")
    return (
        f"has a TLS certificate for another name: it is valid for {listed}, not for {at.host}",
        f"use a name of the certificate as `host`, issue one for {at.host}, or {_pin(shown)}",
    )


def _out_of_date(reason: ssl.SSLCertVerificationError, _at: Endpoint, shown: ListenerCertificate | None) -> Said:
    valid = f"valid from {shown.begins:%Y-%m-%d} to {shown.ends:%Y-%m-%d}" if shown else _short(reason.verify_message)
    return (
        f"has a TLS certificate that is out of date: {valid}",
        "renew the certificate of the WinRM listener (and check the clock of this machine)",
    )


def _weak(reason: ssl.SSLCertVerificationError, _at: Endpoint, shown: ListenerCertificate | None) -> Said:
    if shown and 0 < shown.bits < _SMALL:
        what = f"a key of {shown.bits} bits"
    elif shown and shown.digest in _BROKEN:
        what = f"a {shown.digest.upper().replace('SHA1', 'SHA-1')} signature"
    else:
        what = f"a weak key or signature in its chain ({_short(reason.verify_message)})"
    return (
        f"has a TLS certificate with {what}, which TLS of this machine refuses",
        f"issue one with a key of at least {_SMALL} bits and a SHA-256 signature, or {_pin(shown)}",
    )


def _own_issuer(_reason: ssl.SSLCertVerificationError, at: Endpoint, shown: ListenerCertificate | None) -> Said:
    return (
        f"has a self-signed TLS certificate that is not in {_trusted(at)}",
        f"{_pin(shown)}; or put the certificate itself into a `ca_file`",
    )


def _untrusted(reason: ssl.SSLCertVerificationError, at: Endpoint, shown: ListenerCertificate | None) -> Said:
    if shown is None or shown.self_signed:
        why = _short(reason.verify_message)
        return f"has a TLS certificate that is not trusted by {_trusted(at)}: {why}", _authority(shown, "it")
    return (
        f"has a TLS certificate that was issued by {shown.issuer}, which is not trusted by {_trusted(at)}",
        _authority(shown, shown.issuer),
    )


def _authority(shown: ListenerCertificate | None, issuer: str) -> str:
    return (
        f"set `ca_file` to a file with the authority that issued {issuer if issuer == 'it' else 'it: ' + issuer} (it "
        f"need not be a root), or {_pin(shown)}"
    )


def _trusted(at: Endpoint) -> str:
    return at.ca_file or "the certificate authorities of this system"


#: The codes of OpenSSL (X509_V_ERR_...).
_UNTRUSTED: Mapping[int, _Sentence] = {
    9: _out_of_date,
    10: _out_of_date,
    18: _own_issuer,
    62: _other_name,
    64: _other_name,
    66: _weak,
    67: _weak,
    68: _weak,
}
