"""One set of case files, run by every implementation of the agent's protocol on this machine."""

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
from tests.sampling import EXHAUSTIVE, examples, rotated

MANY = examples(1000, 50)  #: requests in one session
COMPRESSED_FROM = 8000  #: characters of results from which a reply is compressed if allowed
_UNDER_WINE = {CASES[number].name for number in rotated(len(CASES), 2, "cases under Wine")}
_OF_WINDOWS = {"services", "values", "locked", "readonly", "hidden"}  #: states that Windows has in a way of its own
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
        # Without a host, one test below is skipped instead of every case.
        *([pytest.param(_host, id="host")] if host_from_environment() else []),
    ],
)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """One machine for all cases, with one PowerShell process."""
    made: Machine = request.param()
    yield made
    made.close()


@pytest.fixture(scope="module")
def site(machine: Machine) -> Iterator[AgentSite | HostSite]:
    """A site for `tcp` and `http` on the machine of the agent."""
    with machine.site() if isinstance(machine, HostMachine) else AgentSite() as site:
        yield site


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_case_has_the_expected_reply_and_state(case: Case, machine: Machine, site: AgentSite | HostSite) -> None:
    """The reply is the expected one, and so is the machine afterwards."""
    wanted = site.filled(case.on(machine.platform))
    if reason := _skip_reason(machine, wanted) or _turn_reason(machine, case):
        pytest.skip(reason)
    assert [] == _played(machine, case, wanted)


def case_differences(case: Case, machine: Machine, site: AgentSite | HostSite) -> list[str]:
    """What is not as expected when a machine plays a case; nothing if it cannot play it."""
    wanted = site.filled(case.on(machine.platform))
    return [] if _skip_reason(machine, wanted) else _played(machine, case, wanted)


def _played(machine: Machine, case: Case, wanted: Json) -> list[str]:
    machine.set_up(wanted.get("given", {}), case.root)
    try:
        wrong = [
            line
            for reply in _replies(wanted)
            for line in _answer_differences(machine, reply, machine.ask(_line(machine, wanted)))
        ]
        return wrong + _state_differences(machine, wanted.get("then", {}))
    finally:
        machine.clear()


def test_all_cases_pass_in_one_batch(machine: Machine, site: AgentSite | HostSite) -> None:
    """One PowerShell gets all requests and the end of input; replies and state are the expected ones.

    `make test` sends it a part of the cases, chosen by the seed: what an operation does was asked in a conversation.
    """
    if not isinstance(machine, RealDisk | HostMachine):
        pytest.skip("the lab's agent has no bootstrap: tests/integration covers its ways")
    every = 30 if machine.platform == "wine" else 10
    apart = [CASES[number].numbered(number) for number in rotated(len(CASES), every, "cases in a batch")]
    cases = [(case, site.filled(case.on(machine.platform))) for case in apart]
    cases = [(case, wanted) for case, wanted in cases if not _skip_reason(machine, wanted)]
    try:
        for case, wanted in cases:
            machine.set_up(wanted.get("given", {}), case.root)
        lines = [_line(machine, wanted) for _, wanted in cases for _ in _replies(wanted)]
        answers = iter(machine.ask_in_batch(lines))
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


def test_many_requests_in_one_session(machine: Machine) -> None:
    """Each reply has the id of its request."""
    machine.set_up({"files": {"C:\\case\\a": {"text": "x"}}}, "C:\\case")
    ops = machine.local([{"op": "stat", "path": "C:\\case\\a"}])
    try:
        asked = [json.dumps({"v": 1, "id": f"r{number}", "ops": ops}) for number in range(MANY)]
        replies = [json.loads(machine.ask(line)) for line in asked]
    finally:
        machine.clear()
    assert [f"r{number}" for number in range(MANY)] == [reply["id"] for reply in replies]
    assert all(reply["results"][0]["exists"] for reply in replies)


def test_a_start_record_names_the_process_and_what_it_has_loaded(machine: Machine) -> None:
    """A start says what its process has loaded; a change says before it that the running process has not."""
    if machine.platform == "linux":
        pytest.skip("there are no Windows services")
    service = {"name": "EsyncPractice", "display": "Esync Practice", "image_path": '"C:\\svc\\practice.exe"'}
    machine.set_up({"files": {"C:\\case\\a": {"text": "x"}}, "services": [service]}, "C:\\case")
    file, loaded = "C:\\case\\own\\start", {"C:\\case\\a": "00", "\u00e9": "11"}
    query = {"op": "service", "name": "EsyncPractice"}
    start = {**query, "action": "start", "start_record": {"file": file, "loaded": loaded}}
    mark = {"start_record": {"file": file, "service": "esyncPRACTICE"}}
    changes: list[Json] = [
        {"op": "write", "path": "C:\\case\\b", "data": "eA==", "expect": "absent", **mark},
        {"op": "spread", "folder": "C:\\case", "blobs": {"x": "eQ=="}, "files": {"b": "x"}, **mark},
        {"op": "remove", "path": "C:\\case\\b", **mark},
    ]
    try:
        for change in changes:
            first, second = _asked(machine, {**query, "action": "stop"}, start)[1], _asked(machine, start, query)[1]
            process = {"service": "EsyncPractice", "pid": first["pid"], "started": first["started"]}
            assert (process["pid"], process["started"]) == (second["pid"], second["started"])
            assert {**process, "loaded": loaded} == _record(machine, file)
            _asked(machine, change)
            assert {**process, "loaded": None} == _record(machine, file)
    finally:
        machine.clear()


