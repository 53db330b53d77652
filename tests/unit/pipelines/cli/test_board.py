"""The view of many runs: a line a cluster, failures first; and the tables at the end."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.cli.board import Board, StoredRows, draw, show_board
from pipelines.cli.files import are_many, load_all, refuse_for_many
from pipelines.cli.group import what_continues
from pipelines.coordinator import begin
from pipelines.local.provided import Running
from pipelines.report.many import ClusterResult, result_lines, titles, totals
from pipelines.usecases import control
from pipelines.usecases.listing import newest_runs, runs_of_group
from tasks.steering import hold_before
from tests.unit.pipelines.cli.test_cli import CLUSTER
from tests.unit.pipelines.test_groups import Office, cluster, started
from workers.errors import InputRefused, StoreUnavailable
from workers.records import RunState, Verdict, now


def console(*, terminal: bool = False, height: int = 24, width: int = 80) -> Console:
    """Writes into a text."""
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=height, color_system=None)


def shown(screen: Console) -> list[str]:
    """What was written."""
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().splitlines()


def group(office: Office, count: int, at_most: int) -> tuple[Board, list[str]]:
    """A board of a new group whose first runs have begun."""
    runs = started(office.engine, [cluster(number) for number in range(count)], at_most)
    board = Board(StoredRows(office.store), [office.store.run(run) for run in runs])
    for run in office.begins():
        begin(office.engine, run)
    return board, runs


def picture(board: Board, height: int = 24, width: int = 80) -> list[str]:
    """The picture as lines."""
    screen = console(height=height, width=width)
    screen.print(draw(board, screen, now(), ""))
    return shown(screen)


def test_failures_come_first_and_those_that_wait_last() -> None:
    """What ended badly, what waits for a person, what works, what waits for its turn; the numbers in the headline."""
    office = Office()
    board, runs = group(office, 5, 3)
    control.pause(office.engine, runs[2], "lunch")
    office.conclude(runs[1])
    board.look()
    headline, header, *lines = picture(board)
    assert headline.startswith("5 clusters: 1 cancelled, 1 paused, 2 running, 1 waiting")
    assert header.split() == ["cluster", "state"]
    assert [line.split()[:2] for line in lines] == [
        ["shop-1", "cancelled"], ["shop-2", "paused"], ["shop-0", "canary"], ["shop-3", "beginning"],
        ["shop-4", "waiting"],
    ]  # fmt: skip


def test_the_command_for_a_held_run_is_whole_on_a_narrow_terminal() -> None:
    """It is below its run; what waits behind it says for what."""
    office = Office()
    board, runs = group(office, 2, 1)
    hold_before(office.store, runs[0], "wave-2")
    board.look()
    assert picture(board, width=60)[2:] == [
        "shop-0   held before wave-2",
        f"    esync promote {runs[0]}",
        "shop-1   waiting             until one before it ends",
    ]


def test_a_held_run_that_begins_by_itself_says_when() -> None:
    """The command comes last: it is copied."""
    office = Office()
    policy = cluster(0).policy.model_copy(update={"hold": "after-canary", "hold_for": 600.0})
    runs = started(office.engine, [cluster(0).model_copy(update={"policy": policy}), cluster(1)], 2)
    board = Board(StoredRows(office.store), [office.store.run(run) for run in runs])
    hold_before(office.store, runs[0], "wave-2")
    board.look()
    row = board.rows[runs[0]]
    assert f"begins by itself after 600 s (policy.hold_for); or now: esync promote {runs[0]}" == row.remark
    hold_before(office.store, runs[0], "wave-1", approval=True)
    board.look()
    assert f"esync approve {runs[0]}" == board.rows[runs[0]].remark


def test_a_run_that_may_begin_does_not_wait_for_another() -> None:
    """Only those wait whose turn has not come; the first may have no worker that takes it."""
    office = Office()
    runs = started(office.engine, [cluster(0), cluster(1)], 1)
    board = Board(StoredRows(office.store), [office.store.run(run) for run in runs])
    board.look()
    assert picture(board)[2:] == ["shop-0   beginning", "shop-1   waiting    until one before it ends"]


def test_a_run_that_waits_for_servers_of_another_says_so() -> None:
    """It has its turn, and does not begin; what only looks does not wait."""
    office = Office()
    shared = cluster(0).model_copy(update={"name": "other"})
    for kind, state in (("rollout", "waiting    until shop-0 ends, which has servers of it"), ("verify", "beginning")):
        runs = started(office.engine, [cluster(0), shared], 2, kind)
        board = Board(StoredRows(office.store), [office.store.run(run) for run in runs])
        board.look()
        assert f"other    {state}" == picture(board)[3].rstrip()
        assert ("1 waiting" in picture(board)[0]) == (kind == "rollout")
    office.conclude(board.ranked[0].record.id)


def test_what_has_no_room_is_counted() -> None:
    """On a small terminal."""
    board, _ = group(Office(), 9, 1)
    assert picture(board, height=10)[-1] == "and 3 more"


def test_without_a_terminal_a_run_has_a_line_when_it_begins_and_when_it_ends() -> None:
    """And what keeps workers from working is said once; a store that does not answer is waited for."""
    office = Office()
    board, runs = group(office, 2, 1)
    said = iter(["no worker answers"] * 2)
    rounds = iter(range(100))

    def trouble() -> str:
        number = next(rounds)
        if number == 1:
            raise StoreUnavailable("away")
        if number > 2 and (going := office.running()):
            office.conclude(going[0].id)
            for run in office.begins():
                begin(office.engine, run)
        return next(said, "")

    screen = console()
    show_board(board, screen, trouble, interval=0)
    lines = [line.split(" s  ")[-1] for line in shown(screen)]
    first, *_, last = [line for line in lines if line.startswith("shop-")]
    assert first == f"shop-0  canary  {runs[0]}"
    assert last.startswith("shop-1  cancelled: enough")
    assert lines.count("no worker answers") == 1


def test_without_a_terminal_runs_that_have_ended_before_are_said_first() -> None:
    """A command that follows them says what it already knows."""
    office = Office()
    board, runs = group(office, 2, 2)
    office.conclude(runs[1])
    board = Board(StoredRows(office.store), [office.store.run(run) for run in runs])
    screen = console()

    def trouble() -> str:
        office.conclude(runs[0])
        return ""

    show_board(board, screen, trouble, interval=0)
    assert [line.split(" s  ")[-1].split("  ")[0] for line in shown(screen)] == ["shop-1", "shop-0"]


def test_without_a_terminal_a_run_that_is_held_says_what_to_do() -> None:
    """A log that is read later has the command."""
    office = Office()
    board, runs = group(office, 1, 1)
    moves: Iterator[Callable[[], object]] = iter(
        [lambda: None, lambda: hold_before(office.store, runs[0], "wave-2"), lambda: office.conclude(runs[0])]
    )

    def trouble() -> str:
        next(moves)()
        return ""

    screen = console()
    show_board(board, screen, trouble, interval=0)
    assert [line.split(" s  ")[-1] for line in shown(screen)] == [
        f"shop-0  canary  {runs[0]}",
        f"shop-0  held before wave-2: esync promote {runs[0]}",
        "shop-0  cancelled: enough",
    ]


def test_a_command_that_ends_counts_only_the_runs_that_have_not_ended() -> None:
    """And it names their group."""
    office = Office()
    _, runs = group(office, 3, 3)
    records = [office.store.run(run) for run in runs]
    services, ours = Running(office.engine), runs[0].rpartition("-")[2][:8]
    assert "This command stops; its 3 runs continue, in their order.\n" in what_continues(services, records)
    office.conclude(runs[1])
    said = what_continues(services, records, ["shop-9"])
    assert "its 2 runs continue, in their order (1 of 3 have ended).\n" in said
    assert f"esync watch {ours}; to stop them: esync cancel {ours}\n" in said
    assert "never started: shop-9\nTo continue all of them: the same command again" in said
    office.conclude(runs[0])
    assert "its 1 run continues (2 of 3 have ended)." in what_continues(services, records)
    office.conclude(runs[2])
    assert what_continues(services, records) == "\nThis command stops; its 3 runs have ended."
    office.store.forget(runs[0])
    lost = "This command stops; its 2 runs have ended.\nThe run store has lost 1 run of this command."
    assert what_continues(services, records) == f"\n{lost}"


def test_the_newest_run_of_each_cluster_is_found_and_that_of_a_group() -> None:
    """In the order that was asked; one without a run has none, and a run that was refused for a lock does not count."""
    office = Office()
    old = started(office.engine, [cluster(0), cluster(1)], 2)
    new = started(office.engine, [cluster(1)], 1)
    locked = office.store.run(started(office.engine, [cluster(0)], 1)[0])
    office.store.save(locked.model_copy(update={"verdict": Verdict.LOCKED, "state": RunState.CONCLUDED}))
    found = newest_runs(office.store, [cluster(1), cluster(2), cluster(0)], lambda _: None)
    assert [one and one.id for one in found] == [new[0], None, old[0]]
    assert runs_of_group(office.store, old[0].rpartition("-")[2][:8]) == old
    assert runs_of_group(office.store, "00000000") == []


def test_clusters_of_one_name_are_told_apart_by_their_files() -> None:
    """In the view and in the tables."""
    called = titles([("a.yaml", "shop"), ("b.yaml", "blog"), ("c.yaml", "shop")])
    assert called == {"a.yaml": "shop (a.yaml)", "b.yaml": "blog", "c.yaml": "shop (c.yaml)"}
    office = Office()
    _, runs = group(office, 2, 1)
    board = Board(StoredRows(office.store), [office.store.run(run) for run in runs], {runs[0]: "shop (a.yaml)"})
    assert [line.split("  ")[0] for line in picture(board)[2:]] == ["shop (a.yaml)", "shop-1"]
    twins = [result(name, Verdict.JOINED).model_copy(update={"cluster": "shop"}) for name in ("a.yaml", "c.yaml")]
    assert [line.split("  ")[0] for line in result_lines(twins)] == ["CLUSTER", "shop (a.yaml)", "shop (c.yaml)"]


def test_a_run_that_waits_for_a_person_hides_no_other_that_waits_for_a_worker() -> None:
    """The runs that need workers: those that work, and the first that has not begun."""
    office = Office()
    board, runs = group(office, 4, 3)
    control.pause(office.engine, runs[0], "lunch")
    board.look()
    assert [record.id for record in board.at_work] == [runs[1], runs[2], runs[3]]
    office.conclude(runs[1])
    office.conclude(runs[2])
    board.look()
    assert [record.id for record in board.at_work] == [runs[3]]


def result(name: str, verdict: Verdict | None) -> ClusterResult:
    """The result of a cluster."""
    return ClusterResult(
        file=name, cluster=name, run=f"run-{name}", verdict=verdict, exit_code=0, summary=f"why {name}"
    )


def test_the_worst_result_is_the_first_line() -> None:
    """What is wrong on servers comes before what is unknown, before what was not done, before the good."""
    verdicts: Sequence[Verdict | None] = (Verdict.JOINED, None, Verdict.FAILED, Verdict.LOCKED, Verdict.REFUTED)
    results = [result(f"c{number}", verdict) for number, verdict in enumerate(verdicts)]
    assert [line.split()[0] for line in result_lines(results)] == ["CLUSTER", "c2", "c4", "c1", "c3", "c0"]
    assert totals(results) == "5 clusters: 1 failed, 1 refuted, 1 no result, 1 locked, 1 joined"
    assert set(Verdict.worst_first()) == set(Verdict)


def test_what_has_no_room_in_a_row_is_below_it() -> None:
    """On a narrow terminal, in two lines at most; a run that was named has the name of its cluster."""
    why = "the first wave did not succeed, so 2 nodes of later waves were not touched: P1 failed: its disk is full"
    results = [
        result(name, Verdict.STOPPED).model_copy(update={"file": "", "summary": text})
        for name, text in (("east", why), ("west", "short"))
    ]
    assert list(result_lines(results, 40)) == [
        "CLUSTER  RUN       RESULT   WHY",
        "east     run-east  stopped",
        "    the first wave did not succeed, so 2",
        "    nodes of later waves were not ...",
        "west     run-west  stopped  short",
    ]
    assert list(result_lines(results))[1] == f"east     run-east  stopped  {why}"


def test_a_folder_is_a_list_even_with_one_file(tmp_path: Path) -> None:
    """A file alone is not. A file that is named twice counts once; options of one cluster are refused."""
    folder = tmp_path / "clusters"
    folder.mkdir()
    (folder / "b.yaml").write_text(CLUSTER)
    assert are_many([folder])
    assert not are_many([folder / "b.yaml"])
    (folder / "a.yml").write_text(CLUSTER)
    assert [source.file.name for source in load_all([folder, folder / "b.yaml"])] == ["a.yml", "b.yaml"]
    with pytest.raises(InputRefused, match="--node is for one cluster"):
        refuse_for_many(node=["P1"])


def test_an_id_without_room_has_a_line_of_its_own() -> None:
    """Below its cluster; the terminal breaks no line, and the header has the same places."""
    long = "20261127-212039-west-coast-production-d6d6bd64_2_0002"
    made = result("west-coast-production", Verdict.JOINED).model_copy(update={"run": long, "summary": "fine"})
    none = result("east", None).model_copy(update={"run": "", "summary": "no run"})
    assert list(result_lines([made, none], 70)) == [
        "CLUSTER                RESULT",
        "    RUN",
        "    WHY",
        "east                   no result  no run",
        "west-coast-production  joined",
        f"    {long}",
        "    fine",
    ]


def test_of_a_long_path_without_room_the_beginning_is_shown() -> None:
    """Not only its first word: that says nothing."""
    why = r"P3 has no certificate family: C:\Program Files\Ektron\CMS400v80\Utilities\Software has none; looked there"
    shown_rows = list(result_lines([result("east", Verdict.STOPPED).model_copy(update={"summary": why})], 60))
    assert shown_rows[-2:] == [
        "    P3 has no certificate family:",
        r"    C:\Program Files\Ektron\CMS400v80\Utilities\Software ...",
    ]
