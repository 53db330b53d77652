"""What comes next when a sync is looked at, started, watched or proven. Pure, like `decisions`."""

from collections.abc import Sequence
from dataclasses import replace

from pipelines.run.selection import not_done
from pipelines.run.snapshot import Document, Go, Snapshot, Stop
from pipelines.run.sync_view import (
    BACK,
    EXAMINE,
    OUT,
    PLACE,
    REFRESH,
    REMOVE,
    START,
    WATCH,
    SyncView,
    can_be_asked,
    causes_of,
)
from pipelines.run.verdict import cluster_facts, failures
from tasks.ektron.sync.canary import STILL_RUNS
from tasks.ektron.wording import all_are, counted, named
from workers.errors import LogonRefused
from workers.records import DocumentKind, Status, Verdict

__all__ = [
    "all_answered",
    "carry_on",
    "concluded",
    "examined",
    "followed",
    "may_begin",
    "may_prove",
    "proven",
    "refreshed",
    "start_begun",
    "taken_out",
    "to_begin",
    "to_examine",
    "to_follow",
    "to_place",
    "to_put_back",
    "to_refresh",
    "to_remove",
    "to_take_out",
    "to_watch",
]

_NOT_WATCHED = Stop(Verdict.INCONCLUSIVE, "the sync was not watched")
_REMOVALS = 3  #: turns of the removal, while the sync continues and may bring the file again


def all_answered(snapshot: Snapshot) -> Stop:
    """The end of a look: every selected server was asked."""
    sites = SyncView(snapshot).sites
    silent = [node for node, seen in sites.items() if seen.site_problem]
    running = list(SyncView(snapshot).running())
    parts = [f"{all_are(len(sites))} known"]
    parts += [f"the site does not answer on {named(silent)}"] if silent else []
    parts += [f"a sync is running, by {named(running)}"] if running else ["no sync is known to run"]
    stale = [node for node, seen in sites.items() if seen.status_files]
    parts += [f"status files on {named(stale)}"] if stale and not running else []
    return not_done(snapshot) or Stop(Verdict.ANSWERED, "; ".join(parts))


def carry_on(_: Snapshot) -> Go:
    """A server that did not answer is named at the end."""
    return Go()


def may_begin(snapshot: Snapshot) -> Go | Stop:
    """Whether a sync, or a refresh, may be started on the server that was asked for."""
    view = SyncView(snapshot)
    node = view.asked.node
    seen = view.sites.get(node)
    if seen is None:
        outcome = snapshot.ended().get(node)
        verdict = Verdict.UNREACHABLE if outcome and outcome.status is Status.UNREACHABLE else Verdict.FAILED
        return Stop(verdict, f"{outcome.message if outcome else f'{node} was not asked'}; nothing was started")
    if seen.site_problem and (view.asked.start == "http" or view.snapshot.cluster.site_login):
        return Stop(Verdict.FAILED, f"{seen.site_problem} Nothing was started")
    if running := list(view.running()):
        return Stop(Verdict.STOPPED, f"another sync is running, by {named(running)}; nothing was started")
    return Go()


def may_prove(snapshot: Snapshot) -> Go | Stop:
    """The same, and whether the folder of the canary exists there."""
    decision = may_begin(snapshot)
    view = SyncView(snapshot)
    seen = view.sites.get(view.asked.node)
    if isinstance(decision, Go) and seen is not None and not seen.folder_exists:
        folder = snapshot.cluster.sync.canary.folder
        return Stop(
            Verdict.FAILED,
            f"{seen.node} has no folder {folder} below the site root (sync.canary.folder); nothing was started",
        )
    return decision


def to_take_out(snapshot: Snapshot) -> Sequence[str]:
    """One other server of a clustered staging pool leaves its balancer before a sync (procedure, prerequisites)."""
    cluster, node = snapshot.cluster, SyncView(snapshot).asked.node
    if snapshot.in_stage(OUT) or not cluster.balancer(node):
        return []
    ended = snapshot.ended()
    return [name for name in cluster.pool_members(cluster.node(node).pool) if name != node and name not in ended][:1]


def taken_out(snapshot: Snapshot) -> Go | Stop:
    """Stops when it could not be taken out."""
    last = snapshot.of_stage(OUT)
    failed = [node for node, outcome in last.items() if outcome.status.ends_node]
    return Stop(Verdict.STOPPED, f"{last[failed[0]].message}; no sync was started") if failed else Go()


