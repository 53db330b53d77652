"""Runs of the server of ESYNC_SERVER: find one, or look at several, steer them as `esync pause` does."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from pipelines.cli.board import Board, Row, show_board
from pipelines.cli.console import stderr_console
from pipelines.cli.results import is_active
from pipelines.cluster_file.loader import load_cluster
from pipelines.report.many import without_this_command
from pipelines.report.rows import Report
from pipelines.run.groups import MOST, Place, in_line
from pipelines.run.identity import of_cluster
from pipelines.usecases.listing import RunRow
from pipelines.usecases.naming import LAST, several_meant
from pipelines.usecases.status import RunStatus
from pipelines.web.client import EsyncClient
from tasks.cluster import Cluster
from tasks.steering import Steering
from workers.errors import EsyncError, InputRefused, NotFound, RecordRefused, RunUnknown
from workers.records import RunRecord, RunState, Verdict

__all__ = ["ServerRuns", "found", "runs_of"]

INTERVAL = 2.0  #: seconds between two looks
_RECENT = 100  #: runs among which the newest one of a cluster is searched
_LIST = "list them: esync runs"


def found(client: EsyncClient, name: str, *, active: bool = False, any_cluster: bool = False) -> RunRecord:
    """The run of that id, or the newest one of a cluster, or of all (`last`).

    Args:
        client: of the server.
        name: an id; the name of a cluster, `name@digest`, or the name of its file on the server; a file of this
            machine; or `last`.
        active: only runs that have not ended are meant; a run named by its id may have.
        any_cluster: `last` is the newest run of all clusters: the command only looks.

    Raises:
        RunUnknown: there is no such run.
        InputRefused: it is not clear which cluster is meant.
    """
    if Path(name).suffix in {".yaml", ".yml"}:
        return _newest_of(client, load_cluster(Path(name)), active=active)
    if name != LAST:
        with suppress(RunUnknown, InputRefused):  # refused: it is no id
            return client.record(name)
    rows = _newest(client, name, active=active) or _of_file(client, name, active=active)
    if not rows:
        raise RunUnknown(f"the server has no {'active run' if active else 'run'} {name!r}", remedy=_LIST)
    each = {(row.cluster, row.servers): row for row in reversed(rows)}
    if len(each) > 1 and not (any_cluster and name == LAST):
        newest = sorted(each.values(), key=lambda row: row.created, reverse=True)
        raise several_meant(name, [(row.run, (row.cluster, row.servers)) for row in newest])
    return client.record(rows[0].run)


def _newest_of(client: EsyncClient, cluster: Cluster, *, active: bool = False) -> RunRecord:
    """The newest run of a cluster, of which a file on this machine says what it is.

    Raises:
        RunUnknown: there is none.
    """
    for row in _newest(client, cluster.name, active=active):
        record = client.record(row.run)
        if of_cluster(record, cluster):
            return record
    what = "active run" if active else "run"
    raise RunUnknown(f"the server has no {what} of cluster {cluster.name}", remedy=_LIST)


def _newest(client: EsyncClient, name: str, *, active: bool) -> list[RunRow]:
    """The newest runs of a cluster, or of all (`last`); none that was refused because its servers were locked."""
    cluster, _, digest = ("" if name == LAST else name).partition("@")
    rows = client.runs(limit=_RECENT, cluster=cluster, state="active" if active else "")
    return [row for row in rows if row.verdict is not Verdict.LOCKED and row.servers.startswith(digest)]


def _of_file(client: EsyncClient, name: str, *, active: bool) -> list[RunRow]:
    """The same of the cluster in the server's file of that name; none if there is no such file."""
    rows: tuple[RunRow, ...] = ()
    with suppress(NotFound, InputRefused):
        rows = client.cluster(name).last
    ended = RunState.CONCLUDED if active else None
    return [row for row in rows if row.verdict is not Verdict.LOCKED and row.state is not ended]


def runs_of(client: EsyncClient, clusters: Sequence[Cluster], limit: int) -> list[RunRow]:
    """The newest runs of these clusters, of which files on this machine say what they are; the newest first."""
    found: dict[str, RunRow] = {}
    for cluster in clusters:
        rows = (row for row in client.runs(limit=MOST, cluster=cluster.name) if _is_of(client, row, cluster))
        found |= {row.run: row for row in islice(rows, limit)}
    return sorted(found.values(), key=lambda row: row.created, reverse=True)[:limit]