def _asked(machine: Machine, *ops: Json) -> list[Json]:
    line = json.dumps({"v": 1, "id": "1", "ops": machine.local(list(ops))})
    results: list[Json] = json.loads(machine.ask(line))["results"]
    assert all(result["ok"] for result in results), results
    return results


def _record(machine: Machine, file: str) -> Json:
    state = machine.state(file)
    assert isinstance(state, bytes)
    return json.loads(state)


def test_a_host_is_cleaned_up() -> None:
    """Between cases only an empty folder exists, and at the end nothing."""
    host = _host()
    host.set_up({"files": {"C:\\case\\a": {"text": "x"}}, "readonly": ["C:\\case\\a"]}, "C:\\case")
    assert b"x" == host.state("C:\\case\\a")
    host.clear()
    assert "" == host.leftovers()
    host.close()


def _skip_reason(machine: Machine, wanted: dict[str, Json]) -> str:
    """Why a case is skipped on this machine; empty if it runs."""
    if wanted.get("skip"):
        return str(wanted["reason"])
    if "many" in wanted.get("given", {}) and isinstance(machine, WineMachine) and not EXHAUSTIVE:
        return "ten thousand files take Wine long; the lab and PowerShell on Linux list them"
    return machine.missing(wanted) if isinstance(machine, HostMachine) else ""


def _turn_reason(machine: Machine, case: Case) -> str:
    """Why a case waits for its turn under Wine, which is played by PowerShell on Linux, too; empty if it has not to."""
    own = _OF_WINDOWS & case.body.get("given", {}).keys() or {"linux", "wine"} & case.body.get("platforms", {}).keys()
    if own or not isinstance(machine, WineMachine) or case.name in _UNDER_WINE:
        return ""
    return "every second case that is the same on Linux is played under Wine: SAMPLE_SEED chooses"


def _line(machine: Machine, wanted: dict[str, Json]) -> str:
    return str(wanted["line"]) if "line" in wanted else json.dumps(machine.local(wanted["request"]))


def _replies(wanted: dict[str, Json]) -> list[Json]:
    """The expected replies to the request and to its repetition."""
    return [wanted["reply"], *([wanted["again"]] if "again" in wanted else [])]


def _answer_differences(machine: Machine, reply: Json, text: str) -> list[str]:
    assert plain(text), "a reply must be ASCII"
    found = json.loads(text)
    if "gzip" in found:
        unpacked = gzip.decompress(base64.b64decode(found["gzip"], validate=True))
        assert len(unpacked) >= COMPRESSED_FROM > len(text), "compressed, but not smaller"
        found["results"] = json.loads(unpacked)
    return differences(machine.local(reply), found) + _shape_differences(found)


def _shape_differences(reply: Json) -> list[str]:
    """Requirements for every reply."""
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
        if (found := machine.state(path)) != wanted:
            wrong.append(f"{path}: wanted {str(wanted)[:80]}, found {str(found)[:80]}")
    wrong += [f"{path} is not a folder" for path in then.get("folders", []) if machine.state(path) != "folder"]
    wrong += [f"{path} is not hidden" for path in then.get("hidden", []) if machine.hidden(path) is False]
    for path, names in then.get("names", {}).items():
        if (there := machine.names(path)) != sorted(names):
            wrong.append(f"{path}: wanted {names}, found {there}")
    for path, lines in then.get("manifest", {}).items():
        text = machine.state(f"{path}\\manifest.jsonl")
        wrong += (
            manifest_differences(machine.local(lines), text) if isinstance(text, bytes) else [f"no manifest: {path}"]
        )
    return wrong


def test_a_hundred_cases_cover_every_operation_and_every_error() -> None:
    """The cases cover the whole protocol."""
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
        "resolve",
        "clock",
    }
    assert operations | {"touch", "run", "access"} <= asked
    for error in ("not_found", "conflict", "access_denied", "busy", "timeout", "invalid", "failed"):
        assert f'"error": "{error}"' in replies
    assert len(CASES) >= 100


def test_platform_differences_carry_their_reason() -> None:
    """Every difference of a platform is explained."""
    without = [
        case.name for case in CASES for part in case.body.get("platforms", {}).values() if not part.get("reason")
    ]
    assert [] == without