def to_put_back(snapshot: Snapshot) -> Sequence[str]:
    """That server again, whatever happened since."""
    done = snapshot.in_stage(BACK)
    return [node for node in snapshot.cluster.node_names if node in snapshot.in_stage(OUT) and node not in done]


def concluded(snapshot: Snapshot) -> Go | Stop:
    """The end of a sync that was only started and followed, after its server is back in the balancer."""
    if cancelled := snapshot.steering.cancelled:
        return Stop(Verdict.CANCELLED, f"cancelled: {cancelled}")
    out = taken_out(snapshot)
    return out if isinstance(out, Stop) else followed(snapshot)


def to_place(snapshot: Snapshot) -> Sequence[str]:
    """The server on which the sync is started, once."""
    return [] if snapshot.in_stage(PLACE) else [SyncView(snapshot).asked.node]


def to_begin(snapshot: Snapshot) -> Sequence[str]:
    """That server, until the sync has begun."""
    view = SyncView(snapshot)
    begun = view.begun is not None and view.begun.begun
    return [] if begun or view.asked.node in snapshot.ended() else [view.asked.node]


def start_begun(snapshot: Snapshot) -> Go | Stop:
    """Stops when the file could not be placed, or the sync could not be started."""
    node = SyncView(snapshot).asked.node
    outcome = snapshot.ended().get(node)
    return Stop(Verdict.FAILED, outcome.message) if outcome is not None else Go()


def to_follow(snapshot: Snapshot) -> Sequence[str]:
    """The server on which the sync was started, until the sync has ended."""
    view = SyncView(snapshot)
    seen = view.files.get(view.asked.node)
    final = seen is not None and seen.final
    return [] if final or view.asked.node in snapshot.ended() else [view.asked.node]


def followed(snapshot: Snapshot) -> Go | Stop:
    """The verdict of a sync that was only started and followed."""
    if to_follow(snapshot):
        return Go()
    view = SyncView(snapshot)
    outcome = snapshot.ended().get(view.asked.node)
    if outcome is not None:
        return Stop(Verdict.FAILED, outcome.message)
    last = snapshot.of_stage(WATCH).get(view.asked.node)
    return Stop(Verdict.SYNCED, f"{view.begun.name if view.begun else 'the sync'}: {last.message if last else 'done'}")


def to_watch(snapshot: Snapshot) -> Sequence[str]:
    """Every server that can be asked, until its part of the watch is final; none if no sync has begun."""
    view, ended = SyncView(snapshot), snapshot.ended()
    if view.begun is None or not view.begun.begun:
        return []
    files = view.files
    return [node for node in snapshot.cluster.node_names if node not in ended and not _is_final(files.get(node))]


def _is_final(seen: object) -> bool:
    return bool(getattr(seen, "final", False))


def to_examine(snapshot: Snapshot) -> Sequence[str]:
    """Every server that can be asked, if the file has not reached all: the rules look for the cause."""
    view = SyncView(snapshot)
    return [] if view.had(EXAMINE) or not view.had(START) or not _missing(snapshot) else can_be_asked(snapshot)


def examined(snapshot: Snapshot) -> Go:
    """Judges what was found there."""
    if not snapshot.in_stage(EXAMINE):
        return Go()
    from tasks.ektron.rules.invariants import judge  # noqa: PLC0415 - what shows runs judges nothing

    facts = snapshot.documents.all_facts(DocumentKind.VERIFIED)
    reasons = {node: outcome.message for node, outcome in snapshot.ended().items()}
    findings = judge(cluster_facts(snapshot.cluster, facts, reasons, snapshot.documents.family_digests()))
    return Go(documents=(Document(DocumentKind.FINDINGS, "verify", findings.model_dump_json()),))


def to_remove(snapshot: Snapshot) -> Sequence[str]:
    """Every server that may have a canary: all, once one was placed or seen; again while the sync still runs."""
    view = SyncView(snapshot)
    done = view.texts(REMOVE)
    turns = sum(turn.stage == REMOVE for turn in snapshot.record.turns)
    if turns:
        again = turns < _REMOVALS and any(STILL_RUNS in text for text in done.values())
        return [node for node in done if again]
    if not snapshot.in_stage(PLACE) and not any(seen.canaries for seen in view.sites.values()):
        return []
    refused = {node for node, one in snapshot.ended().items() if one.slug == LogonRefused.slug}
    return [node for node in snapshot.cluster.node_names if node not in refused]


