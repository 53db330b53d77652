"""The lab with foreign WinRM clients: pywinrm and pypsrp, over https with the lab's certificates."""

import base64
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pypsrp.client import Client
from winrm.exceptions import InvalidCredentialsError, WinRMOperationTimeoutError, WinRMTransportError, WSManFaultError
from winrm.protocol import Protocol

from lab.control.remote import LabProcess, running_lab, spare_addresses
from lab.machine.errors import LabError
from lab.product.family import make_family
from tests.waiting import PATIENCE
from tests.warm import warm_lab

pytestmark = pytest.mark.integration

SERVICE = "EktronWindowsServices30"
FOLDER = r"C:\Program Files\Ektron\EktronWindowsService30"
CONFIG = rf"{FOLDER}\Ektron.ASM.EktronServices30.exe.config"
#: Reads the agent as the bootstraps of docs/agent-protocol.md do.
BOOTSTRAP = "iex ([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String([Console]::In.ReadLine())))"
ENCODED = base64.b64encode(BOOTSTRAP.encode("utf-16-le")).decode()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """Four nodes: S1, S2, P1, P2."""
    with warm_lab(tmp_path_factory.mktemp("lab"), "--nodes", "4", "--address", spare_addresses()) as running:
        yield running


@pytest.fixture(autouse=True)
def _healed(lab: LabProcess) -> Iterator[None]:
    yield
    for node in lab.nodes:
        lab.heal(node)


def client(lab: LabProcess, node: str = "S1", **different: Any) -> Protocol:  # noqa: ANN401 - pywinrm's options
    """A pywinrm client with explicit options."""
    options: dict[str, Any] = {
        "transport": "ntlm",
        "username": "esync",
        "password": lab.password,
        "ca_trust_path": str(lab.ca_file),
        "server_cert_validation": "validate",
        "operation_timeout_sec": 1,
        "read_timeout_sec": 10,
        "proxy": None,
    } | different
    return Protocol(f"https://{lab.nodes[node]['address']}:5986/wsman", **options)


def powershell(protocol: Protocol, shell: str) -> str:
    """Starts the agent's bootstrap and sends it a script; returns the id of the command."""
    arguments = ["-NoProfile", "-NonInteractive", "-EncodedCommand", ENCODED]
    command: str = protocol.run_command(shell, "powershell.exe", arguments, console_mode_stdin=False)
    protocol.send_command_input(shell, command, base64.b64encode(b"a script") + b"\n")
    return command


def ask(protocol: Protocol, shell: str, command: str, *ops: dict[str, Any]) -> list[dict[str, Any]]:
    """Sends one request of a conversation; returns the results."""
    line = json.dumps({"v": 1, "id": "1", "ops": ops}).encode() + b"\n"
    protocol.send_command_input(shell, command, line)
    out = b""
    while not out.endswith(b"\n"):
        out += protocol.get_command_output_raw(shell, command)[0]
    return list(json.loads(out)["results"])


@pytest.mark.parametrize("transport", ["ntlm", "basic"])
def test_pywinrm_runs_hostname(lab: LabProcess, transport: str) -> None:
    """Over https, verified against the lab's CA."""
    protocol = client(lab, "S2", transport=transport)
    shell = protocol.open_shell(codepage=65001)
    command = protocol.run_command(shell, "hostname")
    assert (b"S2\r\n", b"", 0) == protocol.get_command_output(shell, command)
    protocol.cleanup_command(shell, command)
    protocol.close_shell(shell)
    assert 0 == lab.report("S2")["shells_open"]


@pytest.mark.parametrize("auth", ["ntlm", "basic", "negotiate"])
def test_pypsrp_runs_hostname(lab: LabProcess, auth: str) -> None:
    """Another client, with plain NTLM and NTLM in SPNEGO."""
    address = lab.nodes["P1"]["address"]
    with Client(
        address, username="esync", password=lab.password, auth=auth, cert_validation=str(lab.ca_file), no_proxy=True
    ) as other:
        assert ("P1\r\n", "", 0) == other.execute_cmd("hostname")


