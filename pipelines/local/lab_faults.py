"""Adds faults to nodes of a running lab, and removes them, to try failures by hand. It uses the lab's control API.

The lab shares no code with this package; `lab.json` in its folder has its address.
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
    """Removes all faults of some nodes, then adds faults to the present ones.

    Args:
        folder: of the lab.
        heal: names of nodes, or `all`.
        faults: `NODE:FAULT` or `NODE:FAULT=VALUE`; docs/lab.md lists them.

    Returns:
        The present faults by node, without nodes that have none.

    Raises:
        InputRefused: no lab runs there, or it has no such node or fault.
    """
    control = _Control(folder)
    for name in heal:
        for node in control.nodes if name == ALL else [name]:
            control.ask("PUT", node, {})
    for text in faults:
        control.ask("PATCH", *_read(text))
    return {node: held for node in control.nodes if (held := control.ask("GET", node)["faults"])}


def sentence(held: dict[str, Any]) -> str:
    """The present faults as text, one line per node."""
    return "\n".join(f"{node}: {json.dumps(faults)}" for node, faults in held.items()) or "no node has a fault"


def _read(text: str) -> tuple[str, dict[str, Any]]:
    """For `S2:service.never_stops`: S2 and `{"service": {"never_stops": true}}`."""
    node, colon, rest = text.partition(":")
    names, equals, raw = rest.partition("=")
    if not colon or not node or not names:
        raise InputRefused(f"{text!r} is not a valid fault", remedy=_HOW)
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
            raise self._not_running() from None

    def ask(self, method: str, node: str, body: object = None) -> dict[str, Any]:
        """Sends one request about a node; returns the answer of the lab."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        path = f"/nodes/{quote(node, safe='')}" + ("" if body is None else "/faults")
        with contextlib.closing(connection):
            try:
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
                reply = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):
                raise self._not_running() from None
        if answer.status != http.HTTPStatus.OK or not isinstance(reply, dict):
            why = " ".join(str(reply.get("error", "")).split()) if isinstance(reply, dict) else ""
            raise InputRefused(f"the lab refused the request for {node}: {why}", remedy=_HOW)
        return reply

    def _not_running(self) -> InputRefused:
        return InputRefused(
            "no lab runs in that folder",
            remedy=f"start it in another terminal: esync lab --dir {self._folder}",
            file=str(self._folder),
        )
