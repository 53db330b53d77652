"""Checks a bundle: every byte against the manifest, the history against its chain, the verdict against the evidence.

Needs no broker, no key and no node. A valid bundle is complete, its parts agree with each other, and its evidence leads
to its verdict. An attacker with write access to the run store and to the log could make another history that is
consistent in itself; the head of the chain, recorded elsewhere when the run ended, reveals that.

A bundle of manifest version 1 is checked by what does not depend on the wording of sentences: digests, history, plan
fingerprint, every decision, and the verdict of the run and of each finding.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from pipelines.audit.archive import LARGEST, unpack
from pipelines.audit.manifest import (
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
    report_members,
    versions,
)
from pipelines.audit.replay import Replay, replay
from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.rollout import kind_of
from pipelines.run.evidence import APPROVED, Evidence, conclusion
from pipelines.run.plan import Plan
from pipelines.run.snapshot import Reading, Snapshot
from pipelines.run.summary import summary_of
from tasks.cluster import Cluster
from tasks.ektron.rules.findings import Findings, InvariantState
from workers.errors import BundleRefused, EsyncError
from workers.host.reading import content_of
from workers.records import DocumentKind, Event, Record, RunState, StepOutcome
from workers.store.chain import digest_of, first_break, identity

__all__ = ["Checked", "check", "check_file"]

R = TypeVar("R", bound=Record)

_OTHER_WORDS = 1  #: the last version of the manifest with other sentences than this version of esync writes


class Checked(Record):
    """A valid bundle, with one sentence for each check."""

    run: str
    cluster: str
    verdict: str
    chain_head: str
    checked: tuple[str, ...]


def check_file(path: Path) -> Checked:
    """Checks the bundle in a file.

    Raises:
        InputRefused: the file cannot be read.
        BundleRefused: a check failed; the first failed check is named.
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
        BundleRefused: a check failed; the first failed check is named.
    """
    manifest = _manifest(members)
    run = _read(BundledRun, RUN, members)
    outcomes, events, evidence = _outcomes(members), _events(members), _evidence(members)
    sentences = [
        f"all {len(members)} members match the manifest",
        _check_history(run, events),
        _check_end(run, events, evidence),
        _check_outcomes(run, outcomes, events),
        _check_plan(run, events, evidence),
        _check_approval(run, events),
    ]
    replayed = _replay(manifest, run, outcomes, evidence)
    sentences.append(_check_decisions(manifest, run, replayed, evidence))
    sentences.append(_check_reports(manifest, run, replayed, members))
    return Checked(
        run=manifest.run,
        cluster=manifest.cluster,
        verdict=manifest.verdict,
        chain_head=manifest.chain_head,
        checked=tuple(filter(None, sentences)),
    )


def _manifest(members: Mapping[str, bytes]) -> Manifest:
    """The manifest is unchanged, and the bundle has exactly its members, each with its digest."""
    manifest = _read(Manifest, MANIFEST, members)
    if manifest.sealed() != manifest or manifest.to_bytes() != members[MANIFEST]:
        raise BundleRefused(f"{MANIFEST} was changed: its digest does not match its content")
    present = members.keys() - {MANIFEST}
    if missing := sorted(manifest.members.keys() - present):
        raise BundleRefused(f"{missing[0]} is missing")
    if more := sorted(present - manifest.members.keys()):
        raise BundleRefused(f"{more[0]} is not in the manifest")
    for name, member in manifest.members.items():
        if hashlib.sha256(members[name]).hexdigest() != member.sha256 or len(members[name]) != member.size:
            raise BundleRefused(f"{name} was changed: its digest does not match the manifest")
    return manifest


def _check_history(run: BundledRun, events: Sequence[Event]) -> str:
    chain, record = run.chain, run.record
    if broken := first_break(chain, events):
        raise BundleRefused(f"{EVENTS}: {broken}")
    if chain.dropped:
        begins = f"event {chain.dropped + 1}; the store no longer has the {chain.dropped} events before it"
    else:
        first = events[0] if events else None
        if first is None or first.kind != "run.created" or first.digest != identity(record):
            raise BundleRefused(f"{RUN} does not match the first event, which records the request for the run")
        begins = f"the run's creation by {record.who or 'unknown'} on {record.origin_host or 'unknown'}"
    return f"the chain of {len(events)} events is complete, from {begins}; its head is {chain.head}"


def _check_end(run: BundledRun, events: Sequence[Event], evidence: Evidence) -> str:
    record = run.record
    ends = [event for event in events if event.kind == "run.concluded"]
    if len(ends) != 1 or record.state is not RunState.CONCLUDED or record.verdict is None:
        raise BundleRefused(f"{EVENTS}: the run was concluded {len(ends)} times; its state is {record.state.value}")
    if (ends[0].status, ends[0].message) != (record.verdict.value, record.summary):
        raise BundleRefused(f"{EVENTS}: the run was concluded as {ends[0].status}, {RUN} says {record.verdict.value}")
    if ends[0].digest != conclusion(record, evidence):
        raise BundleRefused(f"{RUN}, the plan, facts or findings are not those with which the run was concluded")
    later = len(events) - 1 - events.index(ends[0])
    after = f"; {later} later events do not affect it" if later else ""
    return f"the run and its {sum(map(len, evidence.values()))} documents are those with which it was concluded{after}"


def _check_outcomes(run: BundledRun, outcomes: Sequence[StepOutcome], events: Sequence[Event]) -> str:
    """Each outcome matches its event. If the store dropped events, the first outcomes have none."""
    recorded = {(event.turn, event.node, event.step): event.digest for event in events if event.kind == "step.ended"}
    places = [(outcome.turn, outcome.node, outcome.step) for outcome in outcomes]
    if len(set(places)) < len(places) or any(outcome.run != run.record.id for outcome in outcomes):
        raise BundleRefused(f"{OUTCOMES}: an outcome is duplicated, or belongs to another run")
    if missing := recorded.keys() - set(places):
        raise BundleRefused(f"{OUTCOMES}: the outcome of {_place(min(missing))} is missing; the history has it")
    covered = 0
    for outcome, place in zip(outcomes, places, strict=True):
        if place not in recorded and run.chain.dropped:
            continue
        if recorded.get(place) != digest_of(outcome):
            raise BundleRefused(f"{OUTCOMES}: the outcome of {_place(place)} does not match the history")
        covered += 1
    beyond = f"; {len(outcomes) - covered} are older than the history" if covered < len(outcomes) else ""
    return f"{covered} outcomes match the history{beyond}"


def _place(place: tuple[str, str, str]) -> str:
    turn, node, step = place
    return f"{step} on {node} in {turn}"


def _check_plan(run: BundledRun, events: Sequence[Event], evidence: Evidence) -> str:
    wanted = run.record.plan_fingerprint
    if not wanted:
        return ""
    text = evidence.get(DocumentKind.PLAN, {}).get(DocumentKind.PLAN)
    try:
        plan = Plan.model_validate_json(text or "")
    except ValidationError:
        raise BundleRefused("plan.json is not a valid plan") from None
    stated = {event.digest for event in events if event.kind == "run.planned"}
    if plan.fingerprint != wanted or not stated <= {wanted}:
        raise BundleRefused("plan.json has another fingerprint than the run")
    return f"the plan has the fingerprint {wanted}"


def _check_approval(run: BundledRun, events: Sequence[Event]) -> str:
    """Where the policy demands it, another person approved this plan before anything was changed."""
    record = run.record
    changing = [turn.name for turn in kind_of(record.kind, record.id).changing_turns(record)]
    if not changing or Cluster.of_run(record).policy.approval is None or run.chain.dropped:
        return ""
    opened = next(place for place, event in enumerate(events) if event.kind == "turn.opened" and event.turn in changing)
    approved = [event for event in events[:opened] if event.kind == "run.approved"]
    own = APPROVED.format(who=record.who, where="").casefold()
    others = [event for event in approved if not event.message.casefold().startswith(own)]
    if not any(event.digest == record.plan_fingerprint for event in others):
        raise BundleRefused(f"{EVENTS}: no second person approved the plan before {changing[0]} (policy.approval)")
    return f"a second person approved the plan: {others[-1].message}"


def _check_decisions(manifest: Manifest, run: BundledRun, replayed: Replay, evidence: Evidence) -> str:
    """The replay ends with the verdict of the run, from the same plan and findings."""
    record, stop, same_words = run.record, replayed.stop, manifest.version > _OTHER_WORDS
    if stop.verdict is not record.verdict or (same_words and stop.summary != record.summary):
        raise _differs(manifest, f"the evidence leads to {stop.verdict.value}: {stop.summary}")
    for kind in (DocumentKind.PLAN, DocumentKind.FINDINGS):
        for name, text in replayed.snapshot.store.documents(record.id, kind).items():
            given = evidence.get(kind, {}).get(name, "")
            if given != text and (same_words or not _same_results(kind, given, text)):
                raise _differs(manifest, f"{kind} {name} does not follow from the facts")
    facts = sum(
        len(documents) for kind, documents in evidence.items() if kind not in {DocumentKind.PLAN, DocumentKind.FINDINGS}
    )
    compared = "" if same_words else "; sentences of an older version were not compared"
    decisions = f"{replayed.decisions} decisions, replayed from {facts} documents of facts"
    return f"{decisions}, lead to the verdict {record.verdict}{compared}"


def _same_results(kind: str, given: str, again: str) -> bool:
    """Whether two plans or findings have the same results, whatever their sentences. A newer version has more rules."""
    try:
        if kind == DocumentKind.PLAN:
            return _plan_results(given) == _plan_results(again)
        theirs, ours = _rule_results(given), _rule_results(again)
        return theirs == {rule: ours.get(rule) for rule in theirs}
    except ValidationError as error:
        raise _unreadable(kind, error) from None


def _plan_results(text: str) -> tuple[object, ...]:
    """Older versions had idle nodes in their waves, too, and other facts, of which the fingerprint is made."""
    plan = Plan.model_validate_json(text)
    idle = {part.node for part in plan.nodes if part.empty}
    waves = [busy for wave in plan.waves if (busy := [node for node in wave if node not in idle])]
    return (waves, *((part.node, part.files, len(part.changes)) for part in plan.nodes))


def _rule_results(text: str) -> dict[str, tuple[InvariantState, tuple[str, ...]]]:
    found = Findings.model_validate_json(text).findings
    return {finding.invariant: (finding.verdict, finding.nodes) for finding in found}


def _replay(manifest: Manifest, run: BundledRun, outcomes: Sequence[StepOutcome], evidence: Evidence) -> Replay:
    try:
        return replay(run.record, outcomes, evidence, run.flags)
    except BundleRefused as refused:
        raise _differs(manifest, refused.message) from None
    except (EsyncError, ArithmeticError, AssertionError, LookupError, TypeError, ValueError, RecursionError) as error:
        # The content of a bundle may be crafted to make the replay fail: that is a result, too.
        raise _differs(manifest, f"the run cannot be replayed: {type(error).__name__}") from None


def _differs(manifest: Manifest, what: str) -> BundleRefused:
    theirs, ours = manifest.versions.get("esync-rollout", "another version"), versions()["esync-rollout"]
    remedy = f"esync {theirs} wrote it, this is esync {ours}: check it with version {theirs}" if theirs != ours else ""
    return BundleRefused(what, remedy=remedy)


def _check_reports(manifest: Manifest, run: BundledRun, replayed: Replay, members: Mapping[str, bytes]) -> str:
    """The reports are the same when they are built again."""
    names = ("esync-rollout", "jinja2", "pydantic")
    if manifest.version <= _OTHER_WORDS or any(manifest.versions.get(name) != versions()[name] for name in names):
        return f"{REPORT} and {REPORT_PAGE} were built by other versions and were not compared"
    whole = Snapshot(run.record, Reading(replayed.snapshot.store, run.record.id), replayed.snapshot.documents)
    report = build(summary_of(whole, kind_of(run.record.kind, run.record.id)))
    for name, data in report_members(report, to_html(report)).items():
        if members.get(name) != data:
            raise BundleRefused(f"{name} does not match the rest of the bundle")
    return f"{REPORT} and {REPORT_PAGE} match the rest of the bundle"


def _read(kind: type[R], name: str, members: Mapping[str, bytes]) -> R:
    if name not in members:
        raise BundleRefused(f"{name} is missing: this is not the bundle of a run")
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
        raise BundleRefused("a document in the bundle is not text") from None


def _unreadable(name: str, error: ValidationError) -> BundleRefused:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return BundleRefused(f"{name} cannot be read: {where + ': ' if where else ''}{first['msg']}")
