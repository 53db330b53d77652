"""One archive with everything about a run, to keep and to check without any server.

It is safe to share with everybody who may know the cluster: facts contain digests of secrets, never secrets.
"""

from pathlib import Path

from pipelines.audit.archive import pack
from pipelines.audit.manifest import (
    EVENTS,
    MANIFEST,
    OUTCOMES,
    RUN,
    BundledRun,
    Manifest,
    manifest_of,
    member_name,
    outcomes_adapter,
    pretty,
    report_members,
)
from pipelines.coordinator import snapshot_of
from pipelines.engine import Engine
from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.rollout import kind_of
from pipelines.run.evidence import evidence_of
from pipelines.run.summary import RunSummary, summary_of
from workers.errors import InputRefused
from workers.host.private import write_private
from workers.records import RunState
from workers.store.port import RunStore

__all__ = ["bundle_of", "write_bundle"]

_PAGE = 1000


def write_bundle(engine: Engine, run_id: str, path: Path) -> Manifest:
    """Writes the bundle of a run that has ended.

    Raises:
        InputRefused: the run has not ended.
        FileTrouble: the file cannot be written.
        RunUnknown: there is no such run.
    """
    record = engine.store.run(run_id)
    members = bundle_of(engine.store, summary_of(snapshot_of(engine, record), kind_of(record.kind, record.id)))
    write_private(path, pack(members))
    return Manifest.model_validate_json(members[MANIFEST])


def bundle_of(store: RunStore, known: RunSummary) -> dict[str, bytes]:
    """All members by name, including the manifest.

    Raises:
        InputRefused: the run has not ended.
    """
    record = known.record.model_copy(update={"version": 0})
    if record.state is not RunState.CONCLUDED:
        raise InputRefused(f"run {record.id} has not ended", remedy="write the bundle when the run has ended")
    run = BundledRun(record=record, flags=store.flags(record.id), chain=store.chain(record.id))
    report = build(known)
    members = {
        RUN: pretty(run),
        OUTCOMES: outcomes_adapter.dump_json(known.outcomes, indent=2, exclude_defaults=True) + b"\n",
        EVENTS: _events(store, record.id),
        **report_members(report, to_html(report)),
    }
    for kind, documents in evidence_of(store, record.id).items():
        members |= {member_name(kind, name): text.encode() for name, text in documents.items()}
    return {**members, MANIFEST: manifest_of(run, members).to_bytes()}


def _events(store: RunStore, run_id: str) -> bytes:
    lines, after = [], ""
    while page := store.events(run_id, after, _PAGE):
        lines += [event.to_json() for event in page]
        after = page[-1].id
    return "".join(f"{line}\n" for line in lines).encode()
