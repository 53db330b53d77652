"""Following a run, without a terminal and without a store."""

import io
import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipelines.cli import follow, live, show
from pipelines.cli.entry import run
from pipelines.cli.live import show_run
from pipelines.cli.picture import draw
from pipelines.engine import Engine
from pipelines.local.provided import Running
from pipelines.report.build import build
from pipelines.report.event_words import line
from pipelines.report.styles import IN_PROGRESS, STATUS_STYLES, VERDICT_STYLES
from pipelines.rollout import KINDS, kind_of
from pipelines.run.plan import NodePlan, Plan
from pipelines.run.progress import Progress
from pipelines.usecases import run_views
from pipelines.usecases.updates import RunUpdate, progress_of, updates_of
from pipelines.web.pages.grid import codes_of, counts_of
from tasks.ektron.rules.findings import Finding, Findings, InvariantState
from tests.unit.pipelines.report.sample_run import Sample, cluster_of, sample
from tests.waiting import wait_until
from workers.errors import RunUnknown, StoreUnavailable
from workers.records import DocumentKind, Event, RunRecord, RunState, Status, Turn, Verdict
from workers.secrets.vault import Vault
from workers.settings import Settings
from workers.store.memory import MemoryStore


class Replay:
    """A feed that returns an invented run, a few events at a time."""

    def __init__(self, made: Sample, size: int = 7, trouble: Sequence[int] = ()) -> None:
        self.made = made
        self.size = size
        self.trouble = set(trouble)
        self.looks = 0

    def __call__(self, after: str) -> RunUpdate:
        """The next few events; the run has ended with the last of them."""
        self.looks += 1
        if self.looks in self.trouble:
            raise StoreUnavailable("the run store cannot be reached")
        start = int(after.partition("-")[0]) if after else 0
        events = self.made.events[start : start + self.size]
        over = start + len(events) == len(self.made.events)
        turns = tuple(t for t in self.made.record.turns if any(e.turn == t.name for e in self.made.events[: start + 7]))
        going = {"state": RunState.RUNNING, "verdict": None, "ended": None, "turns": turns}
        return RunUpdate(self.made.record if over else self.made.record.model_copy(update=going), events)


def _console(
    *, terminal: bool = False, height: int = 40, width: int = 140, encoding: str = "utf-8"
) -> tuple[Console, io.StringIO]:
    class Screen(io.StringIO):
        @property
        def encoding(self) -> str:  # type: ignore[override]
            return encoding

    screen = Screen()
    return Console(file=screen, force_terminal=terminal, width=width, height=height, color_system=None), screen


def _drawn(made: Sample, events: Sequence[Event], *, height: int = 40, encoding: str = "utf-8") -> list[str]:
    console, screen = _console(height=height, encoding=encoding)
    progress = Progress(made.record, kind_of(made.record.kind))
    progress.take(made.record, events)
    console.print(draw(progress, console))
    return [text.rstrip() for text in screen.getvalue().splitlines()]


def test_without_a_terminal_each_event_can_be_a_line() -> None:
    """With --verbose: one plain line per event, in order, except for the starts of steps."""
    made = sample(failed=["P2"])
    console, screen = _console()
    show_run(Replay(made), console, interval=0, verbose=True)
    lines = screen.getvalue().splitlines()
    assert len([e for e in made.events if e.kind != "step.started"]) == len(lines)
    assert lines[0] == "    0.0 s  run started  rollout of shop"
    assert any(
        text.endswith("s  wave-2  P2  config_edit  failed (refused): the file is read-only on P2") for text in lines
    )
    assert lines[-1] == "   48.2 s  run concluded  failed: 1 of 4 nodes failed"


def test_lines_hold_no_control_characters() -> None:
    """A node cannot control the terminal or forge a line through its message."""
    event = Event(kind="step.ended", node="P1", status="failed", message="\x1b[2J\nrun concluded  joined")
    assert "\x1b" not in line(sample().record, event)
    assert "\n" not in line(sample().record, event)


def test_on_a_terminal_the_grid_ends_complete() -> None:
    """The last picture on a terminal shows the verdict and every node."""
    console, screen = _console(terminal=True)
    show_run(Replay(sample(failed=["P2"])), console, interval=0)
    last = screen.getvalue().rpartition("rollout of shop")[2]
    assert last.lstrip().startswith("FAILED")
    assert [name for name in ("S1", "S2", "P1", "P2") if name in last] == ["S1", "S2", "P1", "P2"]


