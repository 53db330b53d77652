"""Sends recorded conversations again with nothing but pywinrm: `python pywinrm_client.py FILE`, one line of JSON.

Prints the CPU and wall seconds from the first message to the last. Imports nothing of ours.
"""

import base64
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from winrm.exceptions import WinRMOperationTimeoutError
from winrm.protocol import Protocol

_ENVELOPE = "w:MaxEnvelopeSize"


class _Sized(Protocol):
    """Takes answers as large as those of the recorded conversation; pywinrm has a constant."""

    envelope = Protocol.DEFAULT_MAX_ENV_SIZE

    def build_wsman_header(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401 - passed on
        """The header with that size."""
        header: dict[str, Any] = super().build_wsman_header(*args, **kwargs)
        header["env:Header"][_ENVELOPE]["#text"] = str(self.envelope)
        return header


def _said(known: dict[str, Any], password: str, node: dict[str, Any]) -> None:
    """One conversation. The ids of shells and commands are those of this time, in the order of their starts."""
    winrm = _Sized(
        f"https://{node['address']}:{node['port']}/wsman",
        transport="ntlm",
        username=known["user"],
        password=password,
        ca_trust_path=known["ca_file"],
        proxy=None,
    )
    ids: dict[str, str] = {}
    shell = command = ""
    for message in node["messages"]:
        winrm.envelope = message["envelope"]
        action = message["action"]
        at_shell = ids.setdefault(message["shell"], shell)
        at_command = ids.setdefault(message["command"], command) if message["command"] else ""
        match action:
            case "Create":
                code_page = int(message["options"].get("WINRS_CODEPAGE", "437"))
                shell = winrm.open_shell(codepage=code_page, noprofile=True)
                ids.pop("", None)
            case "Command":
                command = winrm.run_command(
                    at_shell, message["line"], message["arguments"], skip_cmd_shell=message["skip"]
                )
            case "Send":
                data = base64.b64decode(message["data"])
                winrm.send_command_input(at_shell, at_command, data, end=message["end"])
            case "Receive":
                _receive(winrm, at_shell, at_command)
            case "Signal":
                winrm.cleanup_command(at_shell, at_command)
            case "Delete":
                winrm.close_shell(at_shell)


def _receive(winrm: _Sized, shell: str, command: str) -> None:
    try:
        winrm.get_command_output_raw(shell, command)
    except WinRMOperationTimeoutError:
        return  # it timed out in the recorded conversation, too


def main() -> None:
    """Says everything, and prints what it took."""
    known = json.loads(Path(sys.argv[1]).read_text())
    password = Path(os.environ["BENCH_PASSWORD_FILE"]).read_text().strip()
    used, started = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(known["threads"]) as pool:
        list(pool.map(lambda node: _said(known, password, node), known["nodes"]))
    print(json.dumps({"cpu": time.process_time() - used, "wall": time.perf_counter() - started}))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
