"""Servers shared with other sites and partners, and places that a rollout cannot write to: seen at the start."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from lab.machine.paths import WindowsPath
from pipelines.cli.output import write_new
from pipelines.usecases import control, runs
from pipelines.usecases.partners import family_in_use, files_for_partner
from tasks.cluster import Cluster
from tasks.ektron.certificates.family import Family
from tests.integration.generated_clusters import SITES, Shape, made
from tests.integration.one_process import Esync, families_known
from tests.integration.simulated_servers import Server, family
from workers.errors import InputRefused, Unreachable
from workers.records import Verdict

X86 = r"C:\Program Files (x86)\Ektron\CMS400v80"
CONFIGURATOR = r"Utilities\Software\SecurityConfigurator"
NAMES = ("S1", "S2", "P1")


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with families_known():
        yield


@pytest.fixture
def site() -> Iterator[Callable[..., Esync]]:
    """Makes clusters of three servers, S1 the origin."""
    alive: list[Esync] = []

    def make(*, joined: bool = False, **changes: Any) -> Esync:  # noqa: ANN401 - of the cluster
        shape = Shape("8.0", SITES[0], NAMES, 0, "all", joined=joined, wounds=((), (), ()))
        alive.append(made(shape))
        alive[-1].cluster = changed(alive[-1].cluster, **changes)
        return alive[-1]

    yield make
    for esync in alive:
        esync.close()


def changed(cluster: Cluster, **changes: Any) -> Cluster:  # noqa: ANN401 - the cluster checks them
    """The cluster with other values; those of `policy` are merged."""
    policy = {**cluster.policy.model_dump(), **changes.pop("policy", {})}
    return Cluster.model_validate({**cluster.model_dump(), **changes, "policy": policy})


def move_product(esync: Esync, to: str, *, without: str = "") -> None:
    """Moves the product's folder of S1 to another place; files whose names contain `without` are lost."""
    server = esync.servers["S1"]
    beside = server.product.edition.product_folder
    for folder in (CONFIGURATOR, r"Utilities\EWSUpdates\3.0"):
        old, new = beside.below(folder), WindowsPath.of(to).below(folder)
        server.disk.make_folder(new)
        for name in server.disk.names(old):
            if not without or without not in name:
                server.disk.put(new.child(name), server.disk.read(old.child(name)))
            server.disk.remove(old.child(name))
        server.disk.remove(old)
    server.journal.clear()


class _Answering(dict[str, Server]):
    """The servers that answer."""

    def __missing__(self, name: str) -> Server:
        raise Unreachable(f"{name} does not answer")


def untouched(esync: Esync) -> bool:
    """Whether nothing was written on any server."""
    return not any(server.journal for server in esync.servers.values())


@pytest.mark.parametrize("to", [X86, r"C:\Programme\Ektron\CMS400v80"])
def test_a_product_in_another_root_than_its_service_is_found(site: Callable[..., Esync], to: str) -> None:
    """The six files are taken from there, and the EWSUpdates copy is edited there; a second plan is empty."""
    esync = site()
    if to != X86:  # as Windows was installed, in another language
        esync.servers["S1"].set_value(
            r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion", "ProgramFilesDir", r"C:\Programme"
        )
    move_product(esync, to)
    assert Verdict.JOINED is esync.rollout().record.verdict
    folder = WindowsPath.of(to).below(CONFIGURATOR)
    assert {f"{name}_SyncClient.pfx" for name in NAMES} <= set(esync.servers["S1"].disk.names(folder))
    assert Verdict.NOTHING_TO_DO is esync.rollout(kind="plan").record.verdict


@pytest.mark.parametrize("kind", ["rollout", "doctor"])
def test_a_product_that_is_nowhere_is_a_path_to_be_set_and_nothing_to_be_generated(
    site: Callable[..., Esync], kind: str
) -> None:
    """Even where certificates may be generated: refused before anything is written, with the folder and the setting."""
    esync = site(policy={"generate_certificates": True})
    move_product(esync, r"C:\Elsewhere\CMS400v80")
    record = esync.rollout(kind=kind).record
    assert Verdict.REFUTED is record.verdict
    assert CONFIGURATOR in record.summary
    assert "Generate Certificates" not in record.summary
    if kind == "rollout":
        assert "site.product_folder" in record.summary
    assert untouched(esync)


def test_the_gate_names_the_folders_that_were_looked_at(site: Callable[..., Esync]) -> None:
    """Where the Security Configurator is there and its files are not, it is opened; another folder can be set."""
    esync = site()
    move_product(esync, X86, without="_Sync")
    told = esync.rollout().record.summary
    assert "choose Generate Certificates" in told
    assert rf"{X86}\{CONFIGURATOR}" in told
    assert "site.product_folder" in told
    assert untouched(esync)


