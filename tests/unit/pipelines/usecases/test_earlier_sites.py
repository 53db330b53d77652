"""A new run knows where earlier runs of its cluster found the site."""

import pytest
from celery import Celery

from pipelines.engine import Engine
from pipelines.usecases import runs
from tasks.cluster import Cluster
from tests.unit.pipelines.run.snapshots import a_cluster
from workers.records import RunState, Turn, Verdict
from workers.secrets.vault import Vault, new_seal_key
from workers.settings import Settings
from workers.store.memory import MemoryStore

A, B, C = r"C:\inetpub\a", r"C:\inetpub\b", r"D:\c"


@pytest.fixture
def engine() -> Engine:
    """An engine without nodes and without a broker."""
    store = MemoryStore()
    return Engine(Settings(), store, Vault(store, new_seal_key()), Celery(broker="memory://"))


def cluster(path: str, *names: str, name: str = "shop") -> Cluster:
    """A cluster with its site in that folder."""
    data = a_cluster(names or ("N1", "N2")).model_dump()
    return Cluster.model_validate(data | {"name": name, "site": {"path": path}})


def earlier(engine: Engine, of: Cluster, **request: str) -> set[str]:
    """What a new run of the cluster knows."""
    return set(engine.documents(runs.start(engine, of, **request)).earlier_sites())  # type: ignore[arg-type]


def test_a_site_that_never_moved_has_no_earlier_place(engine: Engine) -> None:
    """Spelling of the path does not matter."""
    assert earlier(engine, cluster(A)) == set()
    assert earlier(engine, cluster(A)) == set()
    assert earlier(engine, cluster(A.upper() + "\\")) == set()


def test_every_earlier_place_is_known(engine: Engine) -> None:
    """Also of runs before the last one, whatever they did; a place that is used again is none."""
    assert earlier(engine, cluster(A)) == set()
    assert earlier(engine, cluster(B), kind="plan") == {A}
    assert earlier(engine, cluster(C)) == {A, B}
    assert earlier(engine, cluster(C)) == {A, B}
    assert earlier(engine, cluster(A)) == {B, C}


def test_other_clusters_do_not_count(engine: Engine) -> None:
    """Neither one of another name, nor one of the same name on other servers; one common server is enough."""
    assert earlier(engine, cluster(A, name="stores")) == set()
    assert earlier(engine, cluster(B, "N8", "N9")) == set()
    assert earlier(engine, cluster(C, "N1", "N2")) == set()
    assert earlier(engine, cluster(A, "N2", "N9")) == {C}
    assert earlier(engine, cluster(C, "N1", name="stores")) == {A}


def test_the_servers_of_a_cluster_are_its_addresses(engine: Engine) -> None:
    """As everywhere: another port of a host may lead to another machine."""
    assert earlier(engine, cluster(A)) == set()
    elsewhere = cluster(B).model_dump()
    elsewhere["connection"]["port"] = 15986
    assert earlier(engine, Cluster.model_validate(elsewhere)) == set()


def joined_before(engine: Engine, of: Cluster) -> str:
    """What a new run of the cluster knows of the earlier run that found it joined."""
    return engine.store.document(runs.start(engine, of).id, "joined_before", "joined_before") or ""


def ended(engine: Engine, of: Cluster, verdict: Verdict, *stages: str) -> str:
    """A run of the cluster with that verdict; its last stage had no steps."""
    record = runs.start(engine, of)
    turns = tuple(Turn(name=stage, stage=stage, steps=(), nodes=("N1",)) for stage in stages)
    update = {"state": RunState.CONCLUDED, "verdict": verdict, "turns": turns}
    assert engine.store.save(record.model_copy(update=update))
    return record.id


def test_the_latest_run_that_found_the_same_servers_joined_is_known(engine: Engine) -> None:
    """With the kind of the facts that it judged; not after many others, and not for other servers."""
    assert "" == joined_before(engine, cluster(A))
    first = ended(engine, cluster(A), Verdict.JOINED)
    assert f"verified {first}" == joined_before(engine, cluster(A))
    second = ended(engine, cluster(A), Verdict.JOINED, "verify")
    assert f"observed {second}" == joined_before(engine, cluster(A))
    assert "" == joined_before(engine, cluster(A, "N1", "N2", "N3"))
    ended(engine, cluster(A), Verdict.FAILED)
    assert "" == joined_before(engine, cluster(A))


def test_a_repeated_request_stays_one_run(engine: Engine) -> None:
    """The second request with the same key returns the first run, which knows nothing of itself."""
    first = runs.start(engine, cluster(A), key="once")
    assert runs.start(engine, cluster(A), key="once").id == first.id
    assert engine.documents(first).earlier_sites() == ()
