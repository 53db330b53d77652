"""A renewal of the certificate family: at every moment the servers trust each other, and it can stop anywhere."""

import copy
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import permutations
from pathlib import Path
from shutil import rmtree

import pytest

from lab.machine.disk import sha256
from lab.product.family import make_family
from lab.product.site import run_configurator
from pipelines.usecases import control, partners, renewal, rollback
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tasks.ektron.certificates.both import EXTRA_NAMES, NEW
from tasks.ektron.certificates.family import KINDS
from tests.connections import Server, as_loaded, connections, expected, refusal, server_at
from tests.integration.harness import FOUR, Harness, cluster_of, four_servers
from tests.integration.one_process import PASSWORD, Esync, Life, WorkerDied, families_known
from tests.integration.simulated_servers import Action
from tests.integration.simulated_servers import Server as Machine
from workers.records import DocumentKind, Event, RunRecord, Verdict
from workers.store.memory_data import KeptRun

NODES = ("S1", "S2", "P1")


@pytest.fixture(autouse=True)
def _parsed_once() -> Iterator[None]:
    with families_known():
        yield


def a_cluster(**more: object) -> Cluster:
    """Three servers in two pools."""
    nodes = [
        {"name": name, "host": f"127.0.3.{place}", "role": role, "pool": role}
        for place, (name, role) in enumerate(zip(NODES, ("staging", "staging", "production"), strict=True), 11)
    ]
    return Cluster.model_validate(
        {
            "name": "renewed",
            "edition": "8.5",
            "origin": "S1",
            "site": {"path": r"C:\inetpub\wwwroot\site"},
            "connection": {"user": "svc", "secret": f"env:{PASSWORD}"},
            "policy": {"deadlines": {"settle": 0}},
            "nodes": nodes,
        }
        | more
    )


@dataclass
class Watch:
    """Compares what all servers show and trust before every action of any of them.

    Attributes:
        folder: for copies of the disks.
        broken: the server that acts, and a pair of the others that could not connect then.
        interrupted: the actions of a server during which it could not connect itself, although its service ran.
    """

    esync: Esync
    folder: Path
    broken: list[tuple[str, str, str]] = field(default_factory=list)
    interrupted: dict[str, list[str]] = field(default_factory=dict)
    moments: int = 0
    seen: dict[str, Server] = field(default_factory=dict)
    known: dict[str, tuple[dict[str, bytes], Server]] = field(default_factory=dict)

    def begin(self) -> None:
        """Compares from now on."""
        for name, machine in self.esync.servers.items():
            self.seen[name] = self.look(machine)
            machine.watch = partial(self.moment, machine)

    def end(self) -> None:
        """Compares no more."""
        for machine in self.esync.servers.values():
            machine.watch = _nothing

    def moment(self, machine: Machine, action: Action) -> None:
        """Just before an action of a machine."""
        self.moments += 1
        here = machine.name
        self.seen[here] = self.look(machine)
        for one, other in permutations(self.seen, 2):
            if refusal(self.seen[one], self.seen[other], by_value=True):
                if here not in {one, other}:
                    self.broken.append((f"{here}: {action}", one, other))
                elif self.seen[here].keys:
                    self.interrupted.setdefault(here, []).append(str(action))

    def look(self, machine: Machine) -> Server:
        """What a server shows, and what its running service trusts."""
        files = {
            folder.child(entry.name).text: machine.disk.read(folder.child(entry.name))
            for folder in (machine.product.edition.service_folder, machine.product.site)
            for entry in machine.disk.entries(folder)
            if entry.name.lower().endswith((".cer", ".pfx", ".config"))
        }
        known, there = self.known.get(machine.name, ({}, None))
        if there is None or known != files:
            there = server_at(machine.name, _written(files, self.folder / machine.name))
            self.known[machine.name] = (files, there)
        loaded = getattr(machine.service.program, "loaded", None)
        return as_loaded(there, asdict(loaded) if loaded else None)

    def all_connect(self, *, by_value: bool = False) -> bool:
        """Whether exactly the servers of the cluster can connect with each other now."""
        now = [self.look(machine) for machine in self.esync.servers.values()]
        return connections(now, by_value=by_value) == expected(NODES)


