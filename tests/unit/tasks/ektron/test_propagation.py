"""Which servers a sync reaches: the table of the procedure as case files, and the refused questions."""

import json
from pathlib import Path

import pytest

from tasks.ektron.propagation import Direction, Reach, Sync, propagate
from tasks.ektron.refusals import Refused
from tasks.ektron.sync_exclusions import why_never_synced
from tests.places import CASE_FOLDERS

EXCLUDED = ("eWebEditPro", "help", "Explorer", "ewebdiff", "documents", "foundation", "resources", "sync")
CASES = sorted((CASE_FOLDERS / "propagation").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    """The answer for each server is that of the table, also `unknown`, with a reason."""
    case = json.loads(path.read_text(encoding="ascii"))
    answer = propagate(
        staging=case["staging"],
        production=case["production"],
        changed=case["changed"],
        syncs=[Sync(start=start, direction=Direction(direction)) for start, direction in case["syncs"]],
        unavailable=case.get("unavailable", ()),
        path=case.get("path", ""),
    )
    assert {server.server: server.reach.value for server in answer.servers} == case["expected"]
    assert all(server.why for server in answer.servers)
    if "best" in case:
        assert answer.best is not None
        assert [answer.best.start, answer.best.direction.value] == case["best"]


def test_a_cluster_without_staging_servers_is_refused() -> None:
    """Every sync starts on a staging server; the remedy says how to declare one."""
    with pytest.raises(Refused, match="no server of the cluster has the role staging") as caught:
        propagate(staging=[], production=["P1", "P2"], changed="P1", syncs=[])
    assert "role: staging" in caught.value.remedy


@pytest.mark.parametrize("syncs", [[], [Sync(start="S1", direction=Direction.UPLOAD)]])
def test_no_sync_is_advised_for_a_file_that_no_sync_copies(syncs: list[Sync]) -> None:
    """The advice is to change the file on each other server, and the reason is given with or without a sync."""
    answer = propagate(staging=["S1"], production=["P1"], changed="S1", syncs=syncs, path="web.config")
    assert answer.best is None
    assert answer.advice == "change the file on each server itself: P1"
    assert answer.servers[1].why == "no sync copies .config files; they are edited on each server"


def test_the_table_is_complete() -> None:
    """The test finds all case files."""
    assert len(CASES) >= 20


@pytest.mark.parametrize(
    ("changed", "start", "words"),
    [("X", "S1", "no server 'X'"), ("S1", "X", "no server 'X'"), ("S1", "P1", "production server")],
)
def test_impossible_questions_are_refused(changed: str, start: str, words: str) -> None:
    """Unknown servers and syncs from production are refused with a remedy."""
    with pytest.raises(Refused, match=words) as caught:
        propagate(
            staging=["S1"], production=["P1"], changed=changed, syncs=[Sync(start=start, direction=Direction.UPLOAD)]
        )
    assert caught.value.remedy


def test_cautions_fit_the_cluster() -> None:
    """There are cautions about clustered staging servers and about changes on production."""
    plain = propagate(staging=["S1"], production=["P1"], changed="S1", syncs=[])
    both = propagate(staging=["S1", "S2"], production=["P1"], changed="P1", syncs=[])
    assert len(plain.cautions) == 1
    assert len(both.cautions) == 3
    assert {answer.server for answer in both.servers} == {"S1", "S2", "P1"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("web.config", ".config files"),
        (r"bin\X.CONFIG", ".config files"),
        ("S1_SyncClient.PFX", "certificate files"),
        ("a.pvk", "certificate files"),
        ("a.cer", "certificate files"),
        (r"App_GlobalResources\a.resx", "no sync copies App_GlobalResources"),
        (r"app_webreferences\a.wsdl", "no sync copies app_webreferences"),
        *((rf"Workarea\{folder}\a.aspx", rf"no sync copies Workarea\{folder}") for folder in EXCLUDED),
        (r"WORKAREA\Sync\deep\a.aspx", r"no sync copies Workarea\Sync"),
        ("sync", ""),
        (r"Workarea\a.aspx", ""),
        (r"Workarea\sync", ""),
        (r"sync\a.aspx", ""),
        (r"other\Workarea\sync\a.aspx", ""),
        (r"other\App_GlobalResources\a.resx", ""),
        ("App_GlobalResources", ""),
        ("a.configs", ""),
        ("default.aspx", ""),
    ],
)
def test_files_that_no_sync_copies(path: str, words: str) -> None:
    """Each excluded kind and folder has its reason, its neighbours may be copied."""
    reason = why_never_synced(path)
    assert words in reason
    assert bool(words) is bool(reason)


def upload(start: str, direction: Direction = Direction.UPLOAD) -> Sync:
    """One sync."""
    return Sync(start=start, direction=direction)


@pytest.mark.parametrize(
    ("changed", "syncs", "best", "advice"),
    [
        ("S1", [upload("S1")], upload("S1"), "every server has the file"),
        ("s1", [], upload("S1"), "start an upload or bidirectional sync on S1, where the file was changed"),
        ("S2", [upload("S1", Direction.BIDIRECTIONAL)], upload("S2", Direction.BIDIRECTIONAL), "on S2, where"),
        ("S2", [upload("S1", Direction.DOWNLOAD)], upload("S2"), "on S2, where"),
        ("P1", [], upload("S1"), "make the change on a staging server, such as S1, and start the sync there"),
    ],
)
def test_the_advice_names_the_server_and_the_direction(
    changed: str, syncs: list[Sync], best: Sync, advice: str
) -> None:
    """The recommended sync starts where the change is, or on a staging server, in the wanted direction."""
    answer = propagate(staging=["S1", "S2"], production=["P1", "P2"], changed=changed, syncs=syncs)
    assert answer.best == best
    assert advice in answer.advice
    assert answer.changed == changed.upper()


def test_each_caution_has_its_condition() -> None:
    """One staging server needs no balancer, a change on staging no warning about templates."""
    one = propagate(staging=["S1"], production=["P1"], changed="S1", syncs=[])
    two = propagate(staging=["S1", "S2"], production=["P1"], changed="S1", syncs=[])
    production = propagate(staging=["S1"], production=["P1"], changed="P1", syncs=[])
    assert ["later" in caution for caution in one.cautions] == [True]
    assert "balancer" in two.cautions[1]
    assert "templates" in production.cautions[1]


def test_a_server_that_is_down_receives_nothing_but_keeps_its_own_change() -> None:
    """The changed server has the file even when it is down; the others do not receive it."""
    answer = propagate(
        staging=["S1", "S2"], production=["P1"], changed="S1", syncs=[upload("S1")], unavailable=["s1", "p1"]
    )
    assert {server.server: server.reach for server in answer.servers} == {
        "S1": Reach.YES,
        "S2": Reach.YES,
        "P1": Reach.NO,
    }