def _is_of(client: EsyncClient, row: RunRow, cluster: Cluster) -> bool:
    return row.servers == cluster.digest or of_cluster(client.record(row.run), cluster)


def _steering(now: RunStatus) -> Steering:
    return Steering(now.cancelling, now.paused, held=now.held, unapproved=now.unapproved)


class ServerRuns:
    """A `RunSource` whose runs can be `Steered`. What the server says of missing workers is kept from look to look."""

    def __init__(self, client: EsyncClient) -> None:
        self._client = client
        self._waiting: dict[str, str] = {}

    def in_line(self) -> Collection[str]:
        """The runs that wait for their turn in a group."""
        return in_line(row.run for row in self._client.runs(limit=MOST, state="active"))

    def row(self, run: str) -> Row:
        """The run now."""
        record = self._client.record(run)
        if not is_active(record):
            return Row(record)
        now = self.status(run)
        return Row(record, done=now.turn_done, steering=_steering(now))

    def record(self, run: str) -> RunRecord:
        """See RunSource."""
        return self._client.record(run)

    def named(self, name: str) -> RunRecord:
        """See RunSource."""
        return found(self._client, name, any_cluster=True)

    def of_group(self, group: str) -> Sequence[str]:
        """See RunSource."""
        rows = {place: row.run for row in self._client.runs(limit=MOST, group=group) if (place := Place.of(row.run))}
        return [rows[place] for place in sorted(rows)]

    def active(self, name: str) -> RunRecord:
        """See Steered."""
        return found(self._client, name, active=True)

    def steering(self, run: str) -> Steering | None:
        """See Steered."""
        now = self._client.status(run)
        return None if now.state is RunState.CONCLUDED else _steering(now)

    def pause(self, run: str, reason: str) -> None:
        """See Steered."""
        self._client.pause(run, reason)

    def resume(self, run: str) -> None:
        """See Steered."""
        self._client.resume(run)

    def promote(self, run: str, by: str) -> str:
        """See Steered. The server knows who asks."""
        del by
        held = self._client.status(run).held
        if not held:
            raise InputRefused(f"run {run} is not held", remedy=f"look at it: esync status {run}")
        self._client.promote(run, held)
        return held

    def cancel(self, run: str, reason: str) -> None:
        """See Steered."""
        self._client.cancel(run, reason)

    def newest(self, clusters: Sequence[Cluster]) -> Sequence[RunRecord | None]:
        """See RunSource."""
        newest: list[RunRecord | None] = []
        for cluster in clusters:
            newest.append(None)
            with suppress(RunUnknown):
                newest[-1] = _newest_of(self._client, cluster)
        return newest

    def waits(self, records: Sequence[RunRecord]) -> Mapping[str, str]:
        """See RunSource."""
        said = dict[str, str]()
        for record in filter(is_active, records):
            with suppress(RecordRefused):
                said[record.id] = self.status(record.id).waiting
        return {run: text for run, text in said.items() if text}

    def shown(self, records: Sequence[RunRecord], called: Mapping[str, str]) -> None:
        """Shows these runs until all have ended. A look at each of them costs the server more than one at the store."""
        if not records:
            return
        board = Board(self, records, called)

        def trouble() -> str:
            return next((text for one in board.at_work if (text := self._waiting.get(one.id, ""))), "")

        show_board(board, stderr_console(), trouble, interval=INTERVAL)

    def continues(self, records: Sequence[RunRecord]) -> str:
        """Which of them go on without this command; all, if the server does not say."""
        left = list(records)
        with suppress(EsyncError):
            active = {row.run for row in self._client.runs(limit=MOST, state="active")}
            left = [record for record in records if record.id in active]
        return "\n" + "\n".join(without_this_command(records, left))

    def status(self, run: str) -> RunStatus:
        """See RunSource."""
        status = self._client.status(run)
        self._waiting[run] = status.waiting
        return status

    def report(self, record: RunRecord) -> Report:
        """See RunSource."""
        return self._client.report(record.id)