def proven(snapshot: Snapshot) -> Go | Stop:
    """The verdict of a proof, after everything of it was removed."""
    if to_remove(snapshot):
        return Go()
    stop = _judged(snapshot)
    if left := _left(snapshot):
        what = f"{stop.summary}. A canary may be left on {named(left)}: esync cleanup FILE"
        return replace(stop, verdict=Verdict.FAILED if stop.verdict is Verdict.PROVEN else stop.verdict, summary=what)
    return stop


def _judged(snapshot: Snapshot) -> Stop:
    if cancelled := snapshot.steering.cancelled:
        return Stop(Verdict.CANCELLED, f"cancelled: {cancelled}")
    view, ended = SyncView(snapshot), snapshot.ended()
    if not view.had(WATCH):
        decision = may_prove(snapshot)
        out = taken_out(snapshot) if isinstance(decision, Go) else decision
        begun = start_begun(snapshot) if isinstance(out, Go) else out
        return _with_cause(snapshot, begun) if isinstance(begun, Stop) else _NOT_WATCHED
    missing = _missing(snapshot)
    silent = [node for node in missing if ended.get(node) and ended[node].status is Status.UNREACHABLE]
    if lacking := [node for node in missing if node not in silent]:
        return _not_reached(snapshot, lacking)
    if silent:
        return Stop(Verdict.UNREACHABLE, f"{named(silent)} did not answer; the file reached every other server")
    if (outcome := ended.get(view.asked.node)) is not None:
        return Stop(Verdict.FAILED, f"the file reached every server, but {outcome.message}")
    last = max(view.files, key=lambda node: view.files[node].seconds or 0.0)
    seconds = view.files[last].seconds or 0.0
    return Stop(
        Verdict.PROVEN,
        f"the file reached {counted(len(view.files), 'server')}, {last} as the last after {seconds:.1f} s",
    )


def _not_reached(snapshot: Snapshot, lacking: Sequence[str]) -> Stop:
    if why := SyncView(snapshot).unseen:
        return Stop(Verdict.INCONCLUSIVE, f"whether the file reached {named(lacking)} is not known: {why}")
    causes, of = causes_of(snapshot), len(snapshot.cluster.nodes)
    why = f": {causes[lacking[0]].because}" if lacking[0] in causes else ""
    return Stop(Verdict.REFUTED, f"the file did not reach {named(lacking)} ({len(lacking)} of {of} servers){why}")


def _with_cause(snapshot: Snapshot, stop: Stop) -> Stop:
    """The end of a run whose sync could not be started, with the cause that the rules have found."""
    found = causes_of(snapshot) if SyncView(snapshot).had(EXAMINE) else {}
    cause = next((one for one in found.values() if one.rule), None)
    return replace(stop, summary=f"{stop.summary}. The likely cause: {cause.because}") if cause else stop


def _missing(snapshot: Snapshot) -> list[str]:
    """The servers on which the file was not seen; it was put on the one on which the sync is started."""
    view = SyncView(snapshot)
    return [node for node in snapshot.cluster.node_names if node not in view.arrived]


def _left(snapshot: Snapshot) -> list[str]:
    """The servers from which the removal of a canary is not known to have succeeded."""
    if not snapshot.in_stage(PLACE):
        return []
    removed = snapshot.of_stage(REMOVE)
    fine = {Status.CHANGED, Status.UNCHANGED}
    texts = SyncView(snapshot).texts(REMOVE)
    return [
        node
        for node in snapshot.cluster.node_names
        if node not in removed or removed[node].status not in fine or STILL_RUNS in texts.get(node, "")
    ]


def to_refresh(snapshot: Snapshot) -> Sequence[str]:
    """The server on which the refresh is started, until it has ended."""
    view = SyncView(snapshot)
    done = view.refreshed is not None and view.refreshed.final
    return [] if done or view.asked.node in snapshot.ended() else [view.asked.node]


def refreshed(snapshot: Snapshot) -> Go | Stop:
    """The verdict of a refresh."""
    if to_refresh(snapshot):
        return Go()
    node = SyncView(snapshot).asked.node
    if (outcome := snapshot.ended().get(node)) is not None:
        return Stop(Verdict.FAILED, failures([node], {node: outcome}))
    last = snapshot.of_stage(REFRESH).get(node)
    return Stop(Verdict.SYNCED, f"{node}: {last.message if last else 'done'}")
