"""How to reach a node over WinRM, as a cluster file says it: address, trust, account and logon method."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from workers.records import Transport

__all__ = [
    "SYSTEM",
    "Account",
    "CaFile",
    "Connection",
    "ConnectionOverride",
    "Part",
    "Port",
    "SecretReference",
    "listener_port",
    "text",
    "weaker_way",
    "whole",
]

SYSTEM = "system"  #: as `ca_file`: the authorities of this system, for a node whose cluster has a file of its own


class Part(BaseModel):
    """A part of a cluster file: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def text(pattern: str, allowed: str, longest: int | None = None) -> FieldInfo:
    """A text that matches a pattern; messages about a cluster file describe it as `allowed`."""
    field: FieldInfo = Field(pattern=pattern, max_length=longest, description=allowed)
    return field


def whole(low: int, high: int | None = None, more: str = "") -> FieldInfo:
    """A whole number within bounds, described by them."""
    end = "" if high is None else f" to {high}"
    field: FieldInfo = Field(ge=low, le=high, description=f"a whole number from {low}{end}{more}")
    return field


SecretReference = Annotated[
    str,
    text(
        r"^(env:[A-Za-z_][A-Za-z0-9_]*|(file|keytab|tickets):.+)$",
        "env:NAME or file:PATH, never the secret itself; for kerberos also keytab:PATH or tickets:PATH",
    ),
]
Account = Annotated[
    str,
    Field(min_length=1, max_length=256, description=r"an account such as DOMAIN\name, at most 256 characters"),
]
CaFile = Annotated[
    str,
    Field(description="the path of a PEM file, relative to the cluster file; or system, for the system's authorities"),
]
Scheme = Annotated[Literal["https", "http"], Field(description="https, or http with messages that are encrypted")]
Fingerprint = Annotated[
    str,
    text(
        r"^([0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31})$",
        "the SHA-256 of the server's certificate, as 64 hex digits or as AA:BB:...",
    ),
    AfterValidator(lambda text: text.replace(":", "").lower()),
]
TlsMinimum = Annotated[str, text(r"^1\.[02]$", "1.2, or 1.0 for servers that have nothing newer")]
Realm = Annotated[str, text(r"^[A-Za-z0-9][A-Za-z0-9.-]*$", "a Kerberos realm such as EXAMPLE.ORG", longest=253)]
Kdc = Annotated[
    str, text(r"^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?$", "a host name, with :PORT if it is not 88", longest=259)
]
Spn = Annotated[
    str,
    text(r"^[A-Za-z][A-Za-z0-9]*/[A-Za-z0-9][A-Za-z0-9._-]*$", "a service principal name such as HTTP/p1.example.org"),
]
Port = Annotated[int, whole(1, 65535)]


#: The port of WinRM, by scheme.
_PORTS = {"https": 5986, "http": 5985}


class Connection(Part):
    """How to reach a node over WinRM.

    Attributes:
        scheme: `https`, or `http`, where the logon method (ntlm, kerberos, credssp) encrypts every message.
        port: by default that of the scheme, 5986 or 5985.
        ca_file: authorities of the nodes' certificates; those of this system by default, or for `system`.
        fingerprint: pins the certificate of the node: only this one is accepted, by whatever authority it was issued.
        tls_minimum: the oldest TLS version.
        realm, kdc, spn: for kerberos: the realm of the account, the key distribution center, and the service principal
            name of the node, if it is not HTTP/`host`.
    """

    transport: Transport = Transport.NTLM
    scheme: Scheme = "https"
    port: Port = _PORTS["https"]
    user: Account
    secret: SecretReference
    ca_file: CaFile | None = None
    fingerprint: Fingerprint | None = None
    tls_minimum: TlsMinimum | None = None
    realm: Realm | None = None
    kdc: Kdc | None = None
    spn: Spn | None = None

    @model_validator(mode="before")
    @classmethod
    def _port_of_the_scheme(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("scheme") == "http":
            return {"port": _PORTS["http"], **data}
        return data


class ConnectionOverride(Part):
    """Settings in which one node differs from the cluster's connection."""

    transport: Transport | None = None
    scheme: Scheme | None = None
    port: Port | None = None
    user: Account | None = None
    secret: SecretReference | None = None
    ca_file: CaFile | None = None
    fingerprint: Fingerprint | None = None
    tls_minimum: TlsMinimum | None = None
    realm: Realm | None = None
    kdc: Kdc | None = None
    spn: Spn | None = None


def listener_port(scheme: object, port: object, own_scheme: object, own_port: object) -> object:
    """The port of a node's listener: its own, or the cluster's if the node has the same scheme, or that of its scheme.

    `own_scheme` and `own_port` are of the node, the others of the cluster's connection; None where they are not set.
    """
    wanted = own_scheme or scheme or "https"
    same = wanted == (scheme or "https")
    return own_port or (port if same else None) or _PORTS.get(str(wanted), _PORTS["https"])


#: What encrypts the messages over http, and what that lacks.
_OVER_HTTP = {
    Transport.NTLM: "NTLM encrypts the messages (RC4, 128 bits); with the password, recorded ones can be read",
    Transport.KERBEROS: "Kerberos encrypts the messages; with the key of the server, recorded ones can be read",
    Transport.CREDSSP: "CredSSP encrypts the messages, and the server gets the password",
}


def weaker_way(scheme: str, tls_minimum: str | None, transport: Transport) -> str:
    """What of a way to a node is weaker than https with TLS 1.2; empty if nothing is."""
    if scheme == "http":
        return f"http: {_OVER_HTTP.get(transport, 'nothing encrypts the messages')}; no certificate names the server"
    return "TLS 1.0 is accepted, whose weaknesses are known" if tls_minimum == "1.0" else ""
