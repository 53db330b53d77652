"""Which servers a sync reaches: the table of the procedure as case files, and the refused questions."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        syncs=[
            Sync(start=start, direction=Direction(direction), to="".join(to)) for start, direction, *to in case["syncs"]
        ],
        pools=case.get("pools"),
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


POOLS = {"S1": "staging", "EU1": "europe", "US1": "america"}


@pytest.mark.parametrize(("to", "remedy"), [("asia", "use one of europe, america"), ("staging", "use one of europe")])
def test_the_other_end_is_another_pool(to: str, remedy: str) -> None:
    """An unknown pool, or the own one, is refused with the pools that there are."""
    sync = Sync(start="S1", direction=Direction.UPLOAD, to=to)
    with pytest.raises(Refused, match="cannot be the other end of a sync on S1") as caught:
        propagate(staging=["S1"], production=["EU1", "US1"], changed="S1", syncs=[sync], pools=POOLS)
    assert caught.value.remedy.startswith(remedy)


def test_with_several_pools_the_advice_names_them() -> None:
    """One sync reaches one other database, so each pool needs its own; the reason for an open answer says so."""
    sync = Sync(start="S1", direction=Direction.UPLOAD)
    answer = propagate(staging=["S1"], production=["EU1", "US1"], changed="S1", syncs=[sync], pools=POOLS)
    assert answer.advice.endswith("on S1, where the file was changed, to each of the pools europe, america")
    assert answer.servers[1].why.startswith("a sync is between two databases")


@given(data=st.data())
def test_no_sync_takes_a_file_away(data: st.DataObject) -> None:
    """Whatever the pools and syncs: a server keeps the file, and without a sync only the changed one has it."""
    servers = ("A", "B", "C", "D")
    pools = {name: data.draw(st.sampled_from(("x", "y", "z"))) for name in servers}
    starts = data.draw(st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from(list(Direction))), max_size=4))
    before: dict[str, Reach] = {}
    for count in range(len(starts) + 1):
        syncs = [Sync(start=start, direction=direction) for start, direction in starts[:count]]
        answer = propagate(staging=("A", "B"), production=("C", "D"), changed="A", syncs=syncs, pools=pools)
        reach = {server.server: server.reach for server in answer.servers}
        assert all(reach[name] is Reach.YES for name, was in before.items() if was is Reach.YES)
        assert all(reach[name] is not Reach.NO for name, was in before.items() if was is Reach.UNKNOWN)
        before = reach
        if not syncs:
            assert [name for name, one in reach.items() if one is Reach.YES] == ["A"]


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
