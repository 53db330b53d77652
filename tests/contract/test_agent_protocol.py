"""One set of case files, run by every implementation of the agent's protocol there is on this machine."""

import base64
import gzip
import json
from collections.abc import Iterator

import pytest

from tests.contract.agent_cases import CASES, Case, Json, content_of, differences, manifest_differences
from tests.contract.agent_host import HostMachine, HostSite
from tests.contract.agent_machines import LabMachine, LinuxMachine, Machine, RealDisk, found_on_path, plain
from tests.contract.agent_site import AgentSite
from tests.contract.agent_wine import WineMachine
from tests.live.host import MISSING, host_from_environment, practice_from_environment

PACKED_FROM = 8000  #: characters of results from which a reply comes packed where that is allowed
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


def _host() -> HostMachine:
    found = host_from_environment()
    return HostMachine(*found, practice_from_environment()) if found else pytest.skip(MISSING)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(_lab, id="lab"),
        pytest.param(_linux, id="pwsh", marks=pytest.mark.powershell),
        pytest.param(_windows, id="wine", marks=pytest.mark.windows),
        # Without a host one test below says so, not each case.
        *([pytest.param(_host, id="host")] if host_from_environment() else []),
    ],
)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """One machine for all cases; for PowerShell that is one process, request after request."""
    made: Machine = request.param()
    yield made
    made.close()


@pytest.fixture(scope="module")
def site(machine: Machine) -> Iterator[AgentSite | HostSite]:
    """What `tcp` and `http` find where the agent runs."""
    with machine.site() if isinstance(machine, HostMachine) else AgentSite() as site:
        yield site


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case_is_answered_and_leaves_what_it_says(case: Case, machine: Machine, site: AgentSite | HostSite) -> None:
    """The reply is the wanted one, and the machine looks afterwards as the case says."""
    wanted = site.filled(case.on(machine.platform))
    if reason := _left_out(machine, wanted):
        pytest.skip(reason)
    machine.lay_out(wanted.get("given", {}), case.root)
    try:
        wrong = [
            line
            for reply in _replies(wanted)
            for line in _answer_differences(machine, reply, machine.ask(_line(machine, wanted)))
        ]
        wrong += _state_differences(machine, wanted.get("then", {}))
    finally:
        machine.clear()
    assert [] == wrong


def test_all_cases_are_answered_in_batch_as_well(machine: Machine, site: AgentSite | HostSite) -> None:
    """A PowerShell that is given all of them and the end of input answers each, in order, and leaves what it says."""
    if not isinstance(machine, RealDisk | HostMachine):
        pytest.skip("the lab's agent knows no ways: its machines play PowerShell's in tests/integration")
    apart = [case.apart(number) for number, case in enumerate(CASES)]
    cases = [(case, site.filled(case.on(machine.platform))) for case in apart]
    cases = [(case, wanted) for case, wanted in cases if not _left_out(machine, wanted)]
    try:
        for case, wanted in cases:
            machine.lay_out(wanted.get("given", {}), case.root)
        lines = [_line(machine, wanted) for _, wanted in cases for _ in _replies(wanted)]
        answers = iter(machine.ask_at_once(lines))
        wrong = [
            f"{case.name}: {line}"
            for case, wanted in cases
            for reply in _replies(wanted)
            for line in _answer_differences(machine, reply, next(answers))
        ]
        wrong += [
            f"{case.name}: {line}"
            for case, wanted in cases
            for line in _state_differences(machine, wanted.get("then", {}))
        ]
    finally:
        machine.clear()
    assert [] == wrong


def test_a_thousand_requests_in_one_session(machine: Machine) -> None:
    """Each is answered by its own id."""
    machine.lay_out({"files": {"C:\\case\\a": {"text": "x"}}}, "C:\\case")
    ops = machine.local([{"op": "stat", "path": "C:\\case\\a"}])
    try:
        asked = [json.dumps({"v": 1, "id": f"r{number}", "ops": ops}) for number in range(1000)]
        replies = [json.loads(machine.ask(line)) for line in asked]
    finally:
        machine.clear()
    assert [f"r{number}" for number in range(1000)] == [reply["id"] for reply in replies]
    assert all(reply["results"][0]["exists"] for reply in replies)


def test_a_host_is_left_as_it_was_found() -> None:
    """Between cases only an empty folder is there, and afterwards not even that."""
    host = _host()
    host.lay_out({"files": {"C:\\case\\a": {"text": "x"}}, "readonly": ["C:\\case\\a"]}, "C:\\case")
    assert b"x" == host.look("C:\\case\\a")
    host.clear()
    assert "" == host.leftovers()
    host.close()


def _left_out(machine: Machine, wanted: dict[str, Json]) -> str:
    """Why a case is not for this machine; empty when it is."""
    if wanted.get("skip"):
        return str(wanted["reason"])
    return machine.lacks(wanted) if isinstance(machine, HostMachine) else ""


def _line(machine: Machine, wanted: dict[str, Json]) -> str:
    return str(wanted["line"]) if "line" in wanted else json.dumps(machine.local(wanted["request"]))


def _replies(wanted: dict[str, Json]) -> list[Json]:
    """What is wanted of the request, and of the same request again."""
    return [wanted["reply"], *([wanted["again"]] if "again" in wanted else [])]


def _answer_differences(machine: Machine, reply: Json, text: str) -> list[str]:
    assert plain(text), "the wire stays ASCII"
    found = json.loads(text)
    if "gzip" in found:
        unpacked = gzip.decompress(base64.b64decode(found["gzip"], validate=True))
        assert len(unpacked) >= PACKED_FROM > len(text), "packed, and no smaller for it"
        found["results"] = json.loads(unpacked)
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
    wrong += [f"{path} is not hidden" for path in then.get("hidden", []) if machine.hidden(path) is False]
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
