"""What a run about a sync has found, as one value: the documented JSON (docs/sync-schema.json). Pure."""

from collections import Counter
from collections.abc import Sequence

from pipelines.run.snapshot import Snapshot
from pipelines.run.sync_view import START, SyncView, causes_of, expected
from tasks.ektron.propagation import Propagation, Reach
from tasks.ektron.sync.answers import Entry
from tasks.ektron.sync.balance import PeerEvidence, balance_ended
from tasks.ektron.sync.causes import Cause
from tasks.ektron.sync.progress import SyncState
from tasks.ektron.sync.search import search_config
from tasks.ektron.sync.seen import FileSeen, SiteSeen
from workers.records import Record
from workers.texts import cleaned_all

__all__ = ["ProfileRow", "ServerRow", "SyncReport", "build_sync"]


class ProfileRow(Record):
    """A sync profile, and its last sync."""

    name: str
    id: str
    direction: str
    items: tuple[str, ...]
    remote: str  #: database and server at the other end
    last: tuple[Entry, ...] = ()  #: the newest entries of its last sync
    complete: bool | None = None  #: None if that is not known


class ServerRow(Record):
    """One server.

    Attributes:
        service: state of the Windows service; empty if it is not installed or not known.
        site_problem: why the site could not be asked.
        login: `accepted`, `none` or the reason why the site user was not accepted.
        profiles_problem: why the profiles are not known.
        running: the name of the sync that was running before anything was done; None if that is not known.
        balance: `never`, `ended`, `unfinished`, or empty if it is not known.
        arrived: whether the canary arrived; None if it was not sent, or that is not known.
        seconds: from the start of the sync until it was seen; an upper bound if `first_look`.
        procedure: what `esync propagate` says about this server: `yes`, `no`, `unknown`; empty without a direction.
        difference: where that differs from what was seen.
        cause: the most likely one, where the file did not arrive.
    """

    node: str
    role: str
    pool: str
    service: str = ""
    listening: bool | None = None
    site: str = ""
    site_problem: str = ""
    login: str = ""
    profiles_problem: str = ""
    running: str | None = None
    profiles: tuple[ProfileRow, ...] = ()
    balance: str = ""
    balance_entries: tuple[Entry, ...] = ()
    status_files: tuple[str, ...] = ()
    canaries: tuple[str, ...] = ()
    problem: str = ""
    arrived: bool | None = None
    seconds: float | None = None
    first_look: bool = False
    procedure: str = ""
    difference: str = ""
    cause: Cause | None = None


class SyncReport(Record):
    """A run about a sync.

    Attributes:
        start: the server on which a sync or a refresh was started; empty for a look.
        how: how the sync was started, or what showed that it has begun.
        state: of the sync: `waiting`, `running`, `ended`, `failed`, `lost`; empty if it was not followed.
        entries: of the sync, or of the refresh.
        peers: the evidence of a refresh.
        gate: what a person has to do before the next sync; empty if nothing is known.
    """

    run: str
    kind: str
    cluster: str
    verdict: str | None
    exit_code: int | None
    summary: str
    start: str = ""
    profile: str = ""
    direction: str = ""
    how: str = ""
    state: str = ""
    entries: tuple[Entry, ...] = ()
    peers: tuple[PeerEvidence, ...] = ()
    gate: str = ""
    servers: tuple[ServerRow, ...] = ()


def build_sync(snapshot: Snapshot) -> SyncReport:
    """The report of a run in its current state. No text of it has control characters."""
    whole = _built(snapshot).model_dump(mode="json")
    return SyncReport.model_validate(cleaned_all(whole))


