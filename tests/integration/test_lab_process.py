"""A lab with a simulated machine and one with real processes, over WinRM with the product's channel."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lab.config import shipped_cluster
from lab.control.remote import LabProcess, spare_addresses
from lab.machine.errors import LabError
from pipelines.cluster_file.loader import load_cluster
from tests.waiting import PATIENCE
from tests.warm import warm_lab
from workers.errors import NodeError, Unreachable
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm.channel import Limit
from workers.winrm.remote import WinRMChannel

pytestmark = pytest.mark.integration

CONFIG = """
origin: S1
nodes:
  - {{name: S1, address: {base}.11}}
  - name: P1
    address: {base}.12
    role: production
    pool: production
    ws_path: http://{base}.12:8080/WorkArea/ServerControlWS.asmx
    process: {{runner: [/bin/sh, -c], drive: {drive}}}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """S1 is simulated; P1 runs its commands with /bin/sh."""
    folder = tmp_path_factory.mktemp("lab")
    drive = folder / "machine" / "drive"
    drive.mkdir(parents=True)
    base = spare_addresses().rpartition(".")[0]
    (folder / "lab.yaml").write_text(CONFIG.format(base=base, drive=drive))
    with warm_lab(folder / "lab", "--config", str(folder / "lab.yaml")) as running:
        yield running


@pytest.fixture(autouse=True)
def _healed(lab: LabProcess) -> Iterator[None]:
    yield
    lab.heal("P1")


@pytest.fixture
def channel(lab: LabProcess) -> Iterator[WinRMChannel]:
    """A channel to the machine with real processes."""
    opened = channel_to(lab, "P1")
    yield opened
    opened.close()


def channel_to(lab: LabProcess, node: str) -> WinRMChannel:
    """A channel like that of a worker."""
    address = str(lab.nodes[node]["address"])
    endpoint = Endpoint(node=node, host=address, user="esync", secret="env:X", ca_file=str(lab.ca_file))
    return WinRMChannel(endpoint, Secret(lab.password))


def everything(channel: WinRMChannel) -> tuple[bytes, bytes, int]:
    """Receives until the command has ended."""
    out, err = b"", b""
    while True:
        chunk = channel.receive(Limit("node", 10))
        out, err = out + chunk.stdout, err + chunk.stderr
        if chunk.exit_status is not None:
            return out, err, chunk.exit_status


def pid_in(file: Path) -> int:
    """The number that a command wrote to a file."""
    until = time.monotonic() + PATIENCE
    while not (file.exists() and file.read_text().strip()) and time.monotonic() < until:
        time.sleep(0.01)
    return int(file.read_text())


def ends(pid: int, seconds: float = PATIENCE) -> bool:
    """Whether a process ends in time."""
    until = time.monotonic() + seconds
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_a_command_is_a_process_with_three_streams_and_a_status(channel: WinRMChannel) -> None:
    """Half a megabyte in both directions, stderr separate, the status at the end."""
    channel.start("cat; echo wrong >&2; exit 7", Limit("node", 5))
    data = bytes(range(256)) * 2000
    channel.send(data[:200_000], Limit("node", 5))
    channel.send(data[200_000:], Limit("node", 5), end=True)
    assert (data, b"wrong\n", 7) == everything(channel)


def test_closing_the_session_ends_the_process(channel: WinRMChannel, tmp_path: Path) -> None:
    """And its child process in another session, within seconds."""
    channel.start(
        f"echo $$ > {tmp_path}/pid; setsid sh -c 'echo $$ > {tmp_path}/left; exec sleep 600'", Limit("node", 5)
    )
    pids = [pid_in(tmp_path / name) for name in ("pid", "left")]
    channel.close()
    assert [True, True] == [ends(pid) for pid in pids]


