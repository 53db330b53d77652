"""What a person may do with a run now: which buttons its page has. Pure."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from pipelines.report.answers import next_commands
from pipelines.report.rows import Report
from pipelines.rollout import kind_of
from pipelines.run.plan import Plan
from pipelines.run.snapshot import RETRY
from pipelines.run.sync_kinds import AT_A_TERMINAL
from tasks.steering import Steering
from workers.records import RunRecord

__all__ = ["ALL_AT_ONCE", "Action", "Button", "buttons_of", "can_apply", "keeps_backups"]


ALL_AT_ONCE = "all at once: all servers together, not half of a pool at a time; a short outage"


class Action(StrEnum):
    """What a button of a run asks for; the last part of the address that it posts to."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    CANCEL = "cancel"
    RETRY = "retry"
    ROLLBACK = "rollback"


class Button(NamedTuple):
    """One button.

    Attributes:
        action: what it asks for.
        text: on the button.
        hint: what will happen.
        typed: whether the name of the cluster has to be typed, because servers are changed.
        main: whether it is what an operator most likely wants.
        turn: which may begin.
        option: a field that may be ticked, with what it means; empty if there is none.
    """

    action: Action
    text: str
    hint: str
    typed: bool = False
    main: bool = False
    turn: str = ""
    option: tuple[str, str] | None = None


def buttons_of(report: Report, steering: Steering, *, whole_pool: bool = False) -> Iterator[Button]:
    """The buttons of a run, the most useful first; with `whole_pool` its policy restores all servers together."""
    if report.verdict is None:
        yield from _while_it_lasts(report, steering)
        return
    offered = {command.split()[1] for command in next_commands(report) if "--force" not in command}
    if "retry" in offered and report.kind not in AT_A_TERMINAL:
        hint = "starts a run on the nodes that failed, were unreachable or were not started"
        yield Button(Action.RETRY, "Retry what is left", hint, main=True)
    if "rollback" in offered and not report.parent:
        yield _rollback(whole_pool=whole_pool)


def _rollback(*, whole_pool: bool) -> Button:
    hint = "restores every file of this run, byte for byte, on all servers that it changed"
    if whole_pool:
        return Button(Action.ROLLBACK, "Roll back", f"{hint}, all together", typed=True)
    hint = f"{hint}: at most half of a pool at a time, servers that are down first"
    return Button(Action.ROLLBACK, "Roll back", hint, typed=True, option=("all_at_once", ALL_AT_ONCE))


def _while_it_lasts(report: Report, steering: Steering) -> Iterator[Button]:
    changes = not kind_of(report.kind, report.run).read_only
    if steering.cancelled:
        return
    if steering.held and not steering.unapproved:
        at_gate = steering.held == RETRY
        text = "Prove again" if at_gate else f"Begin {steering.held}"
        hint = "search is repaired: another sync is started" if at_gate else "lets the next wave begin"
        yield Button(Action.PROMOTE, text, hint, typed=changes, main=True, turn=steering.held)
    if steering.paused:
        yield Button(Action.RESUME, "Resume", "steps start again", main=True)
    else:
        yield Button(Action.PAUSE, "Pause", "running steps finish, no further step starts")
    yield Button(Action.CANCEL, "Cancel", "stops at the next safe point; every file stays whole", typed=changes)


def keeps_backups(record: RunRecord) -> bool:
    """Whether runs of that kind leave backups on servers, which a cleanup removes."""
    stages = kind_of(record.kind, record.id).stages
    return any(step.keeps_backups for stage in stages for step in stage.steps)


def can_apply(record: RunRecord, plan: Plan | None) -> bool:
    """Whether a run has ended with a plan that a rollout can apply."""
    return record.kind == "plan" and record.verdict is not None and plan is not None and not plan.empty