@pytest.mark.parametrize(
    "denied",
    [SITES[0], r"C:\Program Files\Ektron\EktronWindowsService30", r"C:\ProgramData", rf"{SITES[0]}\web.config"],
)
@pytest.mark.parametrize("kind", ["rollout", "doctor"])
def test_a_place_without_the_right_to_write_stops_before_the_first_write(
    site: Callable[..., Esync], denied: str, kind: str
) -> None:
    """The finding names the server and the place; the other servers are untouched."""
    esync = site()
    esync.servers["P1"].disk.denied = frozenset({WindowsPath.of(denied)})
    record = esync.rollout(kind=kind).record
    assert Verdict.REFUTED is record.verdict
    assert f"P1: the account may not write to {denied}" in record.summary
    assert untouched(esync)


def test_a_folder_that_cannot_be_made_stops_before_the_first_write(site: Callable[..., Esync]) -> None:
    """The staging folder is missing, and the account may create no folder in the root of the drive."""
    esync = site()
    esync.servers["P1"].disk.denied = frozenset({WindowsPath.of("C:\\")})
    record = esync.rollout().record
    assert Verdict.REFUTED is record.verdict
    assert "P1: " in record.summary
    assert r"the account may not create C:\Ektron Security Certificates in C:\ " in record.summary + " "
    assert untouched(esync)


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize(
    "file",
    [
        r"C:\Program Files\Ektron\EktronWindowsService30\S2_SyncServer.pvk",
        rf"{SITES[0]}\P1_SyncClient.cer",
        r"C:\Ektron Security Certificates\P1_SyncServer.pfx",
    ],
)
def test_a_certificate_file_that_cannot_be_replaced_stops_before_the_first_write(
    site: Callable[..., Esync], file: str, *, readonly: bool
) -> None:
    """Read-only, or denied by its access list: the plan already says so. A file that is right may be either."""
    esync = site(joined=True)
    server, path = esync.servers["P1"], WindowsPath.of(file)
    if readonly:
        server.disk.set_readonly(path)
    else:
        server.disk.denied = frozenset({path})
    server.journal.clear()
    assert Verdict.JOINED is esync.rollout().record.verdict
    esync.servers["S1"].configure(1)
    for one in esync.servers.values():
        one.journal.clear()
    for kind in ("plan", "rollout"):
        record = esync.rollout(kind=kind).record
        assert Verdict.FAILED is record.verdict, record.summary
        assert f"P1: the account may not replace {file}; remove the read-only attribute" in record.summary
        assert "Nothing was written anywhere" in record.summary
    assert untouched(esync)


def serve_also(esync: Esync, folder: str) -> None:
    """The service of every server also serves another site."""
    for server in esync.servers.values():
        path = server.product.service_folder.child("sitedb.config")
        entry = f'<add name="intranet" connectionstring="x" active="1" physicalpath="{folder}" />'
        data = server.disk.read(path).replace(b"</siteDbStrings>", f"{entry}</siteDbStrings>".encode())
        server.disk.put(path, data)
        server.journal.clear()


def hand_out_another_family(esync: Esync, origin: str = "S2") -> None:
    """Another server generated certificates and is the origin of this cluster file."""
    esync.servers[origin].configure(1)
    esync.cluster = changed(esync.cluster, origin=origin)
    esync.servers[origin].journal.clear()


@pytest.mark.parametrize("kind", ["rollout", "plan", "doctor"])
def test_the_family_of_another_site_is_not_replaced(site: Callable[..., Esync], kind: str) -> None:
    """Both sites have one service and one key list: the second is refused, told whose they are, and can use them."""
    esync = site(joined=True)
    serve_also(esync, r"D:\sites\intranet")
    hand_out_another_family(esync)
    record = esync.rollout(kind=kind).record
    assert Verdict.REFUTED is record.verdict
    assert r"intranet (D:\sites\intranet)" in record.summary
    assert untouched(esync)
    esync.cluster = changed(esync.cluster, origin="S1")
    assert Verdict.JOINED is esync.rollout().record.verdict


def test_a_family_is_not_replaced_while_a_server_does_not_answer(site: Callable[..., Esync]) -> None:
    """A plan says who would be cut off; a rollout stops; with `continue` it continues."""
    esync = site(joined=True)
    hand_out_another_family(esync)
    silent = esync.servers.pop("P1")
    esync.servers = _Answering(esync.servers)
    esync.crew = type(esync.crew)(esync._worker)  # a new worker, which has no open session with it
    known = esync.rollout(kind="plan")
    assert known.plan is not None
    assert "P1 did not answer" in known.plan.notes[0]
    record = esync.rollout().record
    assert Verdict.UNREACHABLE is record.verdict
    assert "P1 and S1, S2" in record.summary
    assert untouched(esync)
    esync.cluster = changed(esync.cluster, policy={"unreachable": "continue"})
    assert Verdict.UNREACHABLE is esync.rollout().record.verdict
    assert not untouched(esync)
    esync.servers["P1"] = silent


def test_a_saved_plan_hands_out_the_family_that_it_generated(site: Callable[..., Esync]) -> None:
    """The certificates are sealed in the store, and none of them is in the plan."""
    esync = site(policy={"generate_certificates": True})
    folder = esync.servers["S1"].product.edition.configurator_folder
    for name in [name for name in esync.servers["S1"].disk.names(folder) if "_Sync" in name]:
        esync.servers["S1"].disk.remove(folder.child(name))
    planned = esync.rollout(kind="plan")
    assert Verdict.CHANGES_PENDING is planned.record.verdict
    saved = runs.saved_plan(esync.engine, planned.record.id)
    assert "PRIVATE" not in saved.model_dump_json()
    done = esync.rollout(plan=saved)
    assert Verdict.JOINED is done.record.verdict
    assert done.plan is not None
    assert saved.plan.family == done.plan.family