@pytest.mark.parametrize("transport", ["ntlm", "basic"])
def test_a_wrong_password_is_refused_and_counted(lab: LabProcess, transport: str) -> None:
    """InvalidCredentialsError, one refused logon, no shell."""
    before = lab.report("P2")
    with pytest.raises(InvalidCredentialsError):
        client(lab, "P2", transport=transport, password="wrong").open_shell()
    after = lab.report("P2")
    assert (1, 0) == tuple(after[key] - before[key] for key in ("logons_refused", "shells_opened"))


def test_a_wrong_user_is_refused(lab: LabProcess) -> None:
    """The right password with another name opens no shell."""
    with pytest.raises(InvalidCredentialsError):
        client(lab, username="somebody").open_shell()


@pytest.mark.parametrize("user", ["S1\\esync", ".\\esync", "ESYNC"])
def test_a_local_account_has_several_forms(lab: LabProcess, user: str) -> None:
    """With the machine's name, with a dot, in another case."""
    protocol = client(lab, username=user)
    protocol.close_shell(protocol.open_shell())


def test_one_ntlm_logon_serves_a_connection(lab: LabProcess) -> None:
    """Later requests of the connection have no Authorization header."""
    before = lab.report("S1")["logons_tried"]
    protocol = client(lab)
    shell = protocol.open_shell()
    for _ in range(3):
        protocol.cleanup_command(shell, protocol.run_command(shell, "hostname"))
    protocol.close_shell(shell)
    assert 1 == lab.report("S1")["logons_tried"] - before


def test_a_certificate_of_another_authority_is_not_trusted(lab: LabProcess) -> None:
    """The lab's certificates are valid only with the lab's CA."""
    with pytest.raises(requests.exceptions.SSLError):
        client(lab, ca_trust_path=None).open_shell()


def test_receive_times_out_without_output(lab: LabProcess) -> None:
    """The fault of the operation timeout; the conversation continues."""
    protocol = client(lab)
    shell = protocol.open_shell()
    command = powershell(protocol, shell)
    with pytest.raises(WinRMOperationTimeoutError):
        protocol.get_command_output_raw(shell, command)
    assert "S1" == ask(protocol, shell, command, {"op": "hello"})[0]["computer"]
    protocol.close_shell(shell)


def test_an_unknown_shell_is_a_fault(lab: LabProcess) -> None:
    """Code 2150858843, as on Windows."""
    protocol = client(lab)
    protocol.close_shell(protocol.open_shell())
    with pytest.raises(WSManFaultError) as caught:
        protocol.run_command("11111111-2222-3333-4444-555555555555", "hostname")
    assert 2150858843 == caught.value.wsman_fault_code


def test_the_quota_of_shells_is_a_fault(lab: LabProcess) -> None:
    """Code 2150859173 for one more than allowed; after closing one, another can be opened."""
    lab.break_node("S1", shell_quota=2)
    protocol = client(lab)
    shells = [protocol.open_shell() for _ in range(2)]
    with pytest.raises(WSManFaultError) as caught:
        protocol.open_shell()
    assert 2150859173 == caught.value.wsman_fault_code
    protocol.close_shell(shells[0], close_session=False)
    protocol.close_shell(protocol.open_shell(), close_session=False)
    protocol.close_shell(shells[1])


def test_an_agent_conversation_is_one_powershell(lab: LabProcess) -> None:
    """Many requests, one process; it ends on request, with status 0."""
    before = lab.report("S1")
    protocol = client(lab)
    shell = protocol.open_shell()
    command = powershell(protocol, shell)
    for _ in range(3):
        assert ask(protocol, shell, command, {"op": "stat", "path": CONFIG})[0]["exists"]
    protocol.send_command_input(shell, command, b'{"v":1,"id":"2","stop":true}\n')
    out, _, status, done = protocol.get_command_output_raw(shell, command)
    if not done:
        _, _, status, done = protocol.get_command_output_raw(shell, command)
    protocol.close_shell(shell)
    after = lab.report("S1")
    assert (b'{"v":1,"id":"2","results":[]}\n', 0, True) == (out, status, done)
    assert (1, 3) == (
        after["powershell_starts"] - before["powershell_starts"],
        after["operations"]["stat"] - before["operations"].get("stat", 0),
    )


