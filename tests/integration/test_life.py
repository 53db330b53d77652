"""A cluster that lives for years: servers leave it, sites move, editions change. Judged by an independent program."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.usecases.retire import leaving, options_of
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tasks.documents import PRUNE
from tasks.ektron.rules.findings import InvariantState, Severity
from tests.connections import as_loaded, connections, expected, private_keys, server_at
from tests.integration.harness import FOUR, SITE, Harness, cluster_of, four_servers, on_disk
from tests.integration.test_rollback import disks, rolled_back
from tests.sampling import in_turn
from workers.records import Verdict

pytestmark = pytest.mark.integration

STAY = ("S1", "S2", "P1")
SERVICE = r"C:\Program Files\Ektron\EktronWindowsService30"
CONFIG = rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def changed(cluster: Cluster, **fields: object) -> Cluster:
    """The cluster after an edit of its file."""
    return Cluster.model_validate(cluster.model_dump() | fields)


def without(cluster: Cluster, *names: str, partners: Sequence[str] = ()) -> Cluster:
    """The cluster after servers were removed from its file."""
    nodes = tuple(node for node in cluster.nodes if node.name not in names)
    return changed(cluster, nodes=[node.model_dump() for node in nodes], partners=partners)


def reachable(lab: LabProcess, *, by_value: bool = False) -> set[tuple[str, str]]:
    """Which server can connect to which: by their disks, with what each running service has in memory."""
    servers = [as_loaded(server_at(name, lab.disk(name)), lab.sync_port(name)) for name in FOUR]
    on_disks = [server_at(name, lab.disk(name)) for name in FOUR]
    now = connections(servers, by_value=by_value)
    assert now == connections(on_disks, by_value=by_value), "a service runs with other files than it has"
    return now


def joined(harness: Harness, cluster: Cluster, **request: object) -> RunSummary:
    """A rollout that ends well."""
    run = harness.rollout(cluster, **request)
    assert run.record.verdict is Verdict.JOINED, run.record.summary
    return run


def test_a_removed_server_is_found_and_pruned(harness: Harness, lab: LabProcess) -> None:
    """Its keys and files are a warning until they are pruned, with backups; then it can connect to no node."""
    cluster = cluster_of(lab)
    joined(harness, cluster)
    assert reachable(lab) == expected(FOUR)
    left = without(cluster, "P2")

    before = disks(lab)
    found = joined(harness, left)
    assert before == disks(lab)
    assert found.plan is not None
    assert found.plan.empty
    assert found.plan.leftovers == 3 * (1 + 6) + 1 + 6
    assert found.findings is not None
    finding = found.findings.of("leftovers.removed-node")
    assert (finding.verdict, finding.severity) == (InvariantState.REFUTED, Severity.WARNING)
    assert "P2" in finding.evidence
    assert "partners:" in finding.remedy

    planned = harness.rollout(left, kind="plan", options=(PRUNE,))
    assert planned.record.verdict is Verdict.CHANGES_PENDING
    assert before == disks(lab)
    starts = {node: lab.report(node)["service"]["starts"] for node in FOUR}
    pruned = joined(harness, left, options=(PRUNE,))
    assert {node: count + (node != "P2") for node, count in starts.items()} == {
        node: lab.report(node)["service"]["starts"] for node in FOUR
    }
    assert reachable(lab) == expected(STAY)
    assert pruned.findings is not None
    assert pruned.findings.of("leftovers.removed-node").verdict is InvariantState.PROVEN
    for node in STAY:
        assert [] == [key for key in private_keys(lab.disk(node)) if "/P2_" in key]
        assert b"P2_Sync" not in on_disk(lab, node, CONFIG).read_bytes()
    again = joined(harness, left, options=(PRUNE,))
    assert again.plan is not None
    assert again.plan.empty

    undone = rolled_back(harness, pruned.record.id)
    assert undone.record.verdict is Verdict.RESTORED, undone.record.summary
    assert before == disks(lab)
    assert reachable(lab) == expected(FOUR)


def test_a_retired_server_and_the_others_refuse_each_other(harness: Harness, lab: LabProcess) -> None:
    """After retire and prune no connection with it is possible, not even by the value of a certificate."""
    cluster = cluster_of(lab)
    joined(harness, cluster)
    before = disks(lab)
    whole, name = leaving(cluster, "p2")
    request = {"only": (name,), "options": options_of(force=False)}
    plan = harness.rollout(whole, kind="retire-plan", **request)
    assert plan.record.verdict is Verdict.CHANGES_PENDING, plan.record.summary
    assert before == disks(lab)
    done = harness.rollout(whole, kind="retire", **request)
    assert done.record.verdict is Verdict.RETIRED, done.record.summary
    assert disks(lab, *STAY) == {node: before[node] for node in STAY}
    assert reachable(lab) == expected(STAY)
    assert reachable(lab, by_value=True) == expected(STAY)
    assert private_keys(lab.disk("P2")) == set()
    again = harness.rollout(whole, kind="retire", **request)
    assert again.record.verdict is Verdict.RETIRED
    assert again.plan is not None
    assert again.plan.empty

    joined(harness, without(cluster, "P2"), options=(PRUNE,))
    assert reachable(lab) == expected(STAY)
    undone = rolled_back(harness, done.record.id)
    assert undone.record.verdict is Verdict.RESTORED, undone.record.summary
    assert before["P2"] == disks(lab, "P2")["P2"]


def test_a_server_that_was_switched_off_is_retired_as_it_is(harness: Harness, lab: LabProcess) -> None:
    """Its service is stopped and disabled: it loses its rights, and nothing starts it."""
    cluster = cluster_of(lab)
    joined(harness, cluster)
    whole, name = leaving(cluster, "p2")
    lab.agent("P2", {"op": "service", "name": "EktronWindowsServices30", "action": "stop"})
    lab.break_node("P2", service={"disabled": True})
    starts = lab.report("P2")["service"]["starts"]
    done = harness.rollout(whole, kind="retire", only=(name,), options=options_of(force=False))
    assert done.record.verdict is Verdict.RETIRED, done.record.summary
    assert "its service is stopped" in done.record.summary
    assert (private_keys(lab.disk("P2")), lab.report("P2")["service"]["starts"]) == (set(), starts)


def test_the_old_key_of_a_removed_server_is_an_error_after_a_renewal(harness: Harness, lab: LabProcess) -> None:
    """A new family leaves the removed server's key as it is: an error, until it is pruned."""
    cluster = cluster_of(lab)
    joined(harness, cluster)
    left = without(cluster, "P2")
    lab.run_configurator("S1")
    renewed = harness.rollout(left)
    assert renewed.record.verdict is Verdict.REFUTED
    assert renewed.findings is not None
    finding = renewed.findings.of("leftovers.removed-node")
    assert (finding.severity, finding.nodes) == (Severity.ERROR, STAY)
    assert "P2, with a certificate that is not the family's" in finding.evidence
    assert "leftovers.removed-node" in renewed.record.summary
    joined(harness, left, options=(PRUNE,))
    assert reachable(lab) == expected(STAY)
    assert reachable(lab, by_value=True) == expected(STAY)