def _built(snapshot: Snapshot) -> SyncReport:
    record, view = snapshot.record, SyncView(snapshot)
    followed = view.files.get(view.asked.node)
    watched = followed.watched if followed else None
    refreshed, begun = view.refreshed, view.begun
    servers = _servers(snapshot, view)
    return SyncReport(
        run=record.id,
        kind=record.kind,
        cluster=record.cluster,
        verdict=record.verdict.value if record.verdict else None,
        exit_code=record.verdict.exit_code if record.verdict else None,
        summary=record.summary,
        start=view.asked.node,
        profile=begun.name if begun else view.asked.profile,
        direction=begun.direction if begun else "",
        how=begun.how if begun else "",
        state=watched.state.value if watched else "",
        entries=(refreshed.entries if refreshed else ()) or (watched.entries if watched else ()),
        peers=refreshed.peers if refreshed else (),
        gate=_gate(snapshot, servers) if watched and watched.state in {SyncState.FAILED, SyncState.LOST} else "",
        servers=servers,
    )


def _gate(snapshot: Snapshot, servers: Sequence[ServerRow]) -> str:
    """The load-balanced servers that lack the file, or all of them where no file was sent."""
    sizes = Counter(server.pool for server in servers)
    balanced = [server.node for server in servers if sizes[server.pool] > 1 and not server.arrived]
    cluster = snapshot.cluster
    return search_config(cluster.edition, cluster.site.path, balanced) if balanced else ""


def _servers(snapshot: Snapshot, view: SyncView) -> tuple[ServerRow, ...]:
    proving = snapshot.record.kind == "sync-prove" and bool(snapshot.in_stage(START))
    direction = view.begun.direction if view.begun else ""
    answer = expected(snapshot.cluster, view.asked.node, direction) if proving else None
    causes = causes_of(snapshot) if proving else {}
    ended = snapshot.ended()
    rows = []
    for node in snapshot.cluster.nodes:
        row = _seen_row(ServerRow(node=node.name, role=node.role.value, pool=node.pool), view.sites.get(node.name))
        outcome = ended.get(node.name)
        row = row.model_copy(update={"problem": outcome.message if outcome else ""})
        if proving:
            arrived = node.name in view.arrived
            row = _proof_row(row, view.files.get(node.name), answer, causes.get(node.name), arrived=arrived)
        rows.append(row)
    return tuple(rows)


def _seen_row(row: ServerRow, seen: SiteSeen | None) -> ServerRow:
    if seen is None:
        return row
    last = {one.profile: one for one in seen.last}
    profiles = tuple(
        ProfileRow(
            name=profile.name,
            id=profile.id,
            direction=profile.direction or relationship.direction,
            items=profile.items,
            remote=f"{relationship.database} on {relationship.server}",
            last=last[profile.name].entries if profile.name in last else (),
            complete=last[profile.name].complete if profile.name in last else None,
        )
        for relationship in seen.relationships
        for profile in relationship.profiles
    )
    running = None if seen.running is None else (seen.running.name or "a sync") if seen.running.running else ""
    return row.model_copy(
        update={
            "service": seen.service,
            "listening": seen.listening,
            "site": seen.site,
            "site_problem": seen.site_problem,
            "login": seen.login,
            "profiles_problem": seen.profiles_problem,
            "running": running,
            "profiles": profiles,
            "balance": _balance(seen),
            "balance_entries": seen.balance.entries[-8:] if seen.balance else (),
            "status_files": tuple(one.name for one in seen.status_files),
            "canaries": seen.canaries,
        }
    )


def _balance(seen: SiteSeen) -> str:
    if seen.balance is None:
        return ""
    if not seen.balance.entries:
        return "never"
    return "ended" if balance_ended(seen.balance) else "unfinished"


def _proof_row(
    row: ServerRow, file: FileSeen | None, answer: Propagation | None, cause: Cause | None, *, arrived: bool
) -> ServerRow:
    reach = next((one.reach for one in answer.servers if one.server == row.node), None) if answer else None
    difference = ""
    forgotten = bool(file and file.forgotten)
    if reach is Reach.YES and not arrived and not forgotten:
        difference = "the procedure says that it receives the file, and it did not"
    if reach is Reach.NO and arrived:
        difference = "the procedure says that it does not receive the file, and it did"
    return row.model_copy(
        update={
            "arrived": None if forgotten else arrived,
            "seconds": file.seconds if file else None,
            "first_look": bool(file and file.first_look),
            "procedure": reach.value if reach else "",
            "difference": difference,
            "cause": cause,
        }
    )