def test_batch_is_one_request_and_the_end_of_input(lab: LabProcess) -> None:
    """The process replies and ends, without a stop request."""
    protocol = client(lab)
    shell = protocol.open_shell()
    command = powershell(protocol, shell)
    protocol.send_command_input(shell, command, b'{"v":1,"id":"1","ops":[{"op":"clock"}]}', end=True)
    out, err, status = protocol.get_command_output(shell, command)
    protocol.close_shell(shell)
    assert (True, b"", 0) == (json.loads(out)["results"][0]["ok"], err, status)


def test_a_reply_larger_than_an_envelope_arrives_completely(lab: LabProcess) -> None:
    """In several Receives."""
    blob = base64.b64encode(os.urandom(250_000)).decode()
    lab.agent("S1", {"op": "write", "path": "C:\\big", "data": blob, "expect": "any"})
    protocol = client(lab)
    shell = protocol.open_shell()
    result = ask(protocol, shell, powershell(protocol, shell), {"op": "read", "path": "C:\\big"})[0]
    protocol.close_shell(shell)
    assert blob == result["data"]


def test_a_message_larger_than_allowed_is_a_fault(lab: LabProcess) -> None:
    """Code 2150858790 beyond 500 kB."""
    protocol = client(lab)
    shell = protocol.open_shell()
    with pytest.raises(WSManFaultError) as caught:
        protocol.send_command_input(shell, powershell(protocol, shell), b"x" * 500_000)
    assert 2150858790 == caught.value.wsman_fault_code
    protocol.close_shell(shell)


def test_an_edit_is_loaded_by_a_restart_only(lab: LabProcess) -> None:
    """The sync port is closed on a new node, stays closed after the files are written, and opens with a restart."""
    node, name = "P1", "P1"
    assert lab.sync_port(node) is None
    family = make_family()
    text = (lab.disk(node) / CONFIG[3:].replace("\\", "/")).read_bytes()
    key = f'<add key="{name}_SyncClient.cer" encodedValue="{family.client.encoded}" />'.encode()
    edited = text.replace(b"EktronSyncServer.pfx", f"{name}_SyncServer.pfx".encode())
    edited = edited.replace(b"<publickCertKeys>", b"<publickCertKeys>" + key)
    blobs = {file: base64.b64encode(data).decode() for file, data in family.files(name)}
    lab.agent(
        node,
        {"op": "spread", "folder": FOLDER, "blobs": blobs, "files": {file: file for file in blobs}},
        {"op": "write", "path": CONFIG, "data": base64.b64encode(edited).decode(), "expect": "any"},
    )
    assert lab.sync_port(node) is None
    restart = [{"op": "service", "name": SERVICE, "action": action} for action in ("stop", "start")]
    assert [True, True] == [result["changed"] for result in lab.agent(node, *restart)]
    loaded = lab.sync_port(node)
    assert loaded
    assert (name, "0", [f"{name}_SyncClient.cer"]) == (loaded["node"], loaded["load_balanced"], list(loaded["clients"]))
    lab.agent(node, {"op": "remove", "path": CONFIG})
    assert loaded == lab.sync_port(node)
    reached = lab.agent("S1", {"op": "tcp", "host": name, "port": 8732})[0]["reachable"]
    lab.agent(node, restart[0])
    assert (True, None) == (reached, lab.sync_port(node))
    assert 2 == lab.report(node)["service"]["starts"]


