"""One set of case files, run by every implementation of the agent's protocol there is on this machine."""

import json
from collections.abc import Iterator

import pytest

from tests.contract.agent_cases import CASES, Case, Json, content_of, differences, manifest_differences
from tests.contract.agent_machines import LabMachine, LinuxMachine, Machine, found_on_path, plain
from tests.contract.agent_site import AgentSite
from tests.contract.agent_wine import WineMachine

_POWERSHELL = "no pwsh on PATH: PowerShell 7 for Linux runs the agent's script here"
_WINE = "no wine-node and wine on PATH: a nearly-Windows machine runs the agent's script there"


def _lab() -> Machine:
    return LabMachine()


def _linux() -> Machine:
    program = found_on_path("pwsh")
    return LinuxMachine(program) if program else pytest.skip(_POWERSHELL)


def _windows() -> Machine:
    program = found_on_path("wine-node")
    return WineMachine(program) if program and found_on_path("wine", "wine64") else pytest.skip(_WINE)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(_lab, id="lab"),
        pytest.param(_linux, id="pwsh", marks=pytest.mark.powershell),
        pytest.param(_windows, id="wine", marks=pytest.mark.windows),
    ],
)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """One machine for all cases; for PowerShell that is one process, request after request."""
    made: Machine = request.param()
    yield made
    made.close()


@pytest.fixture(scope="module")
def site() -> Iterator[AgentSite]:
    """What `tcp` and `http` find on this machine."""
    with AgentSite() as site:
        yield site


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case_is_answered_and_leaves_what_it_says(case: Case, machine: Machine, site: AgentSite) -> None:
    """The reply is the wanted one, and the machine looks afterwards as the case says."""
    wanted = site.filled(case.on(machine.platform))
    if wanted.get("skip"):
        pytest.skip(wanted["reason"])
    machine.lay_out(wanted.get("given", {}))
    try:
        wrong = _answer(machine, wanted, wanted["reply"])
        if "again" in wanted:
            wrong += _answer(machine, wanted, wanted["again"])
        wrong += _state_differences(machine, wanted.get("then", {}))
    finally:
        machine.clear()
    assert [] == wrong


def _answer(machine: Machine, wanted: dict[str, Json], reply: Json) -> list[str]:
    line = wanted["line"] if "line" in wanted else json.dumps(machine.local(wanted["request"]))
    text = machine.ask(line)
    assert plain(text), "the wire stays ASCII"
    found = json.loads(text)
    return differences(machine.local(reply), found) + _shape_differences(found)


def _shape_differences(reply: Json) -> list[str]:
    """What holds for every reply, whatever the case names."""
    wrong = [] if reply.get("v") == 1 else ["reply: no version"]
    for result in reply["results"]:
        if result["ok"] is True:
            continue
        message = result.get("message")
        if not isinstance(message, str) or not message or "\n" in message:
            wrong.append(f"a failed result needs one line of message: {result}")
    return wrong


def _state_differences(machine: Machine, then: Json) -> list[str]:
    wrong = []
    for path, content in then.get("files", {}).items():
        wanted = None if content is None else content_of(content)
        if (found := machine.look(path)) != wanted:
            wrong.append(f"{path}: wanted {str(wanted)[:80]}, found {str(found)[:80]}")
    wrong += [f"{path} is no folder" for path in then.get("folders", []) if machine.look(path) != "folder"]
    for path, names in then.get("names", {}).items():
        if (there := machine.names(path)) != sorted(names):
            wrong.append(f"{path}: wanted {names}, found {there}")
    for path, lines in then.get("manifest", {}).items():
        text = machine.look(f"{path}\\manifest.jsonl")
        wrong += (
            manifest_differences(machine.local(lines), text) if isinstance(text, bytes) else [f"no manifest: {path}"]
        )
    return wrong


def test_a_hundred_cases_cover_every_operation_and_every_error() -> None:
    """The set stays as wide as the protocol."""
    asked = {
        op.get("op") for case in CASES for op in case.body.get("request", {}).get("ops", []) if isinstance(op, dict)
    }
    replies = json.dumps([case.body for case in CASES])
    operations = {
        "hello",
        "stat",
        "list",
        "read",
        "hash",
        "write",
        "spread",
        "mkdir",
        "remove",
        "service",
        "version",
        "registry",
        "tcp",
        "http",
        "clock",
    }
    assert operations | {"touch", "run"} <= asked
    for error in ("not_found", "conflict", "access_denied", "busy", "timeout", "invalid", "failed"):
        assert f'"error": "{error}"' in replies
    assert len(CASES) >= 100


def test_platform_differences_carry_their_reason() -> None:
    """Whoever reads a case learns why a platform differs."""
    without = [
        case.name for case in CASES for part in case.body.get("platforms", {}).values() if not part.get("reason")
    ]
    assert [] == without