def test_network_faults_work_as_on_a_simulated_machine(lab: LabProcess) -> None:
    """Latency, a quota, a closed port."""
    lab.break_node("P1", latency_ms=300)
    slow = channel_to(lab, "P1")
    started = time.monotonic()
    slow.start("true", Limit("node", 5))
    assert time.monotonic() - started > 0.6
    slow.close()
    lab.break_node("P1", shell_quota=0)
    with closing(channel_to(lab, "P1")) as refused, pytest.raises(NodeError):
        refused.start("true", Limit("node", 5))
    lab.break_node("P1", refuse_connections=True)
    with closing(channel_to(lab, "P1")) as away, pytest.raises(Unreachable):
        away.start("true", Limit("node", 5))


def test_a_fault_that_needs_a_simulated_machine_is_refused(lab: LabProcess) -> None:
    """The message names the fault; the machine does not change, and reports no service."""
    with pytest.raises(LabError, match="P1 has real processes, which cannot have the faults clock_skew"):
        lab.break_node("P1", clock_skew=600)
    with pytest.raises(LabError, match="over WinRM"):
        lab.agent("P1", {"op": "clock"})
    report = lab.report("P1")
    assert ({}, None) == (report["faults"], report["service"])


def test_the_product_is_the_same_on_both(lab: LabProcess) -> None:
    """The same files; only the name of the machine differs."""
    files = {
        node: {str(path.relative_to(lab.disk(node))) for path in lab.disk(node).rglob("*.*") if path.is_file()}
        for node in ("S1", "P1")
    }
    family = {name for name in files["S1"] if "_Sync" in name}
    assert 6 == len(family)
    assert files["P1"] == files["S1"] - family
    web = (lab.disk("P1") / "inetpub/wwwroot/CMS400/web.config").read_text("utf-8-sig")
    assert f'value="http://{lab.nodes["P1"]["address"]}:8080/WorkArea/ServerControlWS.asmx"' in web


def test_a_file_can_be_made_read_only_on_real_machines(lab: LabProcess) -> None:
    """Until the fault is cleared."""
    file = lab.disk("P1") / "inetpub/wwwroot/CMS400/web.config"
    lab.break_node("P1", readonly=[r"C:\inetpub\wwwroot\CMS400\web.config"])
    before = file.stat().st_mode & 0o222
    lab.heal("P1")
    assert (0, 0o200) == (before, file.stat().st_mode & 0o200)


def test_both_kinds_answer_in_one_lab(lab: LabProcess, channel: WinRMChannel) -> None:
    """The cluster file names both; each runs `hostname` in its own way."""
    simulated = channel_to(lab, "S1")
    for opened in (simulated, channel):
        opened.start("hostname", Limit("node", 5))
    assert (b"S1\r\n", b"", 0) == everything(simulated)
    assert 0 == everything(channel)[2]
    simulated.close()
    assert {"S1", "P1"} <= set(lab.cluster.read_text().replace(",", " ").split())


def test_a_restarted_service_settles_as_fast_as_in_the_shipped_lab(lab: LabProcess) -> None:
    """The generated cluster file has the `settle` of the shipped one, not that of real servers."""
    shipped = YAML(typ="safe").load(shipped_cluster())["policy"]["deadlines"]["settle"]
    assert shipped == load_cluster(lab.cluster).policy.deadlines.settle


@pytest.mark.parametrize(
    ("runner", "drive", "message"),
    [("/nowhere/runner", "/", "was not found"), ("/bin/sh", "/nowhere", "is not a folder")],
)
def test_a_lab_with_a_missing_machine_does_not_start(tmp_path: Path, runner: str, drive: str, message: str) -> None:
    """The runner and the drive are checked first; the message names them."""
    node = f"{{name: S1, address: 127.0.77.11, process: {{runner: [{runner}], drive: {drive}}}}}"
    (tmp_path / "lab.yaml").write_text(f"origin: S1\nnodes:\n  - {node}\n")
    with pytest.raises(LabError, match=message):
        LabProcess.start(tmp_path / "lab", "--config", str(tmp_path / "lab.yaml"))