def test_a_node_leaves_the_network_and_returns(lab: LabProcess) -> None:
    """While it is away, no client and no other node reaches it; afterwards it is as before."""
    protocol = client(lab, "S2")
    shell = protocol.open_shell()
    lab.break_node("S2", away=True)
    with pytest.raises(requests.exceptions.ConnectionError):
        protocol.run_command(shell, "hostname")
    url = {"op": "http", "url": "http://S2/WorkArea/ServerControlWS.asmx"}
    assert "timeout" == lab.agent("S1", url)[0]["error"]
    lab.heal("S2")
    assert 200 == lab.agent("S1", url)[0]["status"]
    protocol.run_command(shell, "hostname")
    protocol.close_shell(shell)


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ({"refuse_connections": True}, requests.exceptions.ConnectionError),
        ({"refuse_logons": True}, InvalidCredentialsError),
        ({"deny_access": True}, WSManFaultError),
        ({"http_errors": {"status": 503, "times": 1}}, WinRMTransportError),
        ({"reset_replies": 1}, requests.exceptions.ChunkedEncodingError),
        ({"lose_requests": 1}, requests.exceptions.ConnectionError),
    ],
)
def test_each_fault_is_the_clients_own_error(lab: LabProcess, faults: dict[str, Any], error: type[Exception]) -> None:
    """It ends when the fault is cleared."""
    lab.break_node("S2", **faults)
    with pytest.raises(error):
        client(lab, "S2").open_shell()
    lab.heal("S2")
    protocol = client(lab, "S2")
    protocol.close_shell(protocol.open_shell())


def test_counted_faults_end_after_their_number(lab: LabProcess) -> None:
    """One bad answer, then good ones."""
    lab.break_node("S2", http_errors={"status": 500, "times": 1})
    protocol = client(lab, "S2")
    with pytest.raises(WinRMTransportError):
        protocol.open_shell()
    protocol.close_shell(protocol.open_shell())


def test_faults_of_files_and_clocks(lab: LabProcess) -> None:
    """Read-only and locked files, a clock that is ahead; cleared afterwards."""
    write = {"op": "write", "path": CONFIG, "data": "", "expect": "any"}
    lab.break_node("S2", readonly=[CONFIG], clock_skew=400)
    denied, ahead = lab.agent("S2", write, {"op": "clock"})
    mode = (lab.disk("S2") / CONFIG[3:].replace("\\", "/")).stat().st_mode
    lab.break_node("S2", locked=[CONFIG])
    busy, now = lab.agent("S2", write, {"op": "clock"})
    lab.heal("S2")
    assert ("access_denied", 0, "busy") == (denied["error"], mode & stat.S_IWUSR, busy["error"])
    assert ahead["now"] > now["now"]
    assert lab.agent("S2", {"op": "read", "path": CONFIG})[0]["ok"]


def test_a_fault_of_a_missing_file_is_refused(lab: LabProcess) -> None:
    """So is an unknown fault; nothing changes."""
    for wrong in ({"readonly": ["C:\\no"]}, {"tired": True}):
        with pytest.raises(LabError):
            lab.break_node("S2", **wrong)
    assert {} == lab.report("S2")["faults"]


def test_the_control_requires_its_token(lab: LabProcess) -> None:
    """Without it there is no information."""
    assert [401, 401] == [
        requests.get(f"{lab.control}{path}", headers=headers, timeout=PATIENCE).status_code
        for path, headers in (("/lab", {}), ("/nodes", {"Authorization": "Bearer wrong"}))
    ]


def test_secrets_of_the_lab_are_private(lab: LabProcess) -> None:
    """Only this user can read files with secrets, and no report has the password."""
    modes = {name: (lab.folder / name).stat().st_mode & 0o777 for name in ("password", "lab.json", "ca.key")}
    assert {0o600} == set(modes.values())
    reports = json.dumps([lab.report("S1"), lab.totals()]) + (lab.folder / "lab.json").read_text()
    assert lab.password not in reports
    assert lab.password not in (lab.folder / "cluster.yaml").read_text()


