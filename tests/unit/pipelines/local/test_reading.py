"""The broker of this machine, for commands that use what `esync up` runs."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.local import reading
from pipelines.local.reading import broker_folder, broker_here, broker_of_up, engine_only
from pipelines.local.state import forget_services, record_services
from workers.errors import StoreUnavailable
from workers.redis import running
from workers.redis.connection import WORKER, Waits
from workers.redis.embedded import EmbeddedBroker
from workers.secrets.vault import new_seal_key
from workers.settings import Secret, Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a machine without a broker of its own; a broker that does not answer is noticed soon."""
    monkeypatch.setattr(running, "PROMPT", Waits(0.3, 0.3))
    monkeypatch.setattr(reading, "PATIENCE", 0.5)
    return Settings(state=tmp_path / "state", broker_url=None)


@pytest.fixture
def broker(settings: Settings) -> Iterator[EmbeddedBroker]:
    """As `esync up` runs it: this process does."""
    with EmbeddedBroker(broker_folder(settings)) as started:
        record_services(settings.state, "up", [])
        yield started
        forget_services(settings.state)


def test_a_broker_of_up_that_does_not_answer_is_reported(settings: Settings, broker: EmbeddedBroker) -> None:
    """Not that `esync up` runs its own services, and should be started; and once it answers again, it is used."""
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable, match="the broker of `esync up` does not answer") as caught:
            engine_only(settings).__enter__()
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    assert str(broker.log) == caught.value.file
    found = broker_here(settings)
    assert found is not None
    assert broker.url.reveal() == found.reveal()


def test_a_command_that_looks_does_not_wait_long_for_a_silent_broker(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person waits for it: what a worker would wait for is longer than all of it."""
    monkeypatch.setattr(reading, "PROMPT", Waits(0.3, 0.3))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = Secret(f"redis://:x@127.0.0.1:{silent.getsockname()[1]}/0")
        elsewhere = settings.model_copy(update={"broker_url": url, "seal_key": new_seal_key()})
        begun = time.monotonic()
        with engine_only(elsewhere) as engine, pytest.raises(StoreUnavailable, match="does not answer in time"):
            engine.store.runs()
        with engine_only(elsewhere) as engine, pytest.raises(StoreUnavailable, match="does not answer in time"):
            engine.reach_broker()
        assert time.monotonic() - begun < WORKER.answer


def test_a_broker_of_up_that_is_restarted_is_waited_for(
    settings: Settings, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`esync up` needs a moment for that."""
    monkeypatch.setattr(reading, "PATIENCE", 60.0)
    os.kill(broker.pid, signal.SIGKILL)
    broker.wait()
    again = threading.Timer(0.7, broker.start)
    again.start()
    found = broker_here(settings)
    again.join()
    assert found is not None
    assert broker.url.reveal() == found.reveal()


def test_without_a_broker_of_up_there_is_none_to_wait_for(settings: Settings) -> None:
    """No `esync up` runs; or it does, with a broker elsewhere."""
    assert broker_here(settings) is None
    settings.state.mkdir()
    record_services(settings.state, "up", [])
    assert broker_here(settings) is None


def test_a_broker_of_another_command_is_there_for_those_that_look_only(
    settings: Settings, broker: EmbeddedBroker
) -> None:
    """It ends with its command, so nothing that needs workers uses it; that of `esync up` is used by both."""
    assert broker_of_up(settings) is not None
    record_services(settings.state, "rollout", [])
    assert broker_of_up(settings) is None
    found = broker_here(settings)
    assert found is not None
    assert broker.url.reveal() == found.reveal()
