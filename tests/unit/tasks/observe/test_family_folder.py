"""A folder of certificate files means the same, whether the node sends all entries or a set."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from lab.agent.session import Agent
from lab.machine.machine import Machine
from lab.machine.memory_disk import MemoryDisk
from lab.machine.paths import WindowsPath
from tasks.cluster import Cluster
from tasks.ektron.certificates.family import KINDS
from tasks.observe.family_folder import FamilyFolder, folder_question
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply
from workers.winrm.wire import ReplyReader, encoded_request

NODES, PARTNERS = ("S1", "S2", "P1"), ("X1",)
FOLDER = "C:\\service"
CONNECTION = {"user": "u", "secret": "env:X"}
_FILES = st.dictionaries(
    st.tuples(st.sampled_from((*NODES, "s2", "x1", "OLD")), st.sampled_from(KINDS)), st.sampled_from("ab"), max_size=30
)


def cluster_with(names: Sequence[str], partners: Sequence[str]) -> Cluster:
    """A cluster with these nodes."""
    nodes = [{"name": name, "host": name, "role": "staging", "pool": "a"} for name in names]
    data = {"name": "c", "edition": "8.0", "origin": names[0], "site": {"path": "C:\\site"}}
    return Cluster.model_validate({**data, "connection": CONNECTION, "nodes": nodes, "partners": list(partners)})


def _reply(machine: Machine, op: Op) -> Reply:
    line = encoded_request("1", [op], keep_going=True).decode()
    results = ReplyReader().feed(Agent(machine).answer(line).encode() + b"\n", "1")
    assert results is not None
    return Reply(op, results[0])


def _values(folder: FamilyFolder, servers: Sequence[str]) -> dict[str, object]:
    """Which value is the common one is open where several are as common."""
    return {
        kind: ([spread.value(name) for name in servers], {name.casefold() for name in spread.unexpected})
        for kind, spread in folder.spreads(servers).items()
    }


def _meaning(cluster: Cluster, reply: Reply) -> dict[str, object]:
    folder = FamilyFolder.of(reply, cluster)
    kinds = ("mtime", "ctime")
    times = {kind: list(folder.times(kind).values()) for kind in kinds}
    return {
        "nodes": _values(folder, cluster.node_names),
        "partners": _values(folder, cluster.partners),
        "copies": {name.casefold() for name in folder.renamed_copies(cluster.node_names)},
        "digest": folder.digest(FOLDER),
        "newest": {kind: max(map(str, times[kind]), default="") for kind in kinds},
    }


@given(whole=st.sampled_from([(), NODES, (*NODES, *PARTNERS)]), more=_FILES)
def test_a_set_means_what_its_entries_mean(whole: tuple[str, ...], more: dict[tuple[str, str], str]) -> None:
    """Hashes per node, renamed copies, the digest and the newest times are the same."""
    machine = Machine("S1", MemoryDisk())
    machine.disk.make_folder(WindowsPath.of(FOLDER))
    files = {(node, kind): kind for node in whole for kind in KINDS} | more
    for (node, kind), content in files.items():
        machine.disk.put(WindowsPath.of(f"{FOLDER}\\{node}_{kind}"), content.encode())
    machine.disk.put(WindowsPath.of(f"{FOLDER}\\service.exe"), b"MZ")
    cluster = cluster_with(NODES, PARTNERS)
    as_set = folder_question(cluster, FOLDER, change_times=True)
    as_list = ops.list_folder(FOLDER, hashes=True, change_times=True)
    assert _meaning(cluster, _reply(machine, as_list)) == _meaning(cluster, _reply(machine, as_set))


def test_the_answer_does_not_grow_with_the_cluster() -> None:
    """Where all files are there, 5 servers and 50 have answers of the same size."""
    sizes = set()
    for count in (5, 50):
        machine = Machine("S1", MemoryDisk())
        machine.disk.make_folder(WindowsPath.of(FOLDER))
        cluster = cluster_with(tuple(f"N{number:04}" for number in range(count)), ())
        for node in cluster.node_names:
            for kind in KINDS:
                machine.disk.put(WindowsPath.of(f"{FOLDER}\\{node}_{kind}"), kind.encode())
        line = encoded_request("1", [folder_question(cluster, FOLDER, change_times=True)], keep_going=True)
        sizes.add((len(line), len(Agent(machine).answer(line.decode()))))
    assert 1 == len({answer for _, answer in sizes})
    assert 3 > max(asked for asked, _ in sizes) - min(asked for asked, _ in sizes)
