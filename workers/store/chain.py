"""The hash chain over a run's events: it shows when the history was changed afterwards.

Every event is stored with a link:

    link = SHA-256( link before (32 bytes) + digest of the event (32) + its id's two numbers (8 each, big-endian) )

The first link follows 32 zero bytes. The digest of an event is that of its canonical JSON, without id and link:
sorted keys, no white space, ASCII, without fields at their default. Events about something larger carry its digest in
the same form, so the chain covers that too. `lua/chain.lua` computes the same link on the server.
docs/decisions/0006-a-chain-over-events.md has the reasons.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from workers.errors import InputRefused
from workers.records import Event, Record, RunRecord, StepOutcome

__all__ = [
    "GENESIS",
    "Chain",
    "canonical",
    "created_event",
    "digest_of",
    "digested",
    "ended_event",
    "event_position",
    "first_break",
    "identity",
    "linked",
    "without_link",
]

GENESIS = "0" * 64  #: before the first link
Link = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

#: The fields of a run's record that change; all others are fixed at its creation.
_CHANGING = {"state", "version", "turns", "joined", "verdict", "summary", "plan_fingerprint", "began", "ended"}


class Chain(Record):
    """The beginning and end of a history. After `dropped` events were removed, it begins after the link `root`."""

    count: int = 0  #: events that were noted
    dropped: int = 0  #: the oldest events, removed beyond the limit
    root: Link = GENESIS
    head: Link = GENESIS


def event_position(event_id: str) -> tuple[int, int]:
    """The position of an event in its run; the empty id is before all events.

    Raises:
        InputRefused: it is not an event id (clients send them: `Last-Event-ID`).
    """
    match = re.fullmatch(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", event_id or "0-0", re.ASCII)
    if match is None:
        raise InputRefused(f"{event_id[:40]!r} is not an event id", remedy="use the id of an event of this run")
    return int(match[1]), int(match[2] or 0)


def canonical(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """The canonical form of a JSON value, which digests are computed of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def digest_of(value: Any) -> str:  # noqa: ANN401 - the same
    """SHA-256, hex, of a JSON value or a record, in its canonical form."""
    return digested(value)[0] if isinstance(value, Record) else hashlib.sha256(canonical(value)).hexdigest()


def digested(record: Record) -> tuple[str, str]:
    """The digest of a record and its canonical JSON, which `model_validate_json` reads back."""
    text = canonical(record.model_dump(mode="json", exclude_defaults=True))
    return hashlib.sha256(text).hexdigest(), text.decode("ascii")


def linked(before: str, event: Event) -> Event:
    """The event, which has its id, with the link that follows `before`."""
    milliseconds, sequence = event_position(event.id)
    places = milliseconds.to_bytes(8, "big") + sequence.to_bytes(8, "big")
    bare = bytes.fromhex(digest_of(without_link(event)))
    return event.model_copy(update={"chain": hashlib.sha256(bytes.fromhex(before) + bare + places).hexdigest()})


def without_link(event: Event) -> Event:
    """The event without the id and link that the store added."""
    if not event.id and not event.chain:
        return event
    return event.model_copy(update={"id": "", "chain": ""})


def first_break(chain: Chain, events: Iterable[Event]) -> str:
    """The first contradiction in a complete history, as a sentence; empty when there is none."""
    before, count, position = chain.root, chain.dropped, (0, 0)
    for event in events:
        place = f"event {count + 1} ({event.id or 'without an id'}, {event.kind})"
        try:
            here = event_position(event.id)
        except InputRefused as refused:
            return f"{place}: {refused}"
        if here <= position:
            return f"{place} is after a later event"
        if linked(before, event).chain != event.chain:
            return f"{place} does not match the event before it: one of them was changed, removed or inserted"
        before, count, position = event.chain, count + 1, here
    if count != chain.count:
        return f"the history ends after event {count}, but {chain.count} events were recorded"
    return "" if before == chain.head else f"the last event (number {count}) is not the one that was recorded last"


def identity(record: RunRecord) -> str:
    """The digest of what never changes in a run: its cluster, and who requested it, where and why."""
    return digest_of(record.model_dump(mode="json", exclude_defaults=True, exclude=_CHANGING))


def created_event(record: RunRecord) -> Event:
    """The first event of a run."""
    by = f"{record.who or 'an unknown user'} on {record.origin_host or 'an unknown machine'}"
    parts = [f"{record.kind} of {record.cluster} requested by {by}"]
    parts += [f"reason: {record.reason}"] if record.reason else []
    parts += [f"plan {record.plan_fingerprint}"] if record.plan_fingerprint else []
    return Event(kind="run.created", at=record.created, message="; ".join(parts), digest=identity(record))


def ended_event(outcome: StepOutcome, digest: str = "") -> Event:
    """The event of an outcome, noted together with it; `digest` is that of the outcome, where it is known."""
    return Event(
        kind="step.ended",
        turn=outcome.turn,
        node=outcome.node,
        step=outcome.step,
        status=outcome.status,
        failure=outcome.failure or "",
        message=outcome.message,
        digest=digest or digest_of(outcome),
    )
