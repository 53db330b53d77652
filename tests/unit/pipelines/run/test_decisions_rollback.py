"""Which nodes a rollback and a cleanup take, and their verdicts."""

from collections.abc import Callable

import pytest

from pipelines.run import decisions_rollback as decisions
from pipelines.run.snapshot import Go, Snapshot, Stop
from tests.unit.pipelines.run.snapshots import a_cluster, a_snapshot, facts_of, numbered, outcome, turn
from workers.records import DocumentKind, Status, StepOutcome, Turn, Verdict

FOUR = numbered(4)
LOOKED = [turn("observe", FOUR)]


def run(*outcomes: StepOutcome, turns: list[Turn], only: tuple[str, ...] = ("N3", "N2", "N1")) -> Snapshot:
    """A rollback of three of four nodes of a pool. All four work."""
    return a_snapshot(a_cluster(FOUR), *outcomes, turns=turns, only=only, kind="rollback", parent="first")


def fallen(node: str, *, touched: bool = True, slug: str = "agent_failed") -> StepOutcome:
    """Of a node that failed in the first wave; by default after its restore began."""
    return outcome(node, Status.FAILED, turn="rollback", step="rollback", touched=touched, slug=slug)


def test_the_selected_nodes_take_turns() -> None:
    """In the file's order; no node twice, and none that has ended; another stage's turn is not theirs."""
    looked = [turn("canary", ["N2"]), turn("observe", ["N1", "N3"])]
    assert ["N1"] == decisions.canaries(run(turns=[]))
    assert ["N1", "N3"] == decisions.remaining(run(turns=looked[:1]))
    assert ["N1", "N2"] == decisions.to_restore(run(turns=looked))
    assert ["N3"] == decisions.to_restore(run(turns=[*looked, turn("rollback", ["N1", "N2"])]))
    failed = outcome("N3", Status.FAILED, turn="observe")
    assert ["N1", "N2"] == decisions.to_restore(run(failed, turns=looked))
    restored = [*looked, turn("rollback", ["N1", "N2"])]
    assert [] == decisions.to_restore(run(failed, turns=restored))
    assert ["N1", "N2"] == decisions.to_compare(run(failed, turns=restored))
    assert [] == decisions.to_compare(run(failed, turns=[*restored, turn("verify", ["N1", "N2"])]))
    assert Go() == decisions.always_continue(run(failed, turns=restored))


def test_half_of_a_pool_is_of_the_servers_that_work() -> None:
    """Those that were not selected count as working; one that did not answer, or fell in this run, does not."""
    cluster = a_cluster(FOUR)
    seen = {DocumentKind.OBSERVED: {node: facts for node, facts in facts_of(cluster).items() if node != "N1"}}
    silent = outcome("N1", Status.UNREACHABLE, turn="observe")
    assert ["N2", "N3"] == decisions.to_restore(run(turns=LOOKED, only=("N2", "N3")))
    away = a_snapshot(cluster, silent, turns=LOOKED, facts=seen, only=("N1", "N2", "N3"), kind="rollback")
    assert ["N2"] == decisions.to_restore(away)
    restored = [*LOOKED, turn("rollback", ["N1", "N2"])]
    assert ["N3", "N4"] == decisions.to_restore(run(turns=restored, only=()))
    conflict = fallen("N1", touched=False)
    assert ["N3", "N4"] == decisions.to_restore(run(conflict, turns=restored, only=()))
    fell = fallen("N1")
    assert ["N3"] == decisions.to_restore(run(fell, turns=restored, only=()))
    lost = fallen("N1", touched=False, slug="abandoned")
    assert ["N3"] == decisions.to_restore(run(lost, turns=restored, only=()))
    gone = outcome("N1", Status.UNREACHABLE, turn="rollback", step="drain")
    assert ["N3"] == decisions.to_restore(run(gone, turns=restored, only=()))


def test_a_server_that_was_down_when_last_seen_does_not_count() -> None:
    """Of one that was not selected: half of the pool is smaller, and the last one that works is left alone."""
    cluster, only = a_cluster(FOUR), ("N1", "N2", "N3")
    seen = {DocumentKind.OBSERVED: {node: facts for node, facts in facts_of(cluster).items() if node in only}}
    turns = [turn("observe", only)]

    def rolled_back(known: bool, *outcomes: StepOutcome) -> Snapshot:  # noqa: FBT001 - private
        made = a_snapshot(cluster, *outcomes, turns=turns, facts=seen, only=only, kind="rollback", parent="first")
        if known:
            made.store.put("r", DocumentKind.DOWN, DocumentKind.DOWN, '["N4"]')
        return made

    assert ["N1", "N2"] == decisions.to_restore(rolled_back(False))
    assert ["N1"] == decisions.to_restore(rolled_back(True))
    turns += [turn("rollback", ["N1"]), turn("rollback-2", ["N2"])]
    fell = (fallen("N1"), fallen("N2"))
    assert ["N3"] == decisions.to_restore(rolled_back(False, *fell))
    assert [] == decisions.to_restore(rolled_back(True, *fell))
    assert "Repair N1, N2, N4, or select N4 as well, then" in decisions.all_restored(rolled_back(True, *fell)).summary


