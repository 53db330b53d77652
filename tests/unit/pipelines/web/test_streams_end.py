"""A stream ends for who may not look any more, and for no one else."""

import threading
from pathlib import Path

import httpx
import pytest

from pipelines.usecases.tokens import Role, revoke_token
from pipelines.web import streams
from pipelines.web.access import Access
from pipelines.web.api import events
from pipelines.web.pages import stream
from tests.unit.pipelines.web.served_site import ServedSite, served_site
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that comes from time to time comes soon."""
    monkeypatch.setattr(streams, "QUIET", 0.1)
    monkeypatch.setattr(events, "ASKED_AGAIN", 0.0)
    monkeypatch.setattr(stream, "_QUIET", 0.1)
    monkeypatch.setattr(stream, "_ASKED_AGAIN", 0.0)


class Listener:
    """Reads a stream in the background."""

    def __init__(self, client: httpx.Client, path: str) -> None:
        self.lines: list[str] = []
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self._listen, args=(client, path), daemon=True)
        self.thread.start()

    def _listen(self, client: httpx.Client, path: str) -> None:
        with client.stream("GET", path) as answer:
            for line in answer.iter_lines():
                self.lines.append(line)
                if self.enough.is_set():
                    return

    def stop(self) -> None:
        """Closes the connection."""
        self.enough.set()
        self.thread.join()


@pytest.mark.parametrize("path", ["/api/v1/runs/RUN/events", "/moves?run=RUN", "/moves"])
def test_a_stream_ends_when_its_token_is_revoked(tmp_path: Path, path: str) -> None:
    """That of another token does not."""
    with served_site(tmp_path) as served:
        run = started(served)
        kept, revoked = served.client(Role.VIEWER), served.client(Role.VIEWER)
        listeners = [Listener(one, path.replace("RUN", run)) for one in (kept, revoked)]
        wait_until(lambda: all(len(one.lines) > 4 for one in listeners), lambda: str([one.lines for one in listeners]))
        revoke_token(served.site.engine, revoked.headers["Authorization"].split("-")[1])
        listeners[1].thread.join(60)
        heard = len(listeners[0].lines)
        wait_until(lambda: len(listeners[0].lines) > heard + 4)
        assert [True, False] == [one.thread.is_alive() for one in listeners]
        assert path == "/moves" or "event: end" not in listeners[1].lines
        assert path.startswith("/api/") or "event: off" in listeners[1].lines
        listeners[0].stop()


@pytest.mark.parametrize("path", ["/api/v1/runs/RUN/events", "/moves?run=RUN", "/moves"])
def test_a_caller_has_so_many_streams_open(tmp_path: Path, path: str) -> None:
    """One more is refused before it begins, also with another token of that caller; others are not concerned."""
    with served_site(tmp_path, Access(streams=2)) as served:
        place = path.replace("RUN", started(served))
        ann, other, bob = served.client(Role.VIEWER), served.client(Role.VIEWER), served.client(Role.VIEWER, name="bob")
        listeners = [Listener(one, place) for one in (ann, other, bob)]
        wait_until(lambda: all(one.lines for one in listeners))
        refused = other.get(place)
        assert (429, True) == (refused.status_code, "2 of one caller may be open" in refused.text)
        listeners[0].stop()
        wait_until(lambda: opened(other, place))  # the server has to notice that the first one is closed
        for one in listeners[1:]:
            one.stop()


def opened(client: httpx.Client, path: str) -> bool:
    """Whether a stream can be opened; it is closed then."""
    with client.stream("GET", path) as answer:
        return answer.status_code == 200


def started(served: ServedSite) -> str:
    """A run that lasts: no one takes its messages."""
    return str(served.client().post("/api/v1/runs", json={"kind": "verify", "cluster": "shop"}).json()["run"])
