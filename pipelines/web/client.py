"""A client of the HTTP API, for Python programs and for `esync` with ESYNC_SERVER.

    from pipelines.web.client import EsyncClient

    with EsyncClient("https://esync.example.net", token) as esync:
        run = esync.start("shop", kind="rollout", reason="deploy 4711", key="deploy-4711")
        for event in esync.events(run.run):
            ...

Answers are the values that `--json` prints; refusals are the errors of `workers.errors`, by their slug.
"""

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from pipelines.report.rows import Report
from pipelines.run.explained import NodeAnswer
from pipelines.usecases.attest import Questions
from pipelines.usecases.listing import RunRow
from pipelines.usecases.overview import ClusterFileText, ClusterOverview
from pipelines.usecases.plan_file import SavedPlan
from pipelines.usecases.status import RunStatus
from tasks.ektron.rules.confirmations import Confirmation
from workers import errors
from workers.errors import EsyncError, StoreUnavailable
from workers.records import Event, Record, RunRecord
from workers.settings import Secret
from workers.texts import cleaned

__all__ = ["EsyncClient"]

ANSWER = 30.0  #: seconds that a server has to answer
SILENCE = 60.0  #: seconds without anything on an event stream after which the connection counts as broken
PATIENCE = 60.0  #: seconds for which a request that changes nothing is repeated
FIRST = 5.0  #: seconds of that for a server that has never answered: its address may be wrong
PAUSE = 0.5  #: seconds between two tries
_PROBLEM = "application/problem+json"
_WITHOUT_OWN_ARGUMENTS = {
    one.slug: one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, EsyncError)
}

R = TypeVar("R", bound=Record)
T = TypeVar("T")