def test_the_last_server_that_works_is_not_restarted_while_those_that_are_down_are_not_selected() -> None:
    """With them it is: they are started first. So it is if all go together."""
    cluster = a_cluster(numbered(2))

    def rolled_back(*only: str, options: tuple[str, ...] = ()) -> Snapshot:
        turns = [turn("observe", only)]
        seen = {DocumentKind.OBSERVED: {node: facts for node, facts in facts_of(cluster).items() if node in only}}
        made = a_snapshot(cluster, turns=turns, facts=seen, only=only, kind="rollback", parent="first", options=options)
        made.store.put("r", DocumentKind.DOWN, DocumentKind.DOWN, '["N1"]')
        return made

    assert [] == decisions.to_restore(rolled_back("N2"))
    assert "N2: not restored: no other server of pool" in decisions.all_restored(rolled_back("N2")).summary
    assert ["N2"] == decisions.to_restore(rolled_back("N2", options=(decisions.ALL_AT_ONCE,)))
    assert decisions.to_restore(rolled_back("N1", "N2"))


def test_of_a_pool_that_falls_server_by_server_the_last_one_is_left() -> None:
    """The wave after two failures is one server; after the third there is none, whether or not one is selected."""
    turns = [*LOOKED, turn("rollback", ["N1", "N2"])]
    fell = [fallen(node) for node in ("N1", "N2", "N3")]
    assert ["N3"] == decisions.to_restore(run(*fell[:2], turns=turns, only=()))
    turns = [*turns, turn("rollback-2", ["N3"])]
    assert [] == decisions.to_restore(run(*fell, turns=turns, only=()))
    stop = decisions.all_restored(run(*fell, turns=turns, only=()))
    assert "0 of 4 nodes are done; N4: not restored" in stop.summary
    assert "Repair N1, N2, N3, then" in stop.summary
    assert ["N4"] == decisions.to_restore(run(*fell[:2], turns=turns, only=()))


def test_restored_nodes_are_counted() -> None:
    """Nodes on which nothing had to be changed are counted apart; other stages do not count."""
    turns = [turn("observe", FOUR), turn("rollback", FOUR)]
    changed = [outcome(node, Status.CHANGED, turn="rollback", step="rollback") for node in ("N1", "N2", "N3")]
    assert Stop(Verdict.RESTORED, "3 nodes are as before run first") == decisions.all_restored(
        run(*changed, turns=turns)
    )
    some = [
        *changed[:1],
        outcome("N2", turn="rollback", step="rollback"),
        outcome("N3", Status.CHANGED, turn="observe"),
    ]
    assert Stop(Verdict.RESTORED, "3 nodes are as before run first; 2 of them needed no change") == (
        decisions.all_restored(run(*some, turns=turns))
    )
    one = run(*changed[:1], turns=turns, only=("N1",))
    assert Stop(Verdict.RESTORED, "1 node is as before run first") == decisions.all_restored(one)


def test_cleaned_nodes_are_counted() -> None:
    """With the number of those from which files were removed."""
    outcomes = [outcome("N1", Status.CHANGED), outcome("N2"), outcome("N3")]
    assert Stop(Verdict.CLEAN, "3 nodes are clean; files were removed from 1") == decisions.all_clean(
        run(*outcomes, turns=[turn("canary", FOUR)])
    )


@pytest.mark.parametrize("decide", [decisions.all_restored, decisions.all_clean])
def test_a_failed_node_outweighs_an_unreachable_one(decide: Callable[[Snapshot], Stop]) -> None:
    """Both outweigh success; a node that was not selected does not count."""
    silent = outcome("N2", Status.UNREACHABLE, message="N2: no answer")
    failed = outcome("N1", Status.FAILED, message="N1: no")
    turns = [turn("canary", FOUR), turn("rollback", FOUR)]
    assert Stop(Verdict.FAILED, "1 failed, 1 unreachable; N1: no; 1 of 3 nodes are done") == decide(
        run(silent, failed, turns=turns)
    )
    assert Stop(Verdict.UNREACHABLE, "N2 did not answer; 2 of 3 nodes are done") == decide(run(silent, turns=turns))
    other = outcome("N4", Status.FAILED, message="N4: no")
    assert decide(run(other, turns=turns)).verdict in {Verdict.RESTORED, Verdict.CLEAN}
