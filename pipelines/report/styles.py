"""How statuses and verdicts look, the same in the terminal, in text and on pages. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from workers.records import Status, Verdict
from workers.texts import cleaned

__all__ = ["MARKS", "TONES", "UNDER_WAY", "Mark", "Tone", "printable"]


@dataclass(frozen=True, slots=True)
class Mark:
    """One status. The symbol is text, so that neither colour nor an icon font is needed to read it."""

    symbol: str
    plain: str  #: ASCII, for terminals that have no more
    word: str
    colour: str  #: for rich


MARKS: Mapping[Status, Mark] = {
    Status.FAILED: Mark("\u2717", "x", "failed", "bold red"),
    Status.UNREACHABLE: Mark("!", "!", "unreachable", "bold yellow"),
    Status.CANCELLED: Mark("\u2298", "/", "cancelled", "yellow"),
    Status.SKIPPED: Mark("\u2013", "-", "skipped", "bright_black"),
    Status.WOULD_CHANGE: Mark("\u2248", "?", "would change", "blue"),
    Status.CHANGED: Mark("\u270e", "~", "changed", "cyan"),
    Status.UNCHANGED: Mark("=", "=", "unchanged", "green"),
}


@dataclass(frozen=True, slots=True)
class Tone:
    """One verdict: its kind of news, its title, and what it means for the cluster."""

    kind: str  #: good, bad, warn, busy
    title: str
    meaning: str
    colour: str  #: for rich


TONES: Mapping[Verdict, Tone] = {
    Verdict.JOINED: Tone("good", "Joined", "Everything that must hold is proven.", "bold green"),
    Verdict.FAILED: Tone("bad", "Failed", "Some nodes failed; it says which, why, and what to do.", "bold red"),
    Verdict.STOPPED: Tone("warn", "Stopped", "The run ended early; what it did not reach is untouched.", "bold yellow"),
    Verdict.UNREACHABLE: Tone("warn", "Unreachable", "Nodes that did not answer are missing.", "bold yellow"),
    Verdict.REFUTED: Tone("bad", "Refuted", "A statement that must hold is shown not to.", "bold red"),
    Verdict.INCONCLUSIVE: Tone("warn", "Inconclusive", "Something could not be found out.", "yellow"),
    Verdict.CANCELLED: Tone("warn", "Cancelled", "An operator stopped the run between two steps.", "bold yellow"),
    Verdict.STALE: Tone(
        "warn", "Stale", "The cluster is not what the plan was made for; nothing was done.", "bold yellow"
    ),
    Verdict.CHANGES_PENDING: Tone(
        "good", "Changes pending", "The plan shows what a rollout would change.", "bold cyan"
    ),
    Verdict.NOTHING_TO_DO: Tone("good", "Nothing to do", "Every node is as it should be.", "bold green"),
    Verdict.READY: Tone("good", "Ready", "Nothing stands in the way of a rollout.", "bold green"),
    Verdict.RESTORED: Tone("good", "Restored", "Every file is byte for byte what it was before the run.", "bold green"),
    Verdict.CLEAN: Tone("good", "Clean", "What was to be removed from the nodes is gone.", "bold green"),
    Verdict.LOCKED: Tone("warn", "Locked", "Another run works on this cluster; this one did nothing.", "bold yellow"),
}
UNDER_WAY = Tone("busy", "Under way", "The run has not ended; this is how it stands.", "bold blue")


def printable(text: str) -> str:
    """Text without line breaks and control characters: a node's message must not steer the operator's terminal."""
    return cleaned(text, max(1, len(text)))
