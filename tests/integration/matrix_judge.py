"""Judges whether a node ended in an allowed state after a fault, by its disk and its service, never by a reply."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.run.node_results import NodeResult
from pipelines.usecases.runs import RunSummary
from tests.integration.matrix_cluster import Files, MatrixCluster, started
from workers.records import Status, StepOutcome, Verdict

__all__ = ["Look", "judged", "look_at", "wrong_after_rollback", "wrong_when_joined"]

TEMPORARY = ".esync-"
CONFIGURATION = ".config"
CERTIFICATES = (".pfx", ".pvk", ".cer")


@dataclass(frozen=True)
class Look:
    """The state of a node at one moment."""

    node: str
    files: Files
    before: Files
    after: Files
    service: Mapping[str, Any]
    newest_input: float

    @property
    def temporary(self) -> list[str]:
        """Temporary files that a killed agent left behind."""
        return [name for name in self.files if TEMPORARY in name]

    @property
    def whole(self) -> Files:
        """All files except the temporary ones."""
        return {name: data for name, data in self.files.items() if TEMPORARY not in name}

    @property
    def untouched(self) -> bool:
        """Whether every file is as it was before the run."""
        return self.whole == self.before

    @property
    def joined(self) -> bool:
        """Whether every file is as after a complete rollout."""
        return self.whole == self.after

    def differing(self, wanted: Files, *endings: str) -> list[str]:
        """Files that differ from the desired ones; only those with the given endings, if any."""
        names = sorted(wanted.keys() | self.whole.keys())
        return [
            name
            for name in names
            if wanted.get(name, b"") != self.whole.get(name, b"") and (not endings or name.lower().endswith(endings))
        ]

    def neither(self) -> list[str]:
        """Files that are neither as before nor as after: half-written, or written by another program."""
        return [
            name
            for name, data in self.whole.items()
            if not any(name in wanted and wanted[name] == data for wanted in (self.before, self.after))
        ]

    def lost(self) -> list[str]:
        """Files that exist before and after a rollout, but not now."""
        return sorted(self.before.keys() & self.after.keys() - self.whole.keys())

    def starts_since_last_change(self, behind: str = "") -> int:
        """Number of starts since the last change of its files; only those after a `stop` or a `died`, if given."""
        return len(started(self.service["history"], self.newest_input, behind))


def look_at(servers: MatrixCluster, node: str) -> Look:
    """Looks at the present state of a node."""
    return Look(
        node,
        servers.files(node),
        servers.before[node],
        servers.after[node],
        servers.service(node),
        servers.newest_input(node),
    )


def judged(look: Look, run: RunSummary) -> Iterator[str]:
    """The errors of a node after a run with a fault, and of its report in the run."""
    if odd := look.neither():
        yield f"neither as before nor as after: {odd[:5]}"
    if gone := look.lost():
        yield f"gone: {gone[:5]}"
    result = next(one for one in run.nodes if one.node == look.node)
    yield from _of_result(look, result, run)
    for outcome in run.outcomes:
        if outcome.node == look.node and outcome.turn.startswith("wave"):
            yield from _of_step(look, outcome)
    if run.record.verdict is Verdict.JOINED:
        yield from wrong_when_joined(look)


def _of_result(look: Look, result: NodeResult, run: RunSummary) -> Iterator[str]:
    if result.status in {Status.FAILED, Status.UNREACHABLE}:
        if look.node not in result.problem.message or not result.problem.slug or not result.step:
            yield f"not said precisely: {result.step} {result.problem.slug!r}: {result.problem.message!r}"
        if not result.problem.remedy:
            yield f"no remedy: {result.problem.slug}: {result.problem.message}"
        return
    if result.status is Status.SKIPPED:
        if not look.untouched:
            yield f"said to be skipped, and changed: {look.differing(look.before)[:5]}"
        if not result.problem.message:
            yield "skipped without a reason"
        return
    if result.status is Status.UNCHANGED and not look.untouched:
        yield f"said to be unchanged, and the run changed {look.differing(look.before)[:5]}"
    if result.status is Status.CHANGED and not look.joined:
        yield f"said to be changed, and is not joined: {look.differing(look.after)[:5]} ({run.record.summary})"


def _of_step(look: Look, outcome: StepOutcome) -> Iterator[str]:
    """A step that reported success has done its part."""
    if outcome.status not in {Status.CHANGED, Status.UNCHANGED}:
        return
    endings = {"config_edit": (CONFIGURATION,), "cert_copy": CERTIFICATES}.get(outcome.step)
    if endings and (wrong := look.differing(look.after, *endings)):
        yield f"{outcome.step} {outcome.status}, and not so: {wrong[:5]}"
    if endings and outcome.status is Status.UNCHANGED and look.differing(look.before, *endings):
        yield f"{outcome.step} says unchanged (attempt {outcome.attempt}), and this run changed it"
    if outcome.step == "service_restart" and not look.starts_since_last_change():
        yield f"service_restart {outcome.status}, and the service never started after the last change"


def wrong_when_joined(look: Look) -> Iterator[str]:
    """Differences from a server that has joined its cluster."""
    if look.temporary:
        yield f"left behind: {look.temporary}"
    if not look.joined:
        yield f"joined, and not as joined: {look.differing(look.after)[:5]}"
    if look.service["state"] != "running":
        yield f"joined, and its service is {look.service['state']}"
    if not look.starts_since_last_change():
        yield "joined, and its service never started after the last change"
    if (count := look.starts_since_last_change("stop")) > 1:
        yield f"the service was restarted {count} times after the last change"


def wrong_after_rollback(look: Look) -> Iterator[str]:
    """Differences from the state before the run."""
    if look.temporary:
        yield f"left behind by the rollback: {look.temporary}"
    if not look.untouched:
        yield f"rolled back, and not as before: {look.differing(look.before)[:5]}"
    if look.service["state"] != "running":
        yield f"rolled back, and its service is {look.service['state']}"