def test_declared_partners_are_left_alone(harness: Harness, lab: LabProcess) -> None:
    """Keys and files of a partner are no leftovers and are not pruned; undeclared they look like a removed server."""
    cluster = cluster_of(lab)
    joined(harness, cluster)
    partly = without(cluster, "P2", partners=["p2"])
    before = disks(lab)
    pruned = joined(harness, partly, options=(PRUNE,))
    assert pruned.plan is not None
    assert pruned.plan.empty
    assert before == disks(lab)
    assert pruned.findings is not None
    assert pruned.findings.of("leftovers.removed-node").verdict is InvariantState.PROVEN
    assert expected(STAY, ["P2"]) <= reachable(lab)


NEW_SITE = r"C:\inetpub\sites\shop"


def moved(lab: LabProcess, *, listed: bool) -> None:
    """An operator copies each site to another folder; the service's list of sites has it only if `listed`."""
    for node in FOUR:
        old, new = on_disk(lab, node, SITE), on_disk(lab, node, NEW_SITE)
        shutil.copytree(old, new)
        sitedb = on_disk(lab, node, rf"{SERVICE}\sitedb.config")
        if listed:
            sitedb.write_text(sitedb.read_text().replace(SITE, NEW_SITE))


@pytest.mark.parametrize(
    "listed",
    [pytest.param(bool(at), marks=in_turn(at, 2, "sites that were moved")) for at in range(2)],
    ids=["unlisted", "listed"],
)
def test_a_moved_site_leaves_no_private_keys(harness: Harness, lab: LabProcess, *, listed: bool) -> None:
    """The files in the folder where an earlier run found the site are reported with their path, and pruned."""
    cluster = cluster_of(lab)
    joined(harness, cluster)
    moved(lab, listed=listed)
    new = changed(cluster, site=cluster.site.model_dump() | {"path": NEW_SITE})
    found = harness.rollout(new)
    assert found.findings is not None
    finding = found.findings.of("leftovers.old-places")
    assert (finding.verdict, finding.severity, finding.nodes) == (InvariantState.REFUTED, Severity.WARNING, FOUR)
    assert SITE in finding.evidence
    assert "3 certificate files" in finding.evidence
    assert found.plan is not None
    assert found.plan.leftovers == 4 * 3
    before = disks(lab)
    pruned = harness.rollout(new, options=(PRUNE,))
    assert pruned.findings is not None
    assert pruned.findings.of("leftovers.old-places").verdict is InvariantState.PROVEN
    if listed:  # the judge finds the site in the service's list
        assert reachable(lab) == expected(FOUR)
    old = SITE.removeprefix("C:\\").replace("\\", "/")
    for node in FOUR:
        assert not [key for key in private_keys(lab.disk(node)) if key.startswith(old)]
        assert on_disk(lab, node, rf"{SITE}\web.config").exists()
    undone = rolled_back(harness, pruned.record.id)
    assert undone.record.verdict is Verdict.RESTORED, undone.record.summary
    assert before == disks(lab)
    again = rolled_back(harness, undone.record.id)
    assert again.record.verdict is Verdict.RESTORED, again.record.summary
    assert not [key for key in private_keys(lab.disk("S1")) if key.startswith(old)]