def test_a_terminal_shows_how_many_nodes_may_still_fail() -> None:
    """From the first one that was lost on; a run that has ended says it at its end."""
    replay, (console, screen) = Replay(sample(failed=["P2"]), size=1), _console(terminal=True)

    def feed(after: str) -> RunUpdate:
        if replay.looks and "failed" in [event.status for event in replay.made.events[: replay.looks]]:
            wait_until(lambda: "0 of 1 may still fail, 1 of 1 be unreachable" in screen.getvalue())
        return replay(after)

    show_run(feed, console, interval=0)
    assert "may still fail" not in screen.getvalue().rpartition("rollout of shop")[2]


def test_a_short_outage_of_the_store_is_tolerated() -> None:
    """A store that does not answer for a moment is reported once, and the run is followed further."""
    console, screen = _console()
    show_run(Replay(sample(), trouble=[2, 3, 4]), console, interval=0)
    assert screen.getvalue().count("trying again") == 1
    assert "verify  turn opened" in screen.getvalue()


def test_a_long_outage_of_the_store_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the store does not answer for too long, the error is reported to the operator."""
    monkeypatch.setattr(live, "PATIENCE", 0.02)
    with pytest.raises(StoreUnavailable):
        show_run(Replay(sample(), trouble=range(2, 10_000)), _console()[0], interval=0.005)


def test_a_run_without_a_worker_is_reported() -> None:
    """While no worker answers that is said, once; the line about its return is the next one."""
    made = sample()
    idle = RunUpdate(made.record.model_copy(update={"state": RunState.CREATED, "verdict": None, "turns": ()}), ())
    waiting = idle._replace(waiting="waiting for a worker since 14:03:10 UTC; start one: esync up")
    looks = iter([idle, waiting, waiting, idle, RunUpdate(made.record, made.events), RunUpdate(made.record, ())])
    console, screen = _console()
    show_run(lambda _: next(looks), console, interval=0)
    assert screen.getvalue().splitlines()[:2] == [waiting.waiting, "a worker answers"]


def test_a_terminal_shows_that_a_run_waits_for_a_worker() -> None:
    """The sentence is below the grid while no worker answers, and is gone afterwards."""
    made = sample()
    waiting = RunUpdate(made.record, made.events[:3], waiting="waiting for a worker since 14:03:10 UTC; start one: x")
    ended = RunUpdate(made.record, ())
    for last, shown in ((ended._replace(waiting=waiting.waiting), True), (ended, False)):
        looks = iter([waiting, last])
        console, screen = _console(terminal=True)
        show_run(lambda _, looks=looks: next(looks), console, interval=0)  # type: ignore[misc] # mypy on defaults of lambdas
        assert shown is ("waiting for a worker since" in screen.getvalue().rpartition("P2")[2])


def test_the_picture_says_that_a_run_cannot_be_decided() -> None:
    """Until it has ended: also who looks at it later has to know."""
    made = sample()
    failing = Event(kind="run.failing", message="internal error KeyError: what follows cannot be decided")
    assert failing.message in _drawn(_running(made), [*made.events[:9], failing])
    assert failing.message not in _drawn(made, [*made.events, failing])


def test_the_grid_of_a_moment() -> None:
    """During a wave the grid shows what is done, what is running and what is waiting; a node in work has no result."""
    made = sample()
    until = next(n for n, e in enumerate(made.events) if e.step == "cert_copy" and e.kind == "step.started")
    lines = _drawn(_running(made), made.events[: until + 1], encoding="ascii")
    assert lines[1].split() == ["node", "pool", "wave", *KINDS["rollout"].columns]
    s1 = lines[2].split()
    assert s1[:5] == ["S1", "staging", "wave-1", "=", "~"]
    assert s1[5] in set(r"-\|/")
    assert s1[6:] == [".", "."]


def _running(made: Sample, turns: int = 9) -> Sample:
    """The same run before it has ended, in that turn."""
    going = {"state": RunState.RUNNING, "verdict": None, "ended": None, "turns": made.record.turns[:turns]}
    return replace(made, record=made.record.model_copy(update=going))


@pytest.mark.parametrize(("kind", "columns"), [("plan", "look"), ("verify", "verify"), ("doctor", "look")])
def test_a_kind_that_only_looks_has_one_column(kind: str, columns: str) -> None:
    """No column is shown that such a run never fills; a rollout looks, changes and verifies."""
    assert columns.split() == list(KINDS[kind].columns)
    assert ["look", "config", "certs", "restart", "verify"] == list(KINDS["rollout"].columns)


def test_an_ended_run_has_no_empty_column() -> None:
    """A rollout that stops after it has looked shows no columns of steps that never ran."""
    made = sample()
    seen = [event for event in made.events if event.turn in {"", "canary", "observe"}]
    assert _drawn(made, seen)[1].split() == ["node", "pool", "wave", "look"]


@pytest.mark.parametrize(("nodes", "height"), [(4, 24), (60, 24), (60, 50)])
def test_a_reason_is_whole_in_80_columns(nodes: int, height: int) -> None:
    """The message of a failure is wrapped, not cut, and the picture fits the screen."""
    made = sample(cluster_of(2, nodes - 2), failed=["P2"])
    why = r"C:\Program Files\Ektron\EktronWindowsService30: there is not enough space on the disk: 27.8 kB needed"
    events = [e.model_copy(update={"message": why}) if e.status == "failed" else e for e in made.events]
    console, screen = _console(height=height, width=80)
    progress = Progress(made.record, kind_of(made.record.kind))
    progress.take(made.record, events)
    console.print(draw(progress, console))
    shown = screen.getvalue()
    assert f"P2 config_edit (refused): {why}" in " ".join(shown.split())
    assert len(shown.splitlines()) <= height - 1
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(("width", "height"), [(40, 24), (80, 14), (120, 40)])
def test_of_many_turns_the_newest_have_room_and_whole_names(width: int, height: int) -> None:
    """A large cluster has many waves, and the last one is the one that works."""
    made = sample(cluster_of(2, 58))
    wave = made.record.turns[2]
    waves = tuple(wave.model_copy(update={"name": f"wave-{number}"}) for number in range(1, 41))
    going = {"state": RunState.RUNNING, "verdict": None, "ended": None, "turns": (*made.record.turns[:2], *waves)}
    record = made.record.model_copy(update=going)
    console, screen = _console(height=height, width=width)
    progress = Progress(record, kind_of(record.kind))
    progress.take(record, made.events)
    console.print(draw(progress, console))
    lines = screen.getvalue().splitlines()
    shown = [line.split()[0] for line in lines if "steps" in line]
    assert shown == [turn.name for turn in record.turns][-len(shown) :]
    assert f"{42 - len(shown)} turns before" in lines
    assert len(lines) < height
    assert max(map(len, lines)) <= width


def test_many_reasons_leave_room() -> None:
    """Where not all reasons fit, the last line counts the nodes that are left out."""
    names = [f"P{n}" for n in range(1, 59)]
    made = sample(cluster_of(2, 58), failed=names)
    events = [e.model_copy(update={"message": f"{e.node * 3}!"}) if e.status == "failed" else e for e in made.events]
    lines = _drawn(made, events, height=24)
    assert len(lines) <= 23
    (left,) = [int(text.split()[1]) for text in lines if text.startswith("and ")]
    assert left + sum("config_edit" in text for text in lines) == 58


def test_nodes_that_were_not_selected_are_counted_apart() -> None:
    """With --node the headline counts the selected nodes by outcome; the others are not waiting and not tried."""
    made = sample()
    record = made.record.model_copy(update={"only": ("P2",), "turns": made.record.turns[:2]})
    seen = [event for event in made.events if event.turn in {"", "canary", "observe"}]
    headline, _, *rows = _drawn(replace(_running(made), record=record), seen)
    assert headline.endswith("1 not tried  3 not selected")
    assert [row.split()[-2:] for row in rows[:3]] == [["not", "selected"]] * 3
    headline, *_ = _drawn(replace(made, record=record.model_copy(update={"turns": made.record.turns})), made.events)
    assert headline.endswith("1 changed  3 not selected")


@pytest.mark.parametrize("width", [80, 120])
def test_long_messages_squeeze_no_other_column(width: int) -> None:
    """However long the message of a failure is, names, waves and headings are whole, and no line is wrapped."""
    made = sample(failed=["P2"])
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, height=40, color_system=None)
    progress = Progress(made.record, kind_of(made.record.kind))
    long = [e.model_copy(update={"message": e.message * 9}) if e.status == "failed" else e for e in made.events]
    progress.take(made.record, long)
    console.print(draw(progress, console))
    lines = screen.getvalue().splitlines()
    assert ["node", "pool", "wave", *KINDS["rollout"].columns] == lines[1].split()
    assert [
        ["S1", "staging", "wave-1"],
        ["S2", "staging", "wave-1"],
        ["P1", "live", "wave-2"],
        ["P2", "live", "wave-2"],
    ] == [text.split()[:3] for text in lines[2:6]]


@pytest.mark.parametrize(("nodes", "height"), [(40, 50), (12, 14)])
def test_many_nodes_are_summarised(nodes: int, height: int) -> None:
    """If the nodes do not fit, each turn is a bar of its steps, and failures are shown below."""
    made = sample(cluster_of(4, nodes - 4), failed=["P3", "P5"])
    lines = _drawn(made, made.events, height=height)
    assert [text.split()[0] for text in lines[1:6]] == ["canary", "observe", "wave-1", "wave-2", "verify"]
    assert lines[4].split()[2:] == [f"{4 * nodes - 16}/{4 * nodes - 16}", "steps", "2", "failed"]
    assert lines[6] == "P3, P5  config_edit (refused): the file is read-only on the node"
    assert len(lines) <= height


def test_a_bar_grows_with_each_step() -> None:
    """During a wave the steps that have ended are counted, not the nodes that are done."""
    made = sample(cluster_of(2, 40))
    until = next(n for n, e in enumerate(made.events) if e.turn == "wave-2" and e.step == "cert_copy")
    ended = sum(e.turn == "wave-2" and e.kind == "step.ended" for e in made.events[:until])
    assert 0 < ended < 160
    assert any(f"{ended}/160 steps" in text for text in _drawn(made, made.events[:until]))


def test_no_empty_grid_is_left() -> None:
    """After a joined run of many nodes there are bars and no heading without rows."""
    made = sample(cluster_of(2, 40))
    assert not any(text.split()[:2] == ["node", "pool"] for text in _drawn(made, made.events))
    assert any(text.split()[:2] == ["node", "pool"] for text in _drawn(sample(), sample().events))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_marks_are_explained_once(encoding: str) -> None:
    """Only those in use, below the grid."""
    made = sample(failed=["P2"])
    *_, legend = _drawn(made, made.events, encoding=encoding)
    marks = [f"{style.plain if encoding == 'ascii' else style.symbol} {style.word}" for style in STATUS_STYLES.values()]
    assert {mark for mark in marks if mark in legend} == {marks[0], marks[3], marks[5], marks[6]}
    assert "no step" not in legend
    *_, legend = _drawn(sample(unreachable=["P2"]), sample(unreachable=["P2"]).events, encoding=encoding)
    assert legend.endswith(". no step")


def test_a_pause_is_in_the_headline() -> None:
    """With its reason, until the run continues; nodes without an outcome are waiting."""
    made = sample()
    record = made.record.model_copy(update={"state": RunState.RUNNING, "verdict": None, "turns": made.record.turns[:3]})
    until = next(n for n, e in enumerate(made.events) if e.turn == "wave-1") + 1
    events = [*made.events[:until], Event(kind="run.pause_asked", message="lunch")]
    paused = Sample(record, made.cluster, (), None, None, (), made.kind, ())
    headline, *rows = _drawn(paused, events)
    assert "wave-1 PAUSED (lunch)" in headline
    assert "4 waiting" in headline
    assert all(row.endswith("waiting") for row in rows[1:5])
    headline, *_ = _drawn(paused, [*events, Event(kind="run.resume_asked")])
    assert "PAUSED" not in headline


def test_a_refuted_node_has_its_own_mark() -> None:
    """After a verify; it is not counted as checked, and the reports say the same."""
    console, screen = _console(terminal=True)
    made = verified()
    progress = Progress(made.record, made.kind)
    progress.take(made.record, made.events)
    progress.refuted = frozenset({"P2"})
    console.print(draw(progress, console))
    headline, _, *rows = [text.rstrip() for text in screen.getvalue().splitlines()]
    assert "\u2260 1 refuted  = 3 checked" in headline
    assert [row.split()[-2:] for row in rows[:4]] == [["=", "checked"]] * 3 + [["\u2260", "refuted"]]


def verified() -> Sample:
    """A verify of four nodes whose steps all ended well."""
    made = sample()
    turns = (made.record.turns[0], made.record.turns[-1].model_copy(update={"nodes": made.cluster.node_names}))
    record = made.record.model_copy(update={"kind": "verify", "turns": turns, "verdict": Verdict.REFUTED})
    events = tuple(e for e in made.events if e.turn in {"", "canary", "verify"})
    return Sample(record, made.cluster, (), made.findings, None, made.nodes, kind_of("verify"), events=events)


def test_refuted_nodes_are_read_when_the_run_has_ended() -> None:
    """From the findings of the final check; findings from before a rollout name no refuted node."""
    store, made = MemoryStore(), verified()
    refuted = Finding(invariant="keys.complete", verdict=InvariantState.REFUTED, nodes=("P2",))
    store.create(made.record)
    store.put(made.record.id, DocumentKind.FINDINGS, "verify", Findings(findings=(refuted,)).model_dump_json())
    assert frozenset({"P2"}) == updates_of(store, made.record.id)("").refuted
    assert frozenset({"P2"}) == progress_of(store, made.record).refuted
    early = sample().record.model_copy(update={"id": "early", "turns": sample().record.turns[:2]})
    store.create(early)
    store.put("early", DocumentKind.FINDINGS, "assess", Findings(findings=(refuted,)).model_dump_json())
    assert frozenset() == updates_of(store, "early")("").refuted


@pytest.mark.parametrize("nodes", [10, 300])
def test_without_a_terminal_a_run_is_a_short_list(nodes: int) -> None:
    """Of the steps only failures are lines; every turn is one line."""
    made = sample(cluster_of(1, nodes - 1), failed=["P7"], unreachable=["P9"])
    console, screen = _console()
    show_run(Replay(made, size=500), console, interval=0)
    lines = screen.getvalue().splitlines()
    assert len(lines) == 1 + len(made.record.turns) + 2
    assert ["P7", "P9"] == sorted(text.split()[3] for text in lines if "config_edit" in text or "install_check" in text)


def test_nothing_is_dark_blue() -> None:
    """It cannot be read on black."""
    colours = [style.colour for style in STATUS_STYLES.values()]
    colours += [style.colour for style in (*VERDICT_STYLES.values(), IN_PROGRESS)]
    assert not any(re.search(r"(?<!_)blue", colour) for colour in colours)


def test_a_failed_node_stays_failed() -> None:
    """A later successful step on a failed node does not change its outcome."""
    made = sample(failed=["P2"])
    progress = Progress(made.record, kind_of(made.record.kind))
    progress.take(made.record, made.events)
    assert progress.outcome("P2") is Status.FAILED
    assert progress.lost("wave-2") == {Status.FAILED: 1}
    assert progress.running() == []


def test_the_live_view_agrees_with_the_report() -> None:
    """At the end of a run both count the same outcomes."""
    made = sample(cluster_of(2, 20), failed=["P2", "P9"], unreachable=["P4"])
    progress = Progress(made.record, kind_of(made.record.kind))
    progress.take(made.record, made.events)
    assert build(made).totals == {status.value: count for status, count in progress.counts().items()}


@given(data=st.data())
def test_late_and_double_events_change_nothing(data: st.DataObject) -> None:
    """Events may arrive in pieces of any size and repeatedly: the progress is the same."""
    made = sample(failed=["P2"])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(made.events)), max_size=5)))
    once, pieces = Progress(made.record, kind_of(made.record.kind)), Progress(made.record, kind_of(made.record.kind))
    once.take(made.record, made.events)
    for start, end in pairwise([0, *cuts, len(made.events)]):
        pieces.take(made.record, made.events[start:end])
        pieces.take(made.record, [e for e in made.events[start:end] if e.kind == "step.ended"])
    assert (once.cells, once.counts(), once.reasons) == (pieces.cells, pieces.counts(), pieces.reasons)


def test_feed_reads_a_store() -> None:
    """A feed returns the run from the store, and the events since the last update."""
    store, made = MemoryStore(), sample()
    store.create(made.record)
    first = store.note(made.record.id, made.events[0])
    feed = updates_of(store, made.record.id)
    assert feed("").events[-1] == first
    assert feed(first.id).events == ()
    assert isinstance(feed("").record, RunRecord)
    with pytest.raises(RunUnknown):
        updates_of(store, "no-such-run")("")


@pytest.mark.parametrize("kind", ["rollout", "renew"])
def test_views_of_a_store_know_where_the_plan_has_nothing_to_do(kind: str) -> None:
    """The nodes of later waves wait, the others are correct; in a renewal every node has its waves."""
    store, made = MemoryStore(), sample()
    observed = tuple(turn for turn in made.record.turns if turn.stage in {"canary", "observe"})
    update = {"verdict": None, "state": RunState.RUNNING, "turns": observed, "plan_fingerprint": ""}
    begun = made.record.model_copy(update=update)
    parts = [NodePlan(node=node["name"], fingerprint="0") for node in begun.spec["nodes"]]
    plan = Plan(cluster="shop", nodes=tuple(parts), waves=(("S1",), ("P1",)), family={})
    store.create(begun.model_copy(update={"kind": kind}))
    store.put(begun.id, "plan", "plan", plan.to_json())
    assert progress_of(store, store.run(begun.id)).waiting() == len(parts)
    stage = "wave" if kind == "rollout" else "admit"
    waved = (*observed, Turn(name=f"{stage}-1", stage=stage, nodes=("S1",), steps=("install_check",)))
    store.save(store.run(begun.id).model_copy(update={"plan_fingerprint": plan.fingerprint, "turns": waved}))
    seen = progress_of(store, store.run(begun.id))
    idle = kind == "rollout"
    assert seen.waiting() == (2 if idle else len(parts))
    words = {mark.word: count for mark, count in counts_of(codes_of(seen))}
    assert words == ({"correct": 2, "waiting": 2} if idle else {"waiting": 4})


@pytest.mark.parametrize("asked", [KeyboardInterrupt(), SystemExit(143)])
@pytest.mark.parametrize(
    ("own", "expected"),
    [("", "This command stops; the run continues"), ("rollout", "The worker stops with this command")],
)
def test_a_command_that_is_asked_to_end_explains_the_effect_on_the_run(
    own: str, expected: str, asked: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Ctrl-C or a signal the message says whether the run continues, and how to watch it; the command ends so."""

    def interrupted(*_: object, **__: object) -> RunRecord:
        raise asked

    made, (console, screen) = sample(), _console()
    store = MemoryStore()
    store.create(made.record)
    engine = Engine(Settings(), store, Vault(store, None), Celery())
    monkeypatch.setattr(follow, "show_run", interrupted)
    with pytest.raises(type(asked)):
        follow.follow(Running(engine, own), made.record, console)
    assert expected in screen.getvalue()
    assert f"esync watch {made.record.id}" in screen.getvalue()


