"""What a run about a sync has found, as text. Pure."""

from collections.abc import Iterator, Sequence

from pipelines.report.layout import printable, wrapped
from pipelines.report.sync_rows import ServerRow, SyncReport
from tasks.ektron.sync.answers import Entry
from tasks.ektron.sync.progress import phase_of

__all__ = ["sync_lines"]

_ENTRIES = 12  #: of a sync that are shown


def sync_lines(report: SyncReport) -> Iterator[str]:
    """The servers, then the sync, in the order in which an operator asks."""
    if report.kind == "sync-prove" and any(server.arrived is not None for server in report.servers):
        yield from _proof(report.servers)
    elif report.kind in {"sync-status", "sync-clear"}:
        for server in report.servers:
            yield from _server(server)
    for peer in report.peers:
        yield f"{printable(peer.node)}  {peer.state.value.replace('_', ' ')}: {printable(peer.why)}"
    if report.start and (report.profile or report.state):
        direction = f" ({printable(report.direction)})" if report.direction else ""
        yield f"sync   {printable(report.profile)}{direction} on {report.start}: {report.state or 'not followed'}"
    yield from _entries(report.entries)
    if report.gate:
        yield from wrapped(f"to do: {report.gate}: esync retry {report.run}")


def _proof(servers: Sequence[ServerRow]) -> Iterator[str]:
    width = max(len(server.node) for server in servers)
    for server in servers:
        yield f"{server.node:<{width}}  {_arrival(server)}"
        if server.cause is not None:
            row = f" (failure table, row {server.cause.row})" if server.cause.row else ""
            likely = "cause" if server.cause.certain else "possible cause"
            yield from wrapped(f"{likely}: {printable(server.cause.because)}{row}")
            if server.cause.remedy:
                yield from wrapped(f"Fix: {printable(server.cause.remedy)}")
        if server.difference:
            yield from wrapped(f"differs: {server.difference}")


def _arrival(server: ServerRow) -> str:
    if server.arrived:
        bound = "at most " if server.first_look else ""
        return f"arrived  after {bound}{server.seconds or 0.0:.1f} s"
    return f"{'missing' if server.arrived is False else 'unknown'}  {printable(server.problem)}".rstrip()


def _server(server: ServerRow) -> Iterator[str]:
    if not server.service and server.listening is None:
        yield f"{server.node}  not asked: {printable(server.problem)}"
        return
    listening = "listens" if server.listening else "does not listen"
    yield f"{server.node}  service {server.service or 'not installed'}, {listening}; {_running(server)}"
    if server.site_problem:
        yield from wrapped(f"site: {printable(server.site_problem)}")
    elif server.profiles_problem:
        yield from wrapped(f"profiles: {printable(server.profiles_problem)}")
    for profile in server.profiles:
        last = profile.last[-1] if profile.last else None
        ended = f"last: {phase_of(last.code)} {last.date}" if last else "never run"
        items = ", ".join(profile.items) or "no items"
        text = f"profile {profile.name}: {profile.direction}, {items}, {profile.remote}; {ended}"
        yield from wrapped(printable(text))
    if server.balance:
        yield from wrapped(f"load balancing: {server.balance}")
    if server.status_files:
        yield from wrapped(f"status files: {', '.join(map(printable, server.status_files[:10]))}")
    if server.canaries:
        yield from wrapped(f"left by a proof: {', '.join(map(printable, server.canaries[:10]))}; esync cleanup FILE")


def _running(server: ServerRow) -> str:
    if server.running is None:
        return "whether a sync is running is not known"
    return f"a sync is running: {printable(server.running)}" if server.running else "no sync is running"


def _entries(entries: Sequence[Entry]) -> Iterator[str]:
    if len(entries) > _ENTRIES:
        yield f"  ... {len(entries) - _ENTRIES} earlier entries"
    for entry in entries[-_ENTRIES:]:
        message = f": {printable(entry.message)}" if entry.message else ""
        yield from wrapped(f"{printable(entry.date)}  {printable(phase_of(entry.code))}{message}".strip())