def test_a_junction_that_leads_to_the_site_is_no_old_place(harness: Harness, lab: LabProcess) -> None:
    """The site was moved and a junction left at its old path: its files are those in use, and a prune leaves them."""
    cluster = cluster_of(lab)
    joined(harness, cluster)
    for node in FOUR:
        old, new = on_disk(lab, node, SITE), on_disk(lab, node, NEW_SITE)
        new.parent.mkdir()
        old.rename(new)
        old.symlink_to(new)
        for file in new.glob("*_SyncClient.*"):
            file.touch()  # the lab knows the change times of what it wrote by the path that it had then
    run = joined(harness, changed(cluster, site=cluster.site.model_dump() | {"path": NEW_SITE}), options=(PRUNE,))
    assert run.findings is not None
    assert run.findings.of("leftovers.old-places").verdict is InvariantState.PROVEN
    assert run.plan is not None
    assert not any(part.changes for part in run.plan.nodes)


def test_a_service_folder_that_the_service_has_left_is_refused(harness: Harness, lab: LabProcess) -> None:
    """The cluster file names a copy of it: nothing is written there, and nothing in the living folder is pruned."""
    cluster, copy = cluster_of(lab), r"C:\Ektron\EktronWindowsService30"
    joined(harness, cluster)
    for node in FOUR:
        shutil.copytree(on_disk(lab, node, SERVICE), on_disk(lab, node, copy))
    product = r"C:\Program Files\Ektron\CMS400v80"
    named = changed(cluster, site={**cluster.site.model_dump(), "service_folder": copy, "product_folder": product})
    before = disks(lab)
    for request in ({"kind": "verify"}, {"options": (PRUNE,)}):
        run = harness.rollout(named, **request)
        assert run.record.verdict in {Verdict.REFUTED, Verdict.STOPPED}, run.record.summary
        assert run.findings is not None
        assert run.findings.of("service.runs-from-folder").nodes == FOUR
        assert "leftovers.old-places" not in {f.invariant for f in run.findings.refuted_warnings}
    assert before == disks(lab)