def _nothing(action: Action) -> None:
    del action


def _written(files: dict[str, bytes], drive: Path) -> Path:
    """A copy of files of a machine below a folder."""
    rmtree(drive, ignore_errors=True)
    for path, data in files.items():
        target = drive.joinpath(*path.split("\\")[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return drive


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """A joined cluster, watched."""
    esync = Esync(a_cluster())
    assert esync.rollout().record.verdict is Verdict.JOINED
    yield Watch(esync, tmp_path / "disks")
    esync.close()


def renewed(watch: Watch) -> RunSummary:
    """A renewal to its end, with a family that esync makes."""
    return watch.esync.ended(renewal.renew(watch.esync.engine, watch.esync.cluster, generate=True))


def family_of(watch: Watch, run: str, which: DocumentKind = DocumentKind.FAMILY) -> str:
    """The thumbprint of a family of a run."""
    documents = watch.esync.engine.documents(watch.esync.store.run(run)).family_digests(which)
    assert documents is not None
    return documents.thumbprint


def shown(watch: Watch) -> set[str]:
    """The client certificates that the servers show."""
    return {watch.look(machine).shown_as_client for machine in watch.esync.servers.values()}


def test_no_two_servers_stop_trusting_each_other_during_a_renewal(watch: Watch) -> None:
    """Before each action on any server, the other servers connect; a server is interrupted only while it changes."""
    before = shown(watch)
    watch.begin()
    done = renewed(watch)
    watch.end()
    assert (Verdict.JOINED, []) == (done.record.verdict, watch.broken), done.record.summary
    assert watch.moments > 100
    assert watch.all_connect()
    assert {family_of(watch, done.record.id)} == shown(watch) != before
    assert before == {family_of(watch, done.record.id, DocumentKind.PREVIOUS)}
    stages = [turn.stage for turn in done.record.turns]
    # Three waves each: S1 and S2 are a pool, of which one half is restarted at a time; then P1.
    assert [*["admit"] * 3, *["switch"] * 3, *["forget"] * 3, "verify"] == stages[-10:]
    for machine in watch.esync.servers.values():
        assert not [name for name in watch.look(machine).keys if name.upper() in EXTRA_NAMES]
    for name, actions in watch.interrupted.items():
        assert not [action for action in actions if "ESYNC" in action], (name, actions)


@pytest.mark.parametrize("stage", ["admit", "switch", "forget"])
def test_a_renewal_that_was_cancelled_anywhere_goes_on_to_its_end(watch: Watch, stage: str) -> None:
    """Cancelled at a server's first action in a stage: the others still trust each other; a retry ends joined."""
    esync, cancelled = watch.esync, list[str]()
    last = esync.servers["P1"]

    def cancel(_: Action) -> None:
        run = esync.store.run(esync.store.runs(1)[0].id)
        if run.turn is not None and run.turn.stage == stage and not cancelled:
            cancelled.append(run.id)
            control.cancel(esync.engine, run.id, "enough")

    last.watch = cancel
    first = renewed(watch)
    assert (Verdict.CANCELLED, [first.record.id]) == (first.record.verdict, cancelled)
    now = {name: watch.look(machine) for name, machine in esync.servers.items()}
    assert not any(refusal(now[one], now[other], by_value=True) for one, other in permutations(("S1", "S2"), 2))
    done = esync.ended(control.retry(esync.engine, first.record.id))
    assert Verdict.JOINED is done.record.verdict, done.record.summary
    assert {family_of(watch, first.record.id)} == shown(watch)
    assert watch.all_connect()


@pytest.mark.parametrize("moment", [3, 9, 14, 20, 25])
def test_a_renewal_survives_the_death_of_a_worker(watch: Watch, moment: int) -> None:
    """Another worker does the rest, and the run ends joined with one family."""
    life = Life(dies_at=moment)
    watch.esync.crew.send("P1", life)
    with suppress(WorkerDied):
        renewed(watch)
    run = watch.esync.store.runs(1)[0].id
    assert life.died_at
    assert Verdict.JOINED is watch.esync.resume(run).record.verdict
    assert {family_of(watch, run)} == shown(watch)
    assert watch.all_connect()


@pytest.mark.parametrize("kept", ["observe", "families"])
@pytest.mark.parametrize("lost", ["switch-1", "switch-3", "forget-1", "forget-3"])
def test_a_renewal_whose_store_forgets_what_it_changed_goes_on_to_its_end(watch: Watch, kept: str, lost: str) -> None:
    """The broker comes back as it was before the first change: both families are found on the nodes, none is made."""
    esync, data = watch.esync, dict[str, KeptRun]()
    last = "S1" if lost.endswith("1") else "P1"

    def strike(_: Action) -> None:
        turn = esync.store.runs(1)[0].turn
        if turn is not None and turn.name == lost and data and (strikes := strikes_left.pop()) == 0:
            esync.store._runs.update(data)
            esync.new_workers()
            raise WorkerDied(str(strikes))

    strikes_left, save = [0, *range(1, 14)], esync.store.save

    def keep(record: RunRecord, *events: Event) -> RunRecord | None:
        saved = save(record, *events)
        if record.turn is not None and record.turn.name == kept and not data:
            data.update(copy.deepcopy(esync.store._runs))
        return saved

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(esync.store, "save", keep)
        esync.servers[last].watch = strike
        with pytest.raises(WorkerDied):
            renewed(watch)
    esync.servers[last].watch = _nothing
    run = esync.store.runs(1)[0]
    assert kept == (run.turn and run.turn.name)
    done = esync.resume(run.id)
    assert Verdict.JOINED is done.record.verdict, done.record.summary
    assert {family_of(watch, run.id)} == shown(watch)
    assert watch.all_connect()
    for machine in esync.servers.values():
        assert not [name for name in watch.look(machine).keys if name.upper() in EXTRA_NAMES]


def test_a_rollback_returns_to_the_old_family(watch: Watch) -> None:
    """After a whole renewal, and after one that stopped in the middle: all files are as before."""
    before = {name: watch.look(machine) for name, machine in watch.esync.servers.items()}
    done = renewed(watch)
    undone = watch.esync.ended(rollback.rollback(watch.esync.engine, done.record.id))
    assert Verdict.RESTORED is undone.record.verdict, undone.record.summary
    assert before == {name: watch.look(machine) for name, machine in watch.esync.servers.items()}


def test_a_renewal_stops_where_a_server_cannot_follow_and_goes_on_later(watch: Watch) -> None:
    """The disk of P1 is full when it should change: the servers before it have changed, and all still connect."""
    disk, free = watch.esync.servers["P1"].disk, watch.esync.servers["P1"].disk.free

    def full(_: Action) -> None:
        run = watch.esync.store.runs(1)[0]
        disk.free = 0 if run.turn is not None and run.turn.stage == "switch" and not run.parent else free

    watch.esync.servers["S2"].watch = full
    first = renewed(watch)
    assert Verdict.FAILED is first.record.verdict
    assert "use the new family is trusted by all" in first.record.summary.replace("uses", "use")
    assert watch.all_connect(by_value=True)
    assert len(shown(watch)) == 2
    done = watch.esync.ended(renewal.renew(watch.esync.engine, watch.esync.cluster))
    assert (Verdict.JOINED, first.record.id) == (done.record.verdict, done.record.parent)
    assert watch.all_connect()
    assert {family_of(watch, first.record.id)} == shown(watch)


def test_the_new_family_may_come_from_the_security_configurator(watch: Watch) -> None:
    """Without a new family nothing is written, and the run says what to click; then the new one is taken from there."""
    esync = watch.esync
    first = esync.ended(renewal.renew(esync.engine, esync.cluster))
    assert Verdict.STOPPED is first.record.verdict
    assert "choose Generate Certificates" in first.record.summary
    assert rollback.changed_a_node(esync.engine, first.record) is False
    made = make_family()
    run_configurator(esync.servers["S1"].product, made)
    done = esync.ended(control.retry(esync.engine, first.record.id))
    assert Verdict.JOINED is done.record.verdict, done.record.summary
    assert {sha256(made.client.cer)} == shown(watch)


def test_partners_are_asked_before_the_servers_use_the_new_family(tmp_path: Path) -> None:
    """All servers trust both, then the run stops and says what the partner needs; later it continues."""
    esync = Esync(a_cluster(partners=("X1",)))
    watch = Watch(esync, tmp_path)
    assert esync.rollout().record.verdict is Verdict.JOINED
    old = shown(watch)
    first = renewed(watch)
    assert Verdict.STOPPED is first.record.verdict
    assert "X1 has to trust it, too: esync certs export FILE --for X1 --out DIR writes" in first.record.summary
    assert old == shown(watch)
    assert all({"esync-old", "esync-new"} < watch.look(machine).keys.keys() for machine in esync.servers.values())
    verified = esync.rollout(kind="verify")
    assert verified.findings is not None
    assert "esync certs renew FILE" in verified.findings.of("leftovers.removed-node").evidence
    to_come, begun = renewal.family_to_come(esync.engine, esync.cluster) or pytest.fail("no renewal has begun")
    files = partners.files_for_partner(esync.cluster, "X1", to_come, renews=True)
    copies = {f"{owner}_{kind}" for owner in ("X1", NEW) for kind in KINDS}
    assert (first.record.id, copies | {"publickCertKeys.xml", "README.txt"}) == (begun.id, set(files))
    keys = files["publickCertKeys.xml"].decode()
    assert (1, True) == (
        keys.count("<add "),
        f'key="{NEW}_SyncClient.cer" encodedValue="{to_come.encoded_value}"' in keys,
    )
    done = esync.ended(renewal.renew(esync.engine, esync.cluster, partners_ready=True))
    assert Verdict.JOINED is done.record.verdict, done.record.summary
    assert {family_of(watch, first.record.id)} == shown(watch)
    assert (None, to_come) == (
        renewal.family_to_come(esync.engine, esync.cluster),
        partners.family_in_use(esync.engine, esync.cluster)[0],
    )
    esync.close()


def test_a_renewal_needs_every_server(watch: Watch) -> None:
    """A server with the key of another family, or one that fails its check: nothing is written."""
    machine = watch.esync.servers["S2"]
    config = machine.product.edition.service_config
    good = machine.disk.read(config)
    machine.disk.put(config, b"<broken")
    lost = renewed(watch)
    assert Verdict.FAILED is lost.record.verdict
    assert "would be cut off" in lost.record.summary
    machine.disk.put(config, good.replace(b"P1_SyncClient.cer", b"P9_SyncClient.cer"))
    other = renewed(watch)
    assert Verdict.REFUTED is other.record.verdict
    assert "Run a rollout first" in other.record.summary
    assert rollback.changed_a_node(watch.esync.engine, other.record) is False


@pytest.mark.integration
def test_a_renewal_over_the_network(harness: Harness, tmp_path: Path) -> None:
    """Real workers, a real broker and WinRM: four servers change to a new family, and back again."""
    with four_servers(tmp_path / "lab") as lab:
        cluster = cluster_of(lab, deadlines={"settle": 0})
        assert harness.rollout(cluster).record.verdict is Verdict.JOINED
        before = {node: server_at(node, lab.disk(node)) for node in FOUR}
        done = harness.finished(renewal.renew(harness.engine, cluster, generate=True).id)
        assert Verdict.JOINED is done.record.verdict, done.record.summary
        now = {node: server_at(node, lab.disk(node)) for node in FOUR}
        assert connections(now.values()) == expected(FOUR)
        assert not {one.shown_as_client for one in before.values()} & {one.shown_as_client for one in now.values()}
        undone = harness.finished(rollback.rollback(harness.engine, done.record.id).id)
        assert Verdict.RESTORED is undone.record.verdict, undone.record.summary
        assert before == {node: server_at(node, lab.disk(node)) for node in FOUR}
