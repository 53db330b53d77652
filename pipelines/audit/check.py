"""Checks a bundle: every byte against the manifest, the history against its chain, the verdict against the evidence.

Needs no broker, no key and no node. What it shows: the bundle is whole, its parts agree with each other, and its
evidence leads to its verdict. Somebody who can write to the run store and to the log could make another history that
agrees with itself; the head of the chain, noted elsewhere when the run ended, tells.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from pipelines.audit.archive import LARGEST, unpack
from pipelines.audit.bundle import (
    EVENTS,
    MANIFEST,
    OUTCOMES,
    REPORT,
    REPORT_PAGE,
    RUN,
    BundledRun,
    Manifest,
    evidence_in,
    outcomes_adapter,
    reports_of,
    versions,
)
from pipelines.audit.replay import Replay, replay
from pipelines.run.evidence import Evidence, conclusion
from pipelines.run.plan import Plan
from pipelines.run.snapshot import Snapshot
from pipelines.usecases.runs import summary_of
from workers.errors import BundleRefused, EsyncError
from workers.host.reading import content_of
from workers.records import DocumentKind, Event, Record, RunState, StepOutcome
from workers.store.chain import digest_of, first_break, identity

__all__ = ["Checked", "check", "check_file"]

R = TypeVar("R", bound=Record)


class Checked(Record):
    """A bundle that holds, and what was checked, a sentence each."""

    run: str
    cluster: str
    verdict: str
    chain_head: str
    checked: tuple[str, ...]


def check_file(path: Path) -> Checked:
    """Checks the bundle in a file.

    Raises:
        InputRefused: the file cannot be read.
        BundleRefused: the first thing that does not hold.
    """
    data = content_of(path, LARGEST, "bundle")
    try:
        return check(unpack(data))
    except BundleRefused as refused:
        refused.file = str(path)
        raise


def check(members: Mapping[str, bytes]) -> Checked:
    """Checks a bundle's members.

    Raises:
        BundleRefused: the first thing that does not hold.
    """
    manifest = _manifest(members)
    run = _read(BundledRun, RUN, members)
    outcomes, events, evidence = _outcomes(members), _events(members), _evidence(members)
    said = [f"{len(members)} members have the digests that the manifest gives them"]
    said.append(_history(run, events))
    said.append(_ends(run, events, evidence))
    said.append(_outcomes_noted(run, outcomes, events))
    said.append(_plan(run, events, evidence))
    again = _again(manifest, run, outcomes, evidence)
    said.append(_decided(manifest, run, again, evidence))
    said.append(_reported(manifest, run, again, members))
    return Checked(
        run=manifest.run,
        cluster=manifest.cluster,
        verdict=manifest.verdict,
        chain_head=manifest.chain_head,
        checked=tuple(sentence for sentence in said if sentence),
    )


def _manifest(members: Mapping[str, bytes]) -> Manifest:
    """Every member is there and has its digest, no other is, and the manifest is what it was."""
    manifest = _read(Manifest, MANIFEST, members)
    if manifest.sealed() != manifest or manifest.to_bytes() != members[MANIFEST]:
        raise BundleRefused(f"{MANIFEST} was changed: it has another digest than it says")
    there = members.keys() - {MANIFEST}
    if missing := sorted(manifest.members.keys() - there):
        raise BundleRefused(f"{missing[0]} is missing")
    if more := sorted(there - manifest.members.keys()):
        raise BundleRefused(f"{more[0]} is not in the manifest")
    for name, member in manifest.members.items():
        if hashlib.sha256(members[name]).hexdigest() != member.sha256 or len(members[name]) != member.size:
            raise BundleRefused(f"{name} was changed: it has another digest than the manifest gives it")
    return manifest


def _history(run: BundledRun, events: Sequence[Event]) -> str:
    chain, record = run.chain, run.record
    if broken := first_break(chain, events):
        raise BundleRefused(f"{EVENTS}: {broken}")
    if chain.dropped:
        begins = f"event {chain.dropped + 1}; the {chain.dropped} before it were more than a store keeps"
    else:
        first = events[0] if events else None
        if first is None or first.kind != "run.created" or first.digest != identity(record):
            raise BundleRefused(f"{RUN} does not say what the first event says the run was asked for")
        begins = f"the run's creation by {record.who or 'somebody'} on {record.origin_host or 'an unnamed machine'}"
    return f"the chain over {len(events)} events is whole, from {begins}; its head is {chain.head}"


def _ends(run: BundledRun, events: Sequence[Event], evidence: Evidence) -> str:
    record = run.record
    ends = [event for event in events if event.kind == "run.concluded"]
    if len(ends) != 1 or record.state is not RunState.CONCLUDED or record.verdict is None:
        raise BundleRefused(f"{EVENTS}: the run was concluded {len(ends)} times, and is {record.state.value}")
    if (ends[0].status, ends[0].message) != (record.verdict.value, record.summary):
        raise BundleRefused(f"{EVENTS}: the run was concluded as {ends[0].status}, {RUN} says {record.verdict.value}")
    if ends[0].digest != conclusion(record, evidence):
        raise BundleRefused(f"{RUN}, the plan, facts or findings are not those that the run was concluded with")
    later = len(events) - 1 - events.index(ends[0])
    after = f"; {later} later events decide nothing" if later else ""
    return f"the run and its {sum(map(len, evidence.values()))} documents are those it was concluded with{after}"


def _outcomes_noted(run: BundledRun, outcomes: Sequence[StepOutcome], events: Sequence[Event]) -> str:
    """Each outcome has its event. Where events were dropped, some outcomes may have lost theirs."""
    noted = {(event.turn, event.node, event.step): event.digest for event in events if event.kind == "step.ended"}
    places = [(outcome.turn, outcome.node, outcome.step) for outcome in outcomes]
    if len(set(places)) < len(places) or any(outcome.run != run.record.id for outcome in outcomes):
        raise BundleRefused(f"{OUTCOMES}: an outcome is there twice, or is of another run")
    if strangers := noted.keys() - set(places):
        raise BundleRefused(f"{OUTCOMES}: no outcome of {_place(min(strangers))}, which the history has")
    covered = 0
    for outcome, place in zip(outcomes, places, strict=True):
        if place not in noted and run.chain.dropped:
            continue
        if noted.get(place) != digest_of(outcome):
            raise BundleRefused(f"{OUTCOMES}: the outcome of {_place(place)} is not the one the history has")
        covered += 1
    beyond = f"; {len(outcomes) - covered} ended before the history begins" if covered < len(outcomes) else ""
    return f"{covered} outcomes are those that were noted when they ended{beyond}"


def _place(place: tuple[str, str, str]) -> str:
    turn, node, step = place
    return f"{step} on {node} in {turn}"


def _plan(run: BundledRun, events: Sequence[Event], evidence: Evidence) -> str:
    wanted = run.record.plan_fingerprint
    if not wanted:
        return ""
    text = evidence.get(DocumentKind.PLAN, {}).get(DocumentKind.PLAN)
    try:
        plan = Plan.model_validate_json(text or "")
    except ValidationError:
        raise BundleRefused("plan.json cannot be read as a plan") from None
    stated = {event.digest for event in events if event.kind == "run.planned"}
    if plan.fingerprint != wanted or not stated <= {wanted}:
        raise BundleRefused("plan.json has another fingerprint than the run")
    return f"the plan has the fingerprint {wanted}"


def _decided(manifest: Manifest, run: BundledRun, again: Replay, evidence: Evidence) -> str:
    """The run, decided again, ends in the same verdict by the same plan and findings."""
    record = run.record
    if (again.stop.verdict, again.stop.summary) != (record.verdict, record.summary):
        raise _otherwise(manifest, f"the evidence leads to {again.stop.verdict.value}: {again.stop.summary}")
    for kind in (DocumentKind.PLAN, DocumentKind.FINDINGS):
        for name, text in again.snapshot.store.documents(record.id, kind).items():
            if evidence.get(kind, {}).get(name) != text:
                raise _otherwise(manifest, f"{kind} {name} is not what the facts say")
    facts = sum(
        len(documents) for kind, documents in evidence.items() if kind not in {DocumentKind.PLAN, DocumentKind.FINDINGS}
    )
    return (
        f"{again.decisions} decisions, made again from {facts} documents of facts, lead to the verdict {record.verdict}"
    )


def _again(manifest: Manifest, run: BundledRun, outcomes: Sequence[StepOutcome], evidence: Evidence) -> Replay:
    try:
        return replay(run.record, outcomes, evidence, run.flags)
    except BundleRefused as refused:
        raise _otherwise(manifest, refused.message) from None
    except (EsyncError, ArithmeticError, AssertionError, LookupError, TypeError, ValueError, RecursionError) as error:
        # What stands in a bundle may have been put there to make us fail: that is an answer too.
        raise _otherwise(manifest, f"the run cannot be decided again: {type(error).__name__}") from None


def _otherwise(manifest: Manifest, what: str) -> BundleRefused:
    theirs, ours = manifest.versions.get("esync-rollout", "another version"), versions()["esync-rollout"]
    remedy = f"it was written by esync {theirs}, this is {ours}: check it with {theirs}" if theirs != ours else ""
    return BundleRefused(what, remedy=remedy)


def _reported(manifest: Manifest, run: BundledRun, again: Replay, members: Mapping[str, bytes]) -> str:
    """The report, drawn again."""
    names = ("esync-rollout", "jinja2", "pydantic")
    if any(manifest.versions.get(name) != versions()[name] for name in names):
        return f"{REPORT} and {REPORT_PAGE} were drawn by other versions than these and were not compared"
    whole = Snapshot(run.record, again.snapshot.store, again.snapshot.documents)
    for name, data in reports_of(summary_of(whole)).items():
        if members.get(name) != data:
            raise BundleRefused(f"{name} does not show what the rest of the bundle says")
    return f"{REPORT} and {REPORT_PAGE} show just that"


def _read(kind: type[R], name: str, members: Mapping[str, bytes]) -> R:
    if name not in members:
        raise BundleRefused(f"{name} is missing: this is no bundle of a run")
    try:
        return kind.model_validate_json(members[name])
    except ValidationError as error:
        raise _unreadable(name, error) from None


def _outcomes(members: Mapping[str, bytes]) -> tuple[StepOutcome, ...]:
    try:
        return outcomes_adapter.validate_json(members.get(OUTCOMES, b""))
    except ValidationError as error:
        raise _unreadable(OUTCOMES, error) from None


def _events(members: Mapping[str, bytes]) -> tuple[Event, ...]:
    try:
        return tuple(Event.model_validate_json(line) for line in members.get(EVENTS, b"").splitlines())
    except ValidationError as error:
        raise _unreadable(EVENTS, error) from None


def _evidence(members: Mapping[str, bytes]) -> Evidence:
    try:
        return evidence_in(members)
    except UnicodeDecodeError:
        raise BundleRefused("a document in the bundle is no text") from None


def _unreadable(name: str, error: ValidationError) -> BundleRefused:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return BundleRefused(f"{name} cannot be read: {where + ': ' if where else ''}{first['msg']}")
