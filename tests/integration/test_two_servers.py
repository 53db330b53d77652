"""A broker and a run store on two servers: a failed command leaves no active run unnoticed."""

import socket

import pytest

from pipelines.engine import connect_engine
from pipelines.usecases import runs
from tests.unit.pipelines.report.sample_run import cluster_of
from workers.errors import StoreUnavailable
from workers.redis.connection import Waits
from workers.secrets.vault import new_seal_key
from workers.settings import Secret, Settings
from workers.store.redis_store import RedisStore

pytestmark = pytest.mark.integration


def test_no_run_is_created_when_the_broker_does_not_answer(redis_store: RedisStore, valkey_url: Secret) -> None:
    """The store answers, the broker does not: the message says which, and the store has no run."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        elsewhere = Settings(broker_url=Secret(f"redis://:x@{address}/0"), store_url=valkey_url)
        engine = connect_engine(elsewhere, Waits(0.2, 0.2))
        with pytest.raises(StoreUnavailable, match=f"at {address} cannot be reached"):
            runs.start(engine, cluster_of())
    assert redis_store.runs() == ()


@pytest.mark.usefixtures("valkey")
def test_a_run_whose_message_was_not_taken_is_named(valkey_url: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker stops at the last moment: the message names the new run, and how to stop it."""
    monkeypatch.setattr("pipelines.engine.Engine.reach_broker", lambda _: None)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = Secret(f"redis://:x@127.0.0.1:{closed.getsockname()[1]}/0")
        engine = connect_engine(Settings(broker_url=url, store_url=valkey_url, seal_key=new_seal_key()))
        engine.app.conf.task_publish_retry = False
        with pytest.raises(StoreUnavailable, match="the broker did not accept its first message") as caught:
            runs.start(engine, cluster_of())
    (run,) = engine.store.runs()
    assert f"esync cancel {run.id}" in caught.value.remedy
