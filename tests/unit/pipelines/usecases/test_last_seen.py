"""Which nodes were down when they were last seen, and what a rollback keeps of that."""

import json
from collections.abc import Collection

import pytest
from celery import Celery

from pipelines.engine import Engine
from pipelines.usecases.last_seen import down_when_last_seen
from pipelines.usecases.rollback import rollback, waves_to_undo
from tests.unit.pipelines.run.snapshots import a_cluster, facts_of, numbered, outcome, turn
from workers.records import DocumentKind, RunRecord, RunState, Status, StepOutcome, Turn, Verdict
from workers.secrets.vault import Vault, new_seal_key
from workers.settings import Settings
from workers.store.memory import MemoryStore

FOUR = numbered(4)
CLUSTER = a_cluster(FOUR)
STEPS = ("install_check", "config_edit", "cert_copy", "service_restart")


@pytest.fixture
def engine() -> Engine:
    """An engine without nodes and without a broker."""
    store = MemoryStore()
    return Engine(Settings(), store, Vault(store, new_seal_key()), Celery(broker="memory://"))


def ended(
    engine: Engine,
    number: int,
    *outcomes: StepOutcome,
    turns: Collection[Turn] = (),
    seen: DocumentKind = DocumentKind.OBSERVED,
    down: Collection[str] = (),
    nodes: Collection[str] = FOUR,
    kind: str = "rollout",
) -> str:
    """An earlier run, which saw the services of `down` stopped and those of the other nodes running."""
    name = f"20261127-10000{number}-shop-{number}"
    record = RunRecord(id=name, cluster="shop", servers=CLUSTER.digest, spec=CLUSTER.model_dump(mode="json"), kind=kind)
    made = engine.store.create(record)
    over = {"state": RunState.CONCLUDED, "verdict": Verdict.FAILED, "turns": tuple(turns)}
    engine.store.save(made.model_copy(update=over))
    for one in outcomes:
        engine.store.record(one.model_copy(update={"run": name}), 0)
    for node, facts in facts_of(CLUSTER).items():
        if node in nodes:
            service = facts.service.model_copy(update={"state": "stopped" if node in down else "running"})
            engine.documents(made).keep_facts(seen, facts.model_copy(update={"service": service}))
    return name


def down(engine: Engine) -> tuple[str, ...]:
    """Those of all four nodes."""
    return down_when_last_seen(engine, CLUSTER, FOUR)


def test_the_newest_run_that_saw_a_node_decides(engine: Engine) -> None:
    """Runs that did not see it, or are not of the cluster, do not count; without any, nothing is known."""
    assert down(engine) == ()
    ended(engine, 1, down=["N1", "N2"], kind="verify", seen=DocumentKind.VERIFIED)
    assert down(engine) == ("N1", "N2")
    ended(engine, 2, nodes=["N1"])
    assert down(engine) == ("N2",)
    assert down_when_last_seen(engine, CLUSTER, ["N3"]) == ()


def test_what_a_run_did_to_a_node_counts(engine: Engine) -> None:
    """It stopped one and failed; it did not reach one; it started one again that was down."""
    turns = [turn("observe", FOUR), turn("wave-1", FOUR, STEPS)]
    fell = outcome("N1", Status.FAILED, turn="wave-1", step="service_restart", touched=True)
    away = outcome("N2", Status.UNREACHABLE, turn="wave-1")
    refused = outcome("N4", Status.FAILED, turn="wave-1")
    ended(engine, 1, fell, away, refused, turns=turns, down=["N3", "N4"])
    assert down(engine) == ("N1", "N2", "N4")
    ended(engine, 2, fell, turns=turns, seen=DocumentKind.VERIFIED)
    assert down(engine) == ()


def test_a_rollback_keeps_who_was_down_beside_its_nodes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept before any worker begins the run; the waves that are shown before agree with it."""
    turns = [turn("wave-1", FOUR, STEPS)]
    changed = [outcome(node, Status.CHANGED, turn="wave-1", step="cert_copy") for node in FOUR]
    parent = ended(engine, 1, *changed, turns=turns)
    ended(engine, 2, down=["N4"], kind="verify", seen=DocumentKind.VERIFIED)
    kept: list[str | None] = []
    monkeypatch.setattr(
        Engine, "ask_to_begin", lambda self, run: kept.append(self.store.document(run, DocumentKind.DOWN, "down"))
    )
    monkeypatch.setattr(Engine, "reach_broker", lambda _: None)
    rollback(engine, parent, ["N1", "N2", "N3"])
    rollback(engine, parent)
    assert [text and json.loads(text) for text in kept] == [["N4"], None]
    assert waves_to_undo(engine, parent, ["N1", "N2", "N3"]) == (("N1",), ("N2",), ("N3",))
    assert waves_to_undo(engine, parent, FOUR) == (("N1", "N2"), ("N3", "N4"))
