"""An unreadable run is reported in one line; the verbs continue with the other runs."""

import json
from collections.abc import Iterator

import pytest
from redis import Redis

from pipelines import reconcile
from pipelines.cli.entry import run
from pipelines.engine import Engine, connect_engine
from pipelines.reconcile import Reconciler
from tests.unit.pipelines.audit.bundled_run import the_cluster
from workers.records import RunRecord
from workers.secrets.vault import new_seal_key
from workers.settings import Secret, Settings, load_settings


@pytest.fixture
def engine(valkey: Redis, valkey_url: Secret, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Two runs, one of them with a damaged record."""
    key = new_seal_key()
    monkeypatch.setenv("ESYNC_BROKER_URL", valkey_url.reveal())
    monkeypatch.setenv("ESYNC_SEAL_KEY", key.reveal())
    load_settings.cache_clear()
    made = connect_engine(Settings())
    for name in ("good", "spoilt"):
        made.store.create(RunRecord(id=name, cluster="shop", spec=the_cluster().model_dump(mode="json")))
    valkey.hset("esync:run:spoilt", mapping={"record": '{"id": ', "token": "another"})
    yield made
    made.app.close()


@pytest.mark.usefixtures("engine")
def test_the_others_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """`esync runs` lists readable runs on stdout, and reports unreadable ones on stderr."""
    assert 0 == run(["runs"])
    shown = capsys.readouterr()
    assert "good" in shown.out
    assert "spoilt" not in shown.out
    assert "1 run cannot be read" in shown.err
    assert "spoilt: the record of run spoilt has no seal" in " ".join(shown.err.split())
    assert 0 == run(["runs", "--json"])
    assert ["good"] == [row["run"] for row in json.loads(capsys.readouterr().out)]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("verb", ["status", "report", "watch", "cancel", "pause", "retry"])
def test_an_unreadable_run_is_a_sentence(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the message and the fix of the error, and no traceback."""
    assert 1 == run([verb, "spoilt", *(["-y"] if verb == "retry" else [])])
    printed = " ".join(capsys.readouterr().err.split())
    assert "the record of run spoilt has no seal" in printed
    assert "ESYNC_SEAL_KEY" in printed
    assert "Traceback" not in printed


def test_the_reconciler_continues_with_the_others(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of the runs."""
    seen = []

    def noted(given: Engine, run_id: str, _: object) -> str:
        seen.append(given.store.run(run_id).id)
        return ""

    monkeypatch.setattr(reconcile, "resume_stalled", noted)
    for extra in ("aaa", "zzz"):
        engine.store.create(RunRecord(id=extra, cluster="shop", spec={}))
    Reconciler(engine, "w1").check_runs()
    assert ["aaa", "good", "zzz"] == seen


def test_the_reconciler_forgets_a_run_whose_record_the_server_has_lost(engine: Engine, valkey: Redis) -> None:
    """It would count as active, and others of its group would wait for it. One that cannot be read is kept."""
    valkey.delete("esync:run:good")
    Reconciler(engine, "w1").check_runs()
    assert ("spoilt",) == engine.store.active()