def test_an_address_in_use_is_a_clear_error(lab: LabProcess, tmp_path: Path) -> None:
    """The second lab ends with a message that names address and port."""
    address = lab.nodes["S1"]["address"]
    with pytest.raises(LabError, match=rf"{re.escape(address)} port 5986 cannot be used.*--address"):
        LabProcess.start(tmp_path, "--nodes", "1", "--address", f"{address}/24")
    with pytest.raises(LabError, match="another lab is running in"):
        LabProcess.start(lab.folder, "--nodes", "1", "--address", spare_addresses())


def test_a_folder_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    """A file in place of the lab's folder: one line that says which folder and what to do, and status 1."""
    (tmp_path / "taken").write_text("")
    command = [sys.executable, "-m", "lab", "--dir", str(tmp_path / "taken" / "lab"), "--nodes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (1, "") == (done.returncode, done.stdout)
    (line,) = done.stderr.splitlines()
    assert f"{tmp_path}/taken/lab cannot be used: Not a directory; give one with --dir" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--address", "127.0.91.0/24"), "--address is the range of generated nodes; give --nodes, too"),
        (("--nodes", "0"), "--nodes 0"),
        (("--nodes", "2", "--config", "lab.yaml"), "not allowed with argument --nodes"),
    ],
)
def test_options_that_would_be_ignored_are_refused(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """An option that has no effect without another one, or beside it, is a clear error and starts nothing."""
    with pytest.raises(LabError, match=re.escape(said)):
        LabProcess.start(tmp_path, *options)
    assert not (tmp_path / "lab.json").exists()


def test_a_restarted_lab_keeps_its_disks(tmp_path: Path) -> None:
    """Files, password, authority and the origin's family stay after the end of the process."""
    arguments = ("--nodes", "2", "--address", spare_addresses())
    with running_lab(tmp_path, *arguments) as first:
        kept = [first.password, first.ca_file.read_bytes()]
        first.agent("S1", {"op": "write", "path": "C:\\mine.txt", "data": "YQ==", "expect": "absent"})
        family = sorted((first.disk("S1") / "Program Files/Ektron/CMS400v80").rglob("S1_*"))
        before = [file.read_bytes() for file in family]
    assert not (tmp_path / "lab.json").exists()
    with warm_lab(tmp_path, *arguments) as second:
        assert kept == [second.password, second.ca_file.read_bytes()]
        assert "YQ==" == second.agent("S1", {"op": "read", "path": "C:\\MINE.TXT"})[0]["data"]
        assert (6, before) == (len(family), [file.read_bytes() for file in family])


def test_disks_in_memory_work_the_same(tmp_path: Path) -> None:
    """Edition 8.5, no files on this system's disk, the same conversation."""
    arguments = ("--nodes", "1", "--address", spare_addresses(), "--disk", "memory", "--edition", "8.5")
    with warm_lab(tmp_path, *arguments) as lab:
        protocol = client(lab, "S1")
        shell = protocol.open_shell()
        command = powershell(protocol, shell)
        registry = {
            "op": "registry",
            "key": r"HKLM\SYSTEM\CurrentControlSet\Services\EktronWindowsServices40",
            "name": "ImagePath",
        }
        value = ask(protocol, shell, command, registry)[0]["value"]
        protocol.close_shell(shell)
        assert "(x86)" in value
        assert not (tmp_path / "S1").exists()


def test_the_program_ends_cleanly_on_a_signal(tmp_path: Path) -> None:
    """SIGTERM: exit status 0, nothing on stderr, ports free; the password is not among its arguments."""
    addresses = spare_addresses()
    command = [sys.executable, "-m", "lab", "--dir", str(tmp_path), "--nodes", "1", "--address", addresses]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    ready = json.loads(process.stdout.readline())
    process.terminate()
    out, err = process.communicate(timeout=PATIENCE)
    assert (True, ["S1"], 0, "", "") == (ready["ready"], ready["nodes"], process.returncode, out, err)
    with socket.socket() as free:
        assert free.connect_ex((addresses.replace(".0/24", ".11"), 5986))
    shutil.rmtree(tmp_path)