def test_the_retry_of_a_run_that_changed_nothing_replaces_no_newer_family(site: Callable[..., Esync]) -> None:
    """The servers were joined with another family after the plan was made: it is stale, and its retry changes nothing.

    After a run that has changed a server, the same certificates go to the others, through any number of retries.
    """
    esync = site(policy={"generate_certificates": True})
    folder = esync.servers["S1"].product.edition.configurator_folder
    for name in [name for name in esync.servers["S1"].disk.names(folder) if "_Sync" in name]:
        esync.servers["S1"].disk.remove(folder.child(name))
    saved = runs.saved_plan(esync.engine, esync.rollout(kind="plan").record.id)
    joined = esync.rollout()
    assert joined.plan is not None
    assert saved.plan.family != joined.plan.family
    stale = esync.rollout(plan=saved)
    assert Verdict.STALE is stale.record.verdict
    again = esync.ended(control.retry(esync.engine, stale.record.id))
    assert (Verdict.JOINED, True) == (again.record.verdict, again.plan is not None and again.plan.empty)
    assert again.plan is not None
    assert joined.plan.family == again.plan.family


def test_a_partner_gets_the_family_under_its_own_name(site: Callable[..., Esync], tmp_path: Path) -> None:
    """Six files that belong together, the keys of all servers; for their owner only; nothing is replaced."""
    esync = site()
    with pytest.raises(InputRefused, match="no run kept here"):
        family_in_use(esync.engine, esync.cluster)
    run = esync.rollout().record.id
    esync.rollout(kind="plan")
    found, record = family_in_use(esync.engine, esync.cluster)
    assert run == record.id
    files = files_for_partner(esync.cluster, "X1", found)
    assert Family.collect("X1", files).hashes == found.hashes
    keys = ET.fromstring(files["publickCertKeys.xml"])  # noqa: S314 - written by us
    assert [f"{name}_SyncClient.cer" for name in (*NAMES, "X1")] == [entry.get("key") for entry in keys]
    assert {family(0).client.encoded} == {entry.get("encodedValue") for entry in keys}
    fully = files_for_partner(esync.cluster, "web7.corp.example", found)
    assert Family.collect("web7.corp.example", fully).hashes == found.hashes
    with pytest.raises(InputRefused, match="is a node"):
        files_for_partner(esync.cluster, "p1", found)
    written = write_new(tmp_path / "out", files)
    assert {0o600} == {path.stat().st_mode & 0o777 for path in written}
    with pytest.raises(InputRefused, match="exists already"):
        write_new(tmp_path / "out", files)


def test_a_declared_partner_has_a_key_and_files_on_every_server(site: Callable[..., Esync]) -> None:
    """A partner without files gets copies of the family; one with a certificate of its own keeps it; both stay."""
    esync = site(partners=("X1", "Y1"))
    own = family(1).client.encoded
    for server in esync.servers.values():
        config = server.product.edition.service_config
        data = server.disk.read(config)
        entry = f'<add key="Y1_SyncClient.cer" encodedValue="{own}" />\n'
        data = data.replace(b"</publickCertKeys>", f"{entry}</publickCertKeys>".encode())
        assert own.encode() in data
        server.disk.put(config, data)
        for name, content in family(1).files("Y1"):
            server.disk.put(server.product.service_folder.child(name), content)
    assert Verdict.JOINED is esync.rollout().record.verdict
    for server in esync.servers.values():
        text = server.disk.read(server.product.edition.service_config).decode("utf-8-sig")
        assert 'key="X1_SyncClient.cer"' in text
        assert f'key="Y1_SyncClient.cer" encodedValue="{own}"' in text
        folder = server.product.service_folder
        read = {name: server.disk.read(folder.child(f"{name}_SyncClient.pfx")) for name in ("S1", "X1", "Y1")}
        assert read["S1"] == read["X1"] != read["Y1"]
    assert Verdict.NOTHING_TO_DO is esync.rollout(kind="plan").record.verdict


def test_a_service_of_another_generation_that_runs_may_have_the_port(site: Callable[..., Esync]) -> None:
    """What answers on the sync port is then not known to be the service: not joined, until the other one is stopped."""
    esync = site(joined=True)
    other = esync.servers["S2"].install_service(
        "EktronWindowsServices40", "Ektron Windows Services 4.0", "C:\\other.exe"
    )
    other.request_start()
    run = esync.rollout(kind="verify")
    assert (run.record.verdict, run.findings is not None) == (Verdict.INCONCLUSIVE, True)
    assert "S2: EktronWindowsServices40 runs too" in run.record.summary
    other.request_stop()
    assert esync.rollout(kind="verify").record.verdict is Verdict.JOINED
