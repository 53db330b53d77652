"""The use cases that all ways in share: the command line, messages from other programs, and what comes later."""

import getpass
import json
import re
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tasks.ektron.invariants import Findings

from pipelines.decide import FINDINGS, View
from pipelines.engine import Engine
from pipelines.inventory import load_cluster
from pipelines.plan import Plan
from tasks.cluster import Cluster
from tasks.runner import CANCEL
from workers.celery_app import CONTROL_QUEUE
from workers.errors import InputRefused
from workers.records import Event, Record, RunRecord, RunState, Status, StepOutcome, now

__all__ = ["NodeResult", "RunSummary", "cancel", "start", "start_by_name", "status", "summary"]


class NodeResult(Record):
    """What a run means for one node: computed from its outcomes, never stored."""

    node: str
    status: Status
    reason: str = ""
    file: str = ""
    remedy: str = ""
    slug: str = ""
    step: str = ""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Everything there is to know about a run."""

    record: RunRecord
    cluster: Cluster
    outcomes: tuple[StepOutcome, ...]
    findings: Findings | None
    plan: Plan | None
    nodes: tuple[NodeResult, ...]


def start(
    engine: Engine,
    cluster: Cluster,
    *,
    kind: str = "rollout",
    who: str = "",
    origin_host: str = "",
    reason: str = "",
    key: str = "",
) -> RunRecord:
    """Creates a run and asks the workers to begin it.

    Args:
        engine: where.
        cluster: on what; kept in the run as data.
        kind: `rollout`, or `verify` to only look.
        who: the person or program that asks; this user when empty.
        origin_host: the machine asked from; this one when empty.
        reason: why, for the record.
        key: idempotency key; the same key for the same cluster twice is one run.
    """
    wanted = RunRecord(
        id=_new_id(cluster.name),
        kind=kind,
        cluster=cluster.name,
        spec=cluster.model_dump(mode="json"),
        who=who or _user(),
        origin_host=origin_host or socket.gethostname(),
        reason=reason,
        key=key,
    )
    record = engine.store.create(wanted)
    if record.id == wanted.id:
        engine.app.send_task("esync.begin", args=(record.id,), queue=CONTROL_QUEUE, ignore_result=True)
    return record


def start_by_name(engine: Engine, cluster: str, *, key: str = "", reason: str = "", who: str = "") -> RunRecord:
    """Starts a run of a cluster file in the folder the worker was given.

    Raises:
        InputRefused: no folder is configured, the name is no plain name, or there is no such file.
    """
    folder = engine.settings.clusters
    if folder is None:
        raise InputRefused("this worker knows no clusters by name", remedy="set ESYNC_CLUSTERS to a folder of files")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", cluster):
        raise InputRefused(f"{cluster[:64]!r} is not the name of a cluster")
    for path in (folder / f"{cluster}.yaml", folder / f"{cluster}.yml"):
        if path.is_file():
            return start(engine, load_cluster(path), key=key, reason=reason, who=who or "message")
    known = ", ".join(sorted(path.stem for path in folder.glob("*.y*ml"))) or "none"
    raise InputRefused(f"no cluster file is named {cluster!r}; known: {known}")


def cancel(engine: Engine, run_id: str, why: str) -> None:
    """Asks a run to stop at the next safe point; nodes in the middle of a step finish it.

    Raises:
        RunUnknown: there is no such run.
    """
    record = engine.store.run(run_id)
    if record.state is not RunState.CONCLUDED:
        engine.store.flag(run_id, CANCEL, why or f"by {_user()}")
        engine.store.note(run_id, Event(kind="run.cancel_asked", message=why))


def summary(engine: Engine, run_id: str) -> RunSummary:
    """Everything about a run, as it stands now.

    Raises:
        RunUnknown: there is no such run.
    """
    record = engine.store.run(run_id)
    view = View(record, engine.store, engine.material(record))
    text = engine.store.document(run_id, FINDINGS, "verify") or engine.store.document(run_id, FINDINGS, "assess")
    return RunSummary(
        record=record,
        cluster=view.cluster,
        outcomes=view.outcomes,
        findings=Findings.model_validate_json(text) if text else None,
        plan=view.plan,
        nodes=tuple(_result(view, node) for node in view.cluster.node_names),
    )


def status(engine: Engine, run_id: str) -> dict[str, Any]:
    """Where a run stands, for a program: small, JSON, the same keys always."""
    known = summary(engine, run_id)
    record = known.record
    ended = record.ended or now()
    return {
        "run": record.id,
        "cluster": record.cluster,
        "kind": record.kind,
        "state": record.state.value,
        "turn": record.turn.name if record.turn else "",
        "verdict": record.verdict.value if record.verdict else None,
        "exit_code": record.verdict.exit_code if record.verdict else None,
        "summary": record.summary,
        "seconds": round((ended - record.created).total_seconds(), 1),
        "nodes": {result.node: json.loads(result.to_json()) for result in known.nodes},
    }


def _result(view: View, node: str) -> NodeResult:
    """The outcome that ended the node; else whether any step changed it; else why nothing was done."""
    ended = view.ended().get(node)
    if ended is not None:
        return NodeResult(
            node=node, status=ended.status, reason=ended.message, file=ended.file, remedy=ended.remedy,
            slug=ended.slug, step=ended.step,
        )  # fmt: skip
    waves = [o for o in view.outcomes if o.node == node and o.turn.startswith("wave")]
    if any(o.status is Status.CHANGED for o in waves):
        return NodeResult(node=node, status=Status.CHANGED)
    if waves or view.record.kind == "verify":
        return NodeResult(node=node, status=Status.UNCHANGED)
    reason = view.record.summary or "not its turn yet"
    return NodeResult(node=node, status=Status.SKIPPED, reason=reason)


def _new_id(cluster: str) -> str:
    """Sorts by time, names the cluster, cannot be guessed: `20261123-191500-four-servers-7f3a`."""
    return f"{now():%Y%m%d-%H%M%S}-{cluster[:32].lower()}-{secrets.token_hex(3)}"


def _user() -> str:
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return "unknown"