def _stored(made: Sample) -> Engine:
    """An engine whose store has that run."""
    store = MemoryStore()
    store.create(made.record)
    for event in made.events:
        store.note(made.record.id, event.model_copy(update={"id": ""}))
    return Engine(Settings(), store, Vault(store, None), Celery())


def test_status_of_several_runs_is_a_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worst first; as JSON one document, in the order of the arguments; followed, the worst verdict is the end."""
    made, engine = sample(failed=["P2"]), _stored(sample(failed=["P2"]))
    other = engine.store.create(made.record.model_copy(update={"id": "other", "verdict": Verdict.JOINED}))
    monkeypatch.setattr(show, "engine_only", lambda _: nullcontext(engine))
    named = made.record.id
    assert run(["status", other.id, named]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [[named, "failed"], ["other", "joined"]] == [line.split()[1:3] for line in lines]
    assert run(["status", other.id, named, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert ["other", named] == [one["status"]["run"] for one in printed["clusters"]]
    assert ("failed", 2) == (printed["verdict"], printed["exit_code"])
    for verb in (["status", "--follow"], ["watch"]):
        assert run([*verb, other.id, named]) == 2
        assert "2 clusters: 1 failed, 1 joined" in capsys.readouterr().err


def test_status_begins_with_a_headline_and_the_nodes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then one screen about the run; with --verbose every cause in full is between the two."""
    made = sample(failed=["P2"])
    monkeypatch.setattr(show, "engine_only", lambda _: nullcontext(_stored(made)))
    monkeypatch.setattr(run_views, "summary", lambda *_: made)
    assert run(["status", made.record.id]) == 0
    short = capsys.readouterr().out.splitlines()
    assert short[0].startswith("rollout of shop  FAILED")
    assert ["S1", "S2", "P1", "P2"] == [text.split()[0] for text in short[2:6]]
    assert short[6] == "P2  config_edit (refused): the file is read-only on P2"
    assert short[9].startswith("FAILED  4 nodes: 3 done, 1 failed")
    assert run(["status", made.record.id, "--verbose"]) == 0
    full = capsys.readouterr().out.splitlines()
    assert [text for text in short if text in full] == short
    assert any("P2 reported: " in text for text in full)
    assert not any("P2 reported: " in text for text in short)
