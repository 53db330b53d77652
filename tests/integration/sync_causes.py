"""Causes that keep a file of a sync from servers of a joined lab: each with those servers, and the row to be named.

The rows are those of the table of known failures (docs/sync.md).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from lab.control.remote import LabProcess
from lab.product.causes import CAUSES
from tests.integration.harness import FOUR, SITE, on_disk

__all__ = ["PLAYED", "SHORT", "Played", "put_back", "saved"]

SERVICE = r"C:\Program Files\Ektron\EktronWindowsService30"
CONFIG = rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config"
WEB = rf"{SITE}\web.config"
NAME = "EktronWindowsServices30"
Break = Callable[[LabProcess], None]


@dataclass(frozen=True)
class Played:
    """A cause.

    Attributes:
        breaks: what is done to the lab.
        lacking: the servers that must not get the file.
        row: that is named for the first of them.
    """

    breaks: Break
    lacking: frozenset[str]
    row: int


def _fault(node: str, **faults: object) -> Break:
    def change(lab: LabProcess) -> None:
        lab.break_node(node, **faults)

    return change


def _service(lab: LabProcess, node: str, *actions: str) -> None:
    for action in actions:
        (done,) = lab.agent(node, {"op": "service", "name": NAME, "action": action, "deadline": 20})
        assert done["ok"], done


def _stopped(node: str) -> Break:
    return lambda lab: _service(lab, node, "stop")


def _unlistening(node: str) -> Break:
    def change(lab: LabProcess) -> None:
        lab.break_node(node, service={"never_listens": True})
        _service(lab, node, "stop", "start")

    return change


def _edited(node: str, path: str, old: bytes, new: bytes, *, loaded: bool = False) -> Break:
    """A file is changed; `loaded`: and the service started again with it."""

    def change(lab: LabProcess) -> None:
        file = on_disk(lab, node, path)
        before = file.read_bytes()
        after = re.sub(old, new, before, flags=re.DOTALL)
        assert after != before
        file.write_bytes(after)
        if loaded:
            _service(lab, node, "stop", "start")

    return change


def _without(node: str, path: str) -> Break:
    return lambda lab: on_disk(lab, node, path).unlink()


def _key(node: str) -> bytes:
    return rb'\s*<add key="' + node.encode() + rb'_SyncClient\.cer"[^>]*>'


ALL, END, PEER = frozenset({"S2", "P1", "P2"}), frozenset({"P1", "P2"}), frozenset({"P2"})
_OFF = (rb'(<add key="LoadBalanced" value=)"1"', rb'\1"0"')

PLAYED: dict[str, Played] = {
    "6 no end points": Played(_edited("S1", WEB, rb"<add contract[^>]*>", b""), ALL, 6),
    "2 stopped where it starts": Played(_stopped("S1"), ALL, 10),
    "3 another encoded value": Played(
        _edited("S1", WEB, rb'(key="encodedValue" value=")[^"]{8}', rb"\1AAAAAAAA"), ALL, 3
    ),
    "4 client file deleted": Played(_without("S1", rf"{SITE}\S1_SyncClient.pvk"), ALL, 4),
    "5 no key of the other end": Played(_edited("S1", CONFIG, _key("P1"), b"", loaded=True), ALL, 5),
    "5 no key at the other end": Played(_edited("P1", CONFIG, _key("S1"), b"", loaded=True), ALL, 5),
    "5 no key of a peer": Played(_edited("P1", CONFIG, _key("P2"), b"", loaded=True), PEER, 5),
    "5 old key list loaded": Played(_fault("P1", sync={"old_keys": ["S1"]}), ALL, 5),
    "6 factory end points": Played(_edited("S1", WEB, rb"S1_SyncClient\.pfx", b"EktronSyncClient.pfx"), ALL, 6),
    "9 foreign certificate": Played(_fault("P2", sync={"foreign_certificate": True}), PEER, 9),
    "10 stopped at the other end": Played(_stopped("P1"), ALL, 10),
    "11 firewall to the other end": Played(_fault("S1", cut=["P1"]), ALL, 11),
    "11 firewall to a peer": Played(_fault("P1", cut=["P2"]), PEER, 11),
    "12 no listener": Played(_unlistening("P2"), PEER, 12),
    "14 clock of the other end": Played(_fault("P1", clock_skew=600), ALL, 14),
    "14 clock of a peer": Played(_fault("P2", clock_skew=600), PEER, 14),
    "25 stale status file": Played(_fault("P2", sync={"stale_status": True}), PEER, 25),
    "29 dead neighbour": Played(_fault("P2", away=True), PEER, 10),
    "30 a flag that is not loaded": Played(_edited("P2", CONFIG, *_OFF, loaded=True), PEER, 28),
    "41 full disk": Played(_fault("P2", disk_free=0), PEER, 41),
    "42 another server certificate": Played(
        _edited("P2", CONFIG, rb'"P2_SyncServer\.pfx"', b'"S1_SyncServer.pfx"', loaded=True), PEER, 42
    ),
    "43 expired, and checked": Played(_fault("P1", sync={"checks_expiry": True}), ALL, 43),
    **{
        f"{cause.row} {name}": Played(
            _fault("P1", sync={"fails": name}), frozenset({"S2", "P2"}) if cause.row == 37 else ALL, cause.row
        )
        for name, cause in CAUSES.items()
    },
}
#: Those that are played with every run of the tests: one of each way to find a cause.
SHORT = ("5 no key at the other end", "25 stale status file", "41 full disk", "35 licence")


def saved(lab: LabProcess) -> dict[tuple[str, str], bytes]:
    """The files that causes change."""
    paths = [(node, path) for node in FOUR for path in (CONFIG, WEB, rf"{SITE}\{node}_SyncClient.pvk")]
    return {(node, path): on_disk(lab, node, path).read_bytes() for node, path in paths}


def put_back(lab: LabProcess, files: dict[tuple[str, str], bytes]) -> None:
    """Heals the lab, puts the files back, and starts the services that do not run or have loaded others."""
    for node in FOUR:
        lab.heal(node)
    for (node, path), data in files.items():
        file = on_disk(lab, node, path)
        if not file.exists() or file.read_bytes() != data:
            file.write_bytes(data)
    for node in FOUR:
        _service(lab, node, "stop")
    for node in FOUR:
        # A refresh that went on when the lab was healed has ended with its service, and has left its file for good.
        for mark in on_disk(lab, node, rf"{SITE}\EktSyncStatus").glob("*.xml"):
            mark.unlink()
    for node in FOUR:
        _service(lab, node, "start")
