"""The lab replays what it recorded, to a client that knows nothing of it: the same round trips, the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import winrm

from lab.control.remote import LabProcess, spare_addresses
from tests.benchmarks import pywinrm_client
from tests.warm import warm_lab

pytestmark = pytest.mark.integration

COUNTED = ("round_trips", "powershell_starts", "shells_opened")


def counted(lab: LabProcess) -> dict[str, int]:
    """What the lab counted so far."""
    report = lab.report("S1")
    return {name: report[name] for name in (*COUNTED, "bytes_received", "bytes_sent")}


def since(lab: LabProcess, before: dict[str, int]) -> dict[str, int]:
    """What it counted since then."""
    return {name: count - before[name] for name, count in counted(lab).items()}


def session(lab: LabProcess) -> winrm.Session:
    """A session of pywinrm with S1."""
    address = f"https://{lab.nodes['S1']['address']}:5986/wsman"
    auth = ("esync", lab.password)
    return winrm.Session(address, auth=auth, transport="ntlm", ca_trust_path=str(lab.ca_file), proxy=None)


def replayed(lab: LabProcess, folder: Path) -> dict[str, Any]:
    """Lets the client of the benchmark send the recorded messages."""
    node = {**lab.nodes["S1"], "messages": lab.messages("S1")}
    file = folder / "conversations.json"
    file.write_text(json.dumps({"user": "esync", "ca_file": str(lab.ca_file), "threads": 1, "nodes": [node]}))
    given = {**os.environ, "BENCH_PASSWORD_FILE": str(lab.folder / "password")}
    command = [sys.executable, pywinrm_client.__file__, str(file)]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True, timeout=60)
    return dict(json.loads(done.stdout))


def test_a_replay_has_the_same_round_trips_and_bytes(tmp_path: Path) -> None:
    """Two commands in shells of their own, once for real and twice from the record; then the lab works as before."""
    with warm_lab(tmp_path / "lab", "--nodes", "1", "--disk", "memory", "--address", spare_addresses()) as lab:
        lab.converse("record")
        before = counted(lab)
        assert [session(lab).run_cmd("hostname").std_out, session(lab).run_ps("hostname").std_out] == [b"S1\r\n"] * 2
        first = since(lab, before)
        assert [one["action"] for one in lab.messages("S1")] == 2 * ["Create", "Command", "Receive", "Signal", "Delete"]
        for _ in range(2):
            lab.converse("play")
            before = counted(lab)
            assert replayed(lab, tmp_path)["cpu"] > 0
            again = since(lab, before)
            assert {name: first[name] for name in COUNTED} == {name: again[name] for name in COUNTED}
            assert again["bytes_sent"] == first["bytes_sent"]
            assert again["bytes_received"] == pytest.approx(first["bytes_received"], rel=0.01)
        lab.converse("off")
        assert session(lab).run_cmd("hostname").std_out == b"S1\r\n"
