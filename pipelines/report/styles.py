"""How statuses and verdicts look, the same in the terminal, in text and on pages. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from workers.records import Status, Verdict

__all__ = ["IN_PROGRESS", "REFUTED", "STATUS_STYLES", "VERDICT_STYLES", "StatusStyle", "VerdictStyle"]


@dataclass(frozen=True, slots=True)
class StatusStyle:
    """One status. The symbol is text, so that neither colour nor an icon font is needed to read it."""

    symbol: str
    plain: str  #: ASCII, for terminals without Unicode
    word: str
    colour: str  #: for rich


STATUS_STYLES: Mapping[Status, StatusStyle] = {
    Status.FAILED: StatusStyle("\u2717", "x", "failed", "bold red"),
    Status.UNREACHABLE: StatusStyle("!", "!", "unreachable", "bold magenta"),
    Status.CANCELLED: StatusStyle("\u2298", "/", "cancelled", "magenta"),
    Status.SKIPPED: StatusStyle("\u2013", "-", "skipped", "dim"),
    Status.WOULD_CHANGE: StatusStyle("\u2248", "?", "would change", "cyan"),
    Status.CHANGED: StatusStyle("\u270e", "~", "changed", "cyan"),
    Status.UNCHANGED: StatusStyle("=", "=", "unchanged", "green"),
}


#: A node that an error of the final check names, although its steps ended well.
REFUTED = StatusStyle("\u2260", "#", "refuted", "bold red")


@dataclass(frozen=True, slots=True)
class VerdictStyle:
    """One verdict: its kind, its title, and what it means for the cluster."""

    kind: str  #: good, bad, warn, busy: a class on the HTML page
    title: str
    meaning: str
    colour: str  #: for rich


def _good(title: str, meaning: str, colour: str = "bold green") -> VerdictStyle:
    return VerdictStyle("good", title, meaning, colour)


def _bad(title: str, meaning: str) -> VerdictStyle:
    return VerdictStyle("bad", title, meaning, "bold red")


def _warn(title: str, meaning: str, colour: str = "bold magenta") -> VerdictStyle:
    return VerdictStyle("warn", title, meaning, colour)


VERDICT_STYLES: Mapping[Verdict, VerdictStyle] = {
    Verdict.JOINED: _good("Joined", "Every required statement is proven."),
    Verdict.FAILED: _bad("Failed", "Some nodes failed. The report gives the cause and the fix for each of them."),
    Verdict.STOPPED: _warn("Stopped", "The run ended early. The nodes that it did not reach are unchanged."),
    Verdict.UNREACHABLE: _warn("Unreachable", "Some nodes were unreachable; nothing else failed."),
    Verdict.REFUTED: _bad("Refuted", "A required statement does not hold."),
    Verdict.INCONCLUSIVE: _warn("Inconclusive", "Some required statements could not be checked.", "magenta"),
    Verdict.CANCELLED: _warn("Cancelled", "An operator stopped the run between two steps."),
    Verdict.STALE: _warn("Stale", "The cluster has changed since the plan was made. Nothing was changed."),
    Verdict.CHANGES_PENDING: _good("Changes pending", "The plan shows what a rollout would change.", "bold cyan"),
    Verdict.NOTHING_TO_DO: _good("Nothing to do", "Every node is configured as required."),
    Verdict.READY: _good("Ready", "Nothing prevents a rollout."),
    Verdict.RESTORED: _good("Restored", "Every file is byte for byte as it was before the run."),
    Verdict.CLEAN: _good("Clean", "The files to remove are gone from the nodes."),
    Verdict.RETIRED: _good("Retired", "The node has no right to connect any more, and accepts no other node."),
    Verdict.PROVEN: _good("Proven", "The file of the sync reached every server, byte for byte, and is removed."),
    Verdict.SYNCED: _good("Synced", "It ended without a failure."),
    Verdict.ANSWERED: _good("Answered", "The servers were asked; nothing was changed."),
    Verdict.LOCKED: _warn("Locked", "Another run is working on this cluster. This run did nothing."),
}
IN_PROGRESS = VerdictStyle("busy", "In progress", "The run has not ended. This is its current state.", "bold cyan")
