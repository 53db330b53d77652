"""Before a person is asked whether to continue, a command says what it will do: to which run or cluster, where."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from pipelines.cli import remote, start
from pipelines.cli.console import CommandExit
from pipelines.cli.entry import run
from pipelines.engine import Engine
from pipelines.local.provided import Running
from pipelines.usecases.tokens import Role
from tests.unit.pipelines.report.sample_run import keep, sample
from tests.unit.pipelines.web.served_site import served_site
from workers.secrets.vault import Vault, new_seal_key
from workers.settings import Settings, load_settings
from workers.store.memory import MemoryStore

IN_WAVES = "at most half of a pool at a time, servers that are down first"


def no(*, yes: bool, what: str = "") -> None:
    """The answer of a person who has read enough."""
    del yes, what
    raise CommandExit(130)


def test_a_retry_names_its_run_and_its_nodes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that it would finish, not those that it would only look at."""
    store = MemoryStore()
    engine = Engine(Settings(), store, Vault(store, new_seal_key()), Celery(broker="memory://"))
    parent = keep(engine, sample(failed=["P1"], unreachable=["P2"]))

    @contextmanager
    def workers(_: str) -> Iterator[Running]:
        yield Running(engine)

    monkeypatch.setattr(start, "workers_for", workers)
    monkeypatch.setattr(start, "require_consent", lambda **_: None)
    monkeypatch.setattr(start, "confirm", no)
    assert run(["retry", parent]) == 130
    assert f"retry of run {parent} (rollout of shop), on P1, P2" in capsys.readouterr().err
    assert run(["retry", parent, "--unreachable"]) == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith("on P2")
    assert store.names() == (parent,)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cleanup", "shop"], "cleanup (expired backups) of cluster shop"),
        (["cleanup", "shop", "--all"], "cleanup (all backups) of cluster shop"),
        (["retry", "RUN", "--failed"], "retry of run RUN (rollout of shop), on its nodes that are: failed"),
        (
            ["rollback", "RUN"],
            f"rollback of run RUN (rollout of shop), on all nodes that it changed: {IN_WAVES}",
        ),
        (
            ["rollback", "RUN", "--node", "P1", "--force", "--all-at-once"],
            "rollback of run RUN (rollout of shop), on P1, also files that were changed after the run: all at once",
        ),
    ],
)
def test_with_a_server_a_person_is_told_what_will_happen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    """As without one; nothing is started before the answer."""
    with served_site(tmp_path) as site:
        made = site.client().post("/api/v1/runs", json={"kind": "rollout", "cluster": "shop"}).json()["run"]
        monkeypatch.setenv("ESYNC_SERVER", site.server.url)
        monkeypatch.setenv("ESYNC_TOKEN", site.server.token(Role.OPERATOR))
        monkeypatch.setattr(remote, "require_consent", lambda **_: None)
        monkeypatch.setattr(remote, "confirm", no)
        load_settings.cache_clear()
        assert run([one.replace("RUN", made) for one in arguments]) == 130
        assert capsys.readouterr().err.strip() == said.replace("RUN", made)
        assert site.site.store.names() == (made,)