def test_another_living_site_is_no_leftover(harness: Harness, lab: LabProcess) -> None:
    """A second site of the service, in a folder that an earlier run of the cluster knew, keeps its files."""
    cluster = cluster_of(lab)
    joined(harness, cluster)
    moved(lab, listed=False)
    for node in FOUR:
        sitedb = on_disk(lab, node, rf"{SERVICE}\sitedb.config")
        entry = next(line for line in sitedb.read_text().split("<add ")[1:])
        both = f"<add {entry}".replace("</siteDbStrings>", "").strip()
        second = both.replace(SITE, NEW_SITE).replace('name="CMS400"', 'name="shop"')
        sitedb.write_text(sitedb.read_text().replace("</siteDbStrings>", f"{second}\n</siteDbStrings>"))
    new = changed(cluster, site=cluster.site.model_dump() | {"path": NEW_SITE})
    run = harness.rollout(new, options=(PRUNE,))
    assert run.findings is not None
    assert run.findings.of("leftovers.old-places").verdict is InvariantState.PROVEN
    assert on_disk(lab, "S1", rf"{SITE}\S1_SyncClient.pfx").exists()
    whole, name = leaving(new, "P2")
    refused = harness.rollout(whole, kind="retire", only=(name,), options=options_of(force=False))
    assert refused.record.verdict is Verdict.STOPPED
    assert f"CMS400 ({SITE})" in refused.record.summary


def test_an_upgrade_leaves_no_private_keys(harness: Harness, tmp_path: Path) -> None:
    """The key files of edition 8.0 in its service folder and its configurator are reported, and pruned."""
    with four_servers(tmp_path / "old", edition="8.0") as old:
        joined(harness, cluster_of(old))
        ektron = {node: on_disk(old, node, r"C:\Program Files\Ektron") for node in FOUR}
        for node, folder in ektron.items():
            shutil.copytree(folder, tmp_path / "kept" / node)
    with four_servers(tmp_path / "new", edition="8.5") as lab:
        for node in FOUR:
            shutil.copytree(tmp_path / "kept" / node, on_disk(lab, node, r"C:\Program Files\Ektron"))
        cluster = cluster_of(lab)
        found = joined(harness, cluster)
        assert found.findings is not None
        finding = found.findings.of("leftovers.old-places")
        assert finding.verdict is InvariantState.REFUTED
        assert rf"{SERVICE} holds 24 certificate files" in finding.reasons["P1"]
        assert r"CMS400v80\Utilities\Software\SecurityConfigurator holds 24" in finding.reasons["S1"]
        assert [] != [key for key in private_keys(lab.disk("P1")) if "WindowsService30" in key]
        pruned = joined(harness, cluster, options=(PRUNE,))
        assert pruned.findings is not None
        assert pruned.findings.of("leftovers.old-places").verdict is InvariantState.PROVEN
        for node in FOUR:
            kept = private_keys(lab.disk(node))
            assert [] == [key for key in kept if "WindowsService30" in key or "CMS400v80" in key]
        assert reachable(lab) == expected(FOUR)
