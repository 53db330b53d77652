"""Collects the certificates of the listeners of a cluster, and compares them with those that are pinned."""

import ssl
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

from pipelines.cluster_file.pins import PINS_FILE, pinned_in_pem
from pipelines.cluster_file.positions import MAX_BYTES
from tasks.cluster import Cluster
from tasks.ektron.wording import counted
from workers.errors import InputRefused
from workers.host.reading import content_of
from workers.records import Endpoint, Record
from workers.winrm.listener import ListenerCertificate, grouped, listener_certificate, tls_problem
from workers.winrm.not_connected import NotConnected, fingerprint_of
from workers.winrm.tls import fetch_certificate

__all__ = ["Shown", "collect", "fingerprints_of", "pinned_in", "pins_beside", "require_unchanged"]

_AT_A_TIME = 32
_PINS = 10 * MAX_BYTES  #: bytes of a PEM file of pinned certificates
_Pin = Literal["new", "same", "changed", "none"]


class Shown(Record):
    """What the listener of one node shows, and what is pinned.

    Attributes:
        address: host and port.
        certificate: what it says; None if there is none.
        pem: the certificate; empty if there is none.
        pinned: SHA-256 in lower case hex, of the certificate that is pinned; empty if none is.
        problem, remedy: why there is no certificate.
    """

    node: str
    address: str
    certificate: ListenerCertificate | None = None
    pem: str = ""
    pinned: str = ""
    problem: str = ""
    remedy: str = ""

    @property
    def pin(self) -> _Pin:
        """How the certificate compares with the pinned one; `none` without a certificate."""
        if self.certificate is None:
            return "none"
        if not self.pinned:
            return "new"
        return "same" if self.pinned == self.certificate.fingerprint else "changed"

    @property
    def fingerprint(self) -> str:
        """SHA-256 as `AA:BB:...`; empty without a certificate."""
        return grouped(self.certificate.fingerprint) if self.certificate else ""


def collect(cluster: Cluster, nodes: Collection[str], pinned: Mapping[str, str]) -> tuple[Shown, ...]:
    """Looks at the certificates of these nodes. Nothing is verified, no logon happens.

    Args:
        cluster: the cluster.
        nodes: their names.
        pinned: name of a node -> SHA-256 of its pinned certificate, lower case hex.
    """
    endpoints = [cluster.endpoint(name) for name in cluster.node_names if name in nodes]
    with ThreadPoolExecutor(max_workers=_AT_A_TIME) as pool:
        return tuple(pool.map(partial(_shown, pinned), endpoints))


def _shown(pinned: Mapping[str, str], at: Endpoint) -> Shown:
    address = f"[{at.host}]:{at.port}" if ":" in at.host else f"{at.host}:{at.port}"
    shown = Shown(node=at.node, address=address, pinned=pinned.get(at.node, ""))
    if at.scheme == "http":
        return shown.model_copy(update={"problem": "is reached over http, which has no certificate"})
    try:
        der = fetch_certificate(at.host, at.port, at.connect_timeout)
    except NotConnected as error:
        problem, remedy = tls_problem(error.reason, at, b"") if error.tls else (_why(error), "check host and port")
        return shown.model_copy(update={"problem": problem, "remedy": remedy})
    certificate = listener_certificate(der)
    if certificate is None:
        return shown.model_copy(update={"problem": "shows a certificate that cannot be read"})
    return shown.model_copy(update={"certificate": certificate, "pem": ssl.DER_cert_to_PEM_cert(der)})


def _why(error: NotConnected) -> str:
    reason = error.reason
    return f"cannot be reached: {getattr(reason, 'strerror', None) or reason}"


def require_unchanged(shown: Iterable[Shown], accepted: Collection[str]) -> None:
    """Checks that no node shows another certificate than the pinned one.

    Args:
        shown: what the nodes show.
        accepted: nodes whose certificate was replaced on purpose.

    Raises:
        InputRefused: one does; the message has both fingerprints.
    """
    changed = [one for one in shown if one.pin == "changed" and one.node not in accepted]
    if not changed:
        return
    listed = [f"{one.node}: pinned is SHA-256 {grouped(one.pinned)}, it shows {one.fingerprint}" for one in changed]
    options = " ".join(f"--replace {one.node}" for one in changed)
    raise InputRefused(
        "\n".join(
            [f"another certificate than the pinned one on {counted(len(changed), 'node')}; nothing was pinned", *listed]
        ),
        remedy=f"if it was replaced on purpose, compare it on the server, then: esync trust FILE {options}; otherwise "
        "another machine answers in its place",
    )


def fingerprints_of(pems: Mapping[str, str]) -> dict[str, str]:
    """Name -> SHA-256 of a certificate in PEM, lower case hex; what cannot be read is left out."""
    found: dict[str, str] = {}
    for name, pem in pems.items():
        with suppress(ValueError):
            found[name] = fingerprint_of(ssl.PEM_cert_to_DER_cert(pem))
    return found


def pinned_in(cluster: Cluster) -> dict[str, str]:
    """Name of a node -> its fingerprint in the cluster file, lower case hex; without those that have none."""
    pins = {name: cluster.endpoint(name).fingerprint for name in cluster.node_names}
    return {name: pin for name, pin in pins.items() if pin}


def pins_beside(file: Path) -> dict[str, str]:
    """Name of a node -> its certificate in the PEM file beside a cluster file; empty if there is no such file.

    Raises:
        FileTrouble: it cannot be read.
    """
    path = file.parent / PINS_FILE
    return pinned_in_pem(content_of(path, _PINS, "file of pins").decode("ascii", "replace")) if path.exists() else {}
