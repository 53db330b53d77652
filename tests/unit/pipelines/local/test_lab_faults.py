"""`esync lab --fault` and `--heal` with the control API of a real lab."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess, running_lab, spare_addresses
from pipelines.cli.entry import run
from pipelines.local import lab_faults
from workers.errors import InputRefused


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """Two simulated servers, in memory."""
    folder = tmp_path_factory.mktemp("lab")
    with running_lab(folder, "--nodes", "2", "--disk", "memory", "--address", spare_addresses()) as running:
        yield running


def test_faults_are_added_and_removed(lab: LabProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """Faults are added by name or with a value, nested ones with a dot; healing removes all faults of a node."""
    faults = ["--fault", "P1:away", "--fault", "S1:latency_ms=40", "--fault", "S1:service.never_stops"]
    assert run(["lab", "--dir", str(lab.folder), *faults, "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held == {"P1": {"away": True}, "S1": {"latency_ms": 40, "service": {"never_stops": True}}}
    assert lab_faults.change(lab.folder, ["P1"], []) == {"S1": held["S1"]}
    assert run(["lab", "--dir", str(lab.folder), "--heal", "all"]) == 0
    assert capsys.readouterr().err == "no node has a fault\n"


def test_a_fault_of_a_group_leaves_the_others_of_the_group(lab: LabProcess) -> None:
    """Of the service, the site and the syncs."""
    faults = ["S1:sync.seconds=2", "S1:sync.hangs", 'S1:sync.old_keys=["P1"]', "S1:site.down", "S1:site.no_roles"]
    held = lab_faults.change(lab.folder, [], faults)
    assert held == {
        "S1": {"sync": {"seconds": 2, "hangs": True, "old_keys": ["P1"]}, "site": {"down": True, "no_roles": True}}
    }
    assert {} == lab_faults.change(lab.folder, ["S1"], [])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("P1", "is not a valid fault"),
        (":away", "is not a valid fault"),
        ("P1:", "is not a valid fault"),
        ("P9:away", r"no such node: 'P9'; the nodes are S1, P1"),
        ("P10:away", r"no such node: 'P10' \(did you mean P1\?\)"),
        ("P1:awy", r"there is no fault 'awy' \(did you mean away\?\); the faults are away, power_cut, refuse_conn"),
        ("P1:nonsense", "there is no fault 'nonsense'; the faults are away, power_cut, "),
        ("P1:service.never_stop", r"no fault 'never_stop' in service \(did you mean service.never_stops\?\); the faul"),
        ("P1:latency_ms=soon", "latency_ms: must be a whole number; it is 'soon'"),
        ("P1:latency_ms=-1", "latency_ms: must be greater than or equal to 0; it is '-1'"),
        ("P1:away={}", "away: must be a valid boolean; it is "),
        ("P1:sync.fails=weather", "sync.fails: must be 'catalogs', 'conflict'"),
        ("P1:away=perhaps", "away: must be true or false; it is 'perhaps'"),
        ("P1:cut=S1", "cut: must be a list in JSON, such as "),
    ],
)
def test_an_invalid_fault_is_refused(fault: str, reason: str, lab: LabProcess) -> None:
    """An unknown node, an unknown fault, a wrong value: the error is one line, and no fault is added."""
    with pytest.raises(InputRefused, match=reason) as why:
        lab_faults.change(lab.folder, [], [fault])
    assert "\n" not in str(why.value)
    assert lab_faults.change(lab.folder, [], []) == {}


def test_a_missing_lab_is_reported(tmp_path: Path) -> None:
    """The error has the command that starts a lab."""
    with pytest.raises(InputRefused, match="no lab runs in that folder") as why:
        lab_faults.change(tmp_path, ["all"], [])
    assert why.value.remedy.endswith(f"esync lab --dir {tmp_path}")