class EsyncClient:
    """A client of one server. Safe for one thread.

    Args:
        server: its URL.
        token: from `esync token create`; goes to that server only, in a header.
        verify: how its certificate is checked; by default with the authorities of the system.
    """

    def __init__(self, server: str, token: str | Secret, *, verify: ssl.SSLContext | bool = True) -> None:
        text = token.reveal() if isinstance(token, Secret) else token
        self._server = server.rstrip("/")
        self._patience = FIRST
        self._http = httpx.Client(
            base_url=f"{self._server}/api/v1/",
            headers={"Authorization": f"Bearer {text}"},
            timeout=ANSWER,
            verify=verify,
            follow_redirects=False,  # the token is for this server
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    # Clusters

    def clusters(self) -> tuple[ClusterOverview, ...]:
        """The clusters that the caller may see, by name."""
        found = self._get("clusters")
        return self._read(lambda: tuple(map(ClusterOverview.model_validate, found.json()["clusters"])))

    def cluster(self, name: str) -> ClusterOverview:
        """A cluster, with what its newest runs say."""
        return self._value(ClusterOverview, f"clusters/{name}")

    def cluster_file(self, name: str) -> ClusterFileText:
        """A cluster file as it is, with the place of each mistake."""
        return self._value(ClusterFileText, f"clusters/{name}/file")

    def questions(self, name: str) -> Questions:
        """The questions about a cluster that only a person can answer, each with its answer."""
        return self._value(Questions, f"clusters/{name}/questions")

    def answer(self, name: str, rule: str, *, until: date, note: str) -> Confirmation:
        """Confirms a statement about a cluster, as the caller, until that day."""
        sent = self._sent("PUT", f"clusters/{name}/questions/{rule}", {"until": until.isoformat(), "note": note})
        return self._read(lambda: Confirmation.model_validate_json(sent.content))

    def withdraw(self, name: str, rule: str) -> None:
        """Removes an answer: the question is asked again."""
        self._sent("DELETE", f"clusters/{name}/questions/{rule}")

    # Runs

    def start(
        self,
        cluster: str,
        *,
        kind: str = "rollout",
        nodes: Sequence[str] = (),
        key: str = "",
        **more: str | bool,
    ) -> RunRow:
        """Starts a run of a cluster file of the server.

        Args:
            cluster: the name of the file, without its suffix.
            kind: `rollout`, `verify`, `plan`, `doctor` or `cleanup`.
            nodes: names or patterns; none for all.
            key: idempotency key: the same key twice is one run.
            more: `prune`, `plan`, `everything`, `reason`: as `StartRequest` has them.
        """
        return self._started("runs", {"cluster": cluster, "kind": kind, "nodes": [*nodes], **more}, key)

    def start_group(
        self,
        clusters: Sequence[str],
        *,
        kind: str = "rollout",
        at_most: int,
        plans: Mapping[str, str] | None = None,
        **more: str | bool,
    ) -> tuple[RunRow, ...]:
        """Starts a run for each of these cluster files, in this order, so many at a time.

        Args:
            clusters: the names of the files.
            kind: `rollout`, `verify`, `plan` or `doctor`.
            at_most: runs at the same time.
            plans: of a rollout: the runs whose plans are applied exactly, by file.
            more: `prune`, `reason`: as `GroupRequest` has them.
        """
        given = {name: value for name, value in more.items() if value}
        body = {"clusters": [*clusters], "kind": kind, "at_most": at_most, "plans": dict(plans or {}), **given}
        answer = self._post("groups", body, "")
        return self._read(partial(_rows_of_group, answer))

    def retry(self, run: str, which: Sequence[str] = (), *, reason: str = "", key: str = "") -> RunRow:
        """Finishes the unfinished nodes of a run; of `failed`, `unreachable`, `not_started`, or all of them."""
        return self._started(f"runs/{run}/retry", {"which": [*which], "reason": reason}, key)

    def rollback(
        self,
        run: str,
        nodes: Sequence[str] = (),
        *,
        force: bool = False,
        all_at_once: bool = False,
        reason: str = "",
        key: str = "",
    ) -> RunRow:
        """Undoes a run, on these nodes or on all that it may have written to."""
        asked: dict[str, object] = {"nodes": [*nodes], "force": force, "reason": reason}
        if all_at_once:  # a server before this field would refuse it
            asked["all_at_once"] = True
        return self._started(f"runs/{run}/rollback", asked, key)

    def runs(self, *, limit: int = 20, **wanted: str) -> Iterator[RunRow]:
        """The newest runs, at most so many; filtered by `cluster`, `kind`, `state`, `verdict`, `who`, `group`."""
        after, left = "", limit
        while left > 0:
            page = self._get("runs", {**wanted, "limit": str(min(left, 100)), "after": after})
            rows, after = self._read(partial(_rows, page))
            yield from rows
            left -= len(rows)
            if not after:
                return

    def status(self, run: str) -> RunStatus:
        """The status of a run."""
        return self._value(RunStatus, f"runs/{run}")

    def record(self, run: str) -> RunRecord:
        """The record of a run: its cluster as data, and its turns so far."""
        return self._value(RunRecord, f"runs/{run}/record")

    def plan(self, run: str) -> SavedPlan:
        """The plan of a run, as `esync plan -o` writes it."""
        return self._value(SavedPlan, f"runs/{run}/plan")

    def report(self, run: str) -> Report:
        """Everything about a run."""
        return self._value(Report, f"runs/{run}/report.json")

    def report_as(self, run: str, form: str) -> str:
        """The report as `html` page or as JUnit `xml`."""
        return self._get(f"runs/{run}/report.{form}").text

    def bundle(self, run: str) -> bytes:
        """The bundle of a run that has ended."""
        return self._get(f"runs/{run}/bundle").content

    def history(self, run: str, after: str = "") -> tuple[Event, ...]:
        """The events of a run after the one with that id, at most 1,000."""
        found = self._get(f"runs/{run}/history", {"after": after})
        return self._read(lambda: tuple(map(Event.model_validate, found.json()["events"])))

    def events(self, run: str, after: str = "") -> Iterator[Event]:
        """The events of a run as they happen, until it has ended; a connection that breaks is opened again.

        Raises:
            StoreUnavailable: the server has not answered for a minute.
        """
        lost = 0.0
        while True:
            try:
                for sent in self._stream(run, after):
                    lost = 0.0
                    if sent is None:
                        return
                    after = sent.id
                    yield sent
            except httpx.TransportError as error:
                lost = lost or time.monotonic()
                if time.monotonic() - lost > self._patience:
                    raise self._no_answer(error) from None
            time.sleep(PAUSE)

    def explain(self, node: str, target: str = "last") -> NodeAnswer:
        """Why a node is not joined: from a run, or the newest run that checked that cluster, or any (`last`)."""
        found = self._get(f"explanations/{quote(node, safe='')}", {"target": target})
        return self._read(lambda: NodeAnswer.model_validate_json(found.content))

    # Steering

    def pause(self, run: str, reason: str = "") -> RunStatus:
        """Starts no further step of a run."""
        return self._steer(run, "pause", {"reason": reason})

    def resume(self, run: str) -> RunStatus:
        """Continues a paused run."""
        return self._steer(run, "resume")

    def promote(self, run: str, turn: str) -> RunStatus:
        """Lets a held run begin that turn."""
        return self._steer(run, "promote", {"turn": turn})

    def approve(self, run: str, plan: str) -> RunStatus:
        """Approves the plan with that fingerprint, of a run that another person requested."""
        return self._steer(run, "approve", {"plan": plan})

    def cancel(self, run: str, reason: str = "") -> RunStatus:
        """Stops a run at the next safe point."""
        return self._steer(run, "cancel", {"reason": reason})

    def _steer(self, run: str, verb: str, body: dict[str, str] | None = None) -> RunStatus:
        answer = self._post(f"runs/{run}/{verb}", body)
        return self._read(lambda: RunStatus.model_validate_json(answer.content))

    def _started(self, path: str, body: dict[str, Any], key: str) -> RunRow:
        given = {name: value for name, value in body.items() if value or name == "cluster"}
        answer = self._post(path, given, key)
        return self._read(lambda: RunRow.model_validate_json(answer.content))

    def _value(self, kind: type[R], path: str) -> R:
        answer = self._get(path)
        return self._read(lambda: kind.model_validate_json(answer.content))

    def _read(self, read: Callable[[], T]) -> T:
        """What an answer says.

        Raises:
            StoreUnavailable: nothing of esync's, such as the page of a proxy; or of another version.
        """
        try:
            return read()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreUnavailable(
                f"the answer of {self._server} is not that of an esync server, or of one of another version",
                remedy="check ESYNC_SERVER, the proxy before it, and the versions: esync --version",
            ) from None

    def _get(self, path: str, query: dict[str, str] | None = None) -> httpx.Response:
        """Asks again while the server does not answer: it changes nothing."""
        until = time.monotonic() + self._patience
        while True:
            try:
                return self._accepted(self._http.get(path, params=query))
            except httpx.TransportError as error:
                if time.monotonic() > until or isinstance(error, httpx.LocalProtocolError):
                    raise self._no_answer(error) from None
            time.sleep(PAUSE)

    def _post(self, path: str, body: dict[str, Any] | None, key: str = "") -> httpx.Response:
        return self._sent("POST", path, body, {"Idempotency-Key": key} if key else {})

    def _sent(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        try:
            return self._accepted(self._http.request(method, path, json=body, headers=headers))
        except httpx.TransportError as error:
            raise self._no_answer(error) from None

    def _stream(self, run: str, after: str) -> Iterator[Event | None]:
        """The events of one connection; None at the end of the run."""
        headers = {"Last-Event-ID": after} if after else {}
        times = httpx.Timeout(ANSWER, read=SILENCE)
        with self._http.stream("GET", f"runs/{run}/events", headers=headers, timeout=times) as answer:
            if not answer.is_success:
                answer.read()
            self._accepted(answer)
            told, kind = "", ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    told = value
                elif name == "event":
                    kind = value
                elif name == "data" and kind == "end":
                    yield None
                elif name == "data" and kind == "error":
                    raise _error_of(json.loads(value), 0)
                elif name == "data":
                    yield Event.model_validate_json(value).model_copy(update={"id": told})

    def _accepted(self, answer: httpx.Response) -> httpx.Response:
        """The answer, unless it is a refusal.

        Raises:
            EsyncError: the one that the server names.
        """
        self._patience = PATIENCE
        if answer.is_success:
            return answer
        if answer.headers.get("content-type") == _PROBLEM:
            raise self._read(lambda: _error_of(answer.json(), answer.status_code))
        raise StoreUnavailable(
            f"the server at {self._server} answered with {answer.status_code}, and not in the way of esync",
            remedy="check ESYNC_SERVER, and the proxy before it",
        )

    def _no_answer(self, error: httpx.TransportError) -> StoreUnavailable:
        why = cleaned(str(error), 200) or type(error).__name__
        return StoreUnavailable(
            f"the server at {self._server} does not answer: {why}",
            remedy="check ESYNC_SERVER, and that esync serve runs",
        )


def _rows(answer: httpx.Response) -> tuple[list[RunRow], str]:
    page = answer.json()
    return [RunRow.model_validate(row) for row in page["runs"]], str(page["next"])


def _rows_of_group(answer: httpx.Response) -> tuple[RunRow, ...]:
    return tuple(RunRow.model_validate(row) for row in answer.json()["runs"])


def _error_of(problem: dict[str, Any], status: int) -> EsyncError:
    """The error that a problem document is about."""
    kind = _WITHOUT_OWN_ARGUMENTS.get(str(problem.get("error", problem.get("slug", ""))), EsyncError)
    message, told = str(problem.get("message", f"refused with {status}")), ("remedy", "file")
    if kind is errors.RecordRefused:  # which run was asked for the caller knows
        return errors.RecordRefused("", message, remedy=str(problem.get("remedy", "")))
    try:
        return kind(message, **{name: str(problem.get(name, "")) for name in told})
    except TypeError:  # an error with arguments of its own
        return EsyncError(message, **{name: str(problem.get(name, "")) for name in told})
