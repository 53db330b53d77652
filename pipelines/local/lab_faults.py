"""Breaks and heals nodes of a running lab, by its control interface: for walking through a failure by hand.

The lab shares no code with us; `lab.json` in its folder says where it listens.
"""

import contextlib
import http.client
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from workers.errors import InputRefused

__all__ = ["ALL", "change", "sentence"]

ALL = "all"  #: every node of the lab
PATIENCE = 10.0  #: seconds for one answer
_HOW = "write NODE:FAULT or NODE:FAULT=VALUE, such as P2:away or P1:latency_ms=400; the faults are in docs/lab.md"


def change(folder: Path, heal: Iterable[str], faults: Iterable[str]) -> dict[str, Any]:
    """Heals those nodes, then makes those faults hold besides the present ones.

    Args:
        folder: the lab's.
        heal: names of nodes, or `all`.
        faults: `NODE:FAULT` or `NODE:FAULT=VALUE`; what there is: docs/lab.md.

    Returns:
        The faults that hold now, by node; of the nodes that have any.

    Raises:
        InputRefused: no lab runs there, or it knows no such node or fault.
    """
    control = _Control(folder)
    for name in heal:
        for node in control.nodes if name == ALL else [name]:
            control.ask("PUT", node, {})
    for text in faults:
        control.ask("PATCH", *_read(text))
    return {node: held for node in control.nodes if (held := control.ask("GET", node)["faults"])}


def sentence(held: dict[str, Any]) -> str:
    """The present faults for people, a line a node."""
    return "\n".join(f"{node}: {json.dumps(faults)}" for node, faults in held.items()) or "every node is well"


def _read(text: str) -> tuple[str, dict[str, Any]]:
    """`S2:service.never_stops` is S2 and `{"service": {"never_stops": true}}`."""
    node, colon, rest = text.partition(":")
    names, equals, raw = rest.partition("=")
    if not colon or not node or not names:
        raise InputRefused(f"{text!r} is no fault", remedy=_HOW)
    value: Any = True
    if equals:
        value = raw
        with contextlib.suppress(ValueError):
            value = json.loads(raw)
    for name in reversed(names.split(".")):
        value = {name: value}
    return node, value


class _Control:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            known = json.loads((folder / "lab.json").read_text("utf-8"))
            self._address: str = urlsplit(known["control"]).netloc
            self._token: str = known["token"]
            self.nodes = list(known["nodes"])
        except (OSError, ValueError, KeyError):
            raise self._absent() from None

    def ask(self, method: str, node: str, body: object = None) -> dict[str, Any]:
        """One request about a node; what the lab says of the node then."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        path = f"/nodes/{quote(node, safe='')}" + ("" if body is None else "/faults")
        with contextlib.closing(connection):
            try:
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
                said = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):
                raise self._absent() from None
        if answer.status != http.HTTPStatus.OK or not isinstance(said, dict):
            why = " ".join(str(said.get("error", "")).partition("[type=")[0].split())
            raise InputRefused(f"the lab refuses that of {node}: {why}", remedy=_HOW)
        return said

    def _absent(self) -> InputRefused:
        return InputRefused(
            "no lab runs in that folder",
            remedy=f"start it in another terminal: esync lab --dir {self._folder}",
            file=str(self._folder),
        )
