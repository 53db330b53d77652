"""The prober asks a page while a run is active; one process at a time, and another one when that one is gone."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from typing_extensions import override

from pipelines.engine import Engine
from pipelines.prober import Prober
from pipelines.run.availability import Stretch
from tests.waiting import wait_until
from workers.records import DocumentKind, RunRecord
from workers.secrets.vault import Vault
from workers.settings import Settings
from workers.store.memory import MemoryStore


class _Site(BaseHTTPRequestHandler):
    """Fails while `fails` is set."""

    fails = False

    def do_GET(self) -> None:
        """Answers."""
        self.send_response(503 if type(self).fails else 200)
        self.end_headers()
        self.wfile.write(b"welcome")

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Is quiet."""


@pytest.fixture
def site() -> Iterator[str]:
    """The URL of a site."""
    _Site.fails = False
    with ThreadingHTTPServer(("127.0.0.1", 0), _Site) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_address[1]}/"
        served.shutdown()


class _Clock:
    """Seconds that pass when the test says so."""

    seconds = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.seconds


def _run_of(store: MemoryStore, url: str) -> str:
    probe = {"url": url, "text": "welcome", "every": 0.1}
    spec = {
        "name": "shop",
        "edition": "8.0",
        "origin": "S1",
        "site": {"path": "C:\\site"},
        "connection": {"user": "u", "secret": "env:X"},
        "balancers": {"live": {"kind": "haproxy", "address": "/none", "backend": "www", "probe": probe}},
        "nodes": [{"name": "S1", "host": "10.7.0.1", "role": "production", "pool": "live"}],
    }
    return store.create(RunRecord(id="r1", cluster="shop", spec=spec)).id


def _stretches(store: MemoryStore) -> list[Stretch]:
    return [Stretch.model_validate_json(text) for text in store.documents("r1", DocumentKind.AVAILABILITY).values()]


def test_failures_are_counted_and_another_process_takes_over(site: str) -> None:
    """The first process asks alone; after it is gone the other one asks; what both have measured is kept."""
    clock = _Clock()
    store = MemoryStore(clock)
    run = _run_of(store, site)
    probers = [Prober(Engine(Settings(), store, Vault(store, None)), f"w{n}") for n in (1, 2)]
    for prober in probers:
        prober.watch([run])
    wait_until(lambda: sum(one.asked for one in _stretches(store)) > 3)
    assert len(_stretches(store)) == 1
    _Site.fails = True
    wait_until(lambda: any(one.failed for one in _stretches(store)))
    assert _stretches(store)[0].why == "status 503"
    assert _stretches(store)[0].worst is not None
    probers[0].close()
    clock.seconds += 60
    wait_until(lambda: len(_stretches(store)) == 2)
    probers[1].watch([])
    probers[1].close()
    kept = sum(one.asked for one in _stretches(store))
    assert kept == sum(one.asked for one in _stretches(store))
