"""The hash chain over a run's events: what makes its history tell on whoever changes it afterwards.

Every event is kept with a link:

    link = SHA-256( link before (32 bytes) + digest of the event (32) + its id's two numbers (8 each, big-endian) )

The first link follows 32 zero bytes. The digest of an event is that of its canonical JSON, without id and link:
sorted keys, no white space, ASCII, fields at their default left out. Events that stand for something larger carry its
digest in the same form, so the chain covers that too. `lua/chain.lua` computes the same link on the server.
docs/decisions/0006-a-chain-over-events.md says why so.
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
    "asked",
    "bared",
    "broken_at",
    "canonical",
    "digest_of",
    "ended",
    "event_position",
    "identity",
    "linked",
]

GENESIS = "0" * 64  #: what the first link follows
Link = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

#: What a run becomes; everything else of its record stands from its creation.
_BECOMES = {"state", "version", "turns", "joined", "verdict", "summary", "plan_fingerprint", "ended"}


class Chain(Record):
    """Where the history of a run begins and ends. With `dropped` events gone, it begins after the link `root`."""

    count: int = 0  #: events ever noted
    dropped: int = 0  #: the oldest, gone because there were very many
    root: Link = GENESIS
    head: Link = GENESIS


def event_position(event_id: str) -> tuple[int, int]:
    """The place of an event in its run; the empty id is before all of them.

    Raises:
        InputRefused: that is not an event id (they come from outside: `Last-Event-ID`).
    """
    match = re.fullmatch(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", event_id or "0-0", re.ASCII)
    if match is None:
        raise InputRefused(
            f"{event_id[:40]!r} is not an event id", remedy="use an id that an event of this run carries"
        )
    return int(match[1]), int(match[2] or 0)


def canonical(value: Any) -> bytes:  # noqa: ANN401 - anything that JSON can say
    """The one spelling of a JSON value that digests are made of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def digest_of(value: Any) -> str:  # noqa: ANN401 - the same
    """SHA-256, hex, of a JSON value or a record, in its canonical form."""
    if isinstance(value, Record):
        value = value.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(canonical(value)).hexdigest()


def linked(before: str, event: Event) -> Event:
    """The event, its id given, with the link that follows `before`."""
    milliseconds, sequence = event_position(event.id)
    places = milliseconds.to_bytes(8, "big") + sequence.to_bytes(8, "big")
    bare = bytes.fromhex(digest_of(bared(event)))
    return event.model_copy(update={"chain": hashlib.sha256(bytes.fromhex(before) + bare + places).hexdigest()})


def bared(event: Event) -> Event:
    """What the store adds, taken off."""
    return event.model_copy(update={"id": "", "chain": ""})


def broken_at(chain: Chain, events: Iterable[Event]) -> str:
    """The first thing that does not hold about a whole history; empty when all of it does."""
    before, count, position = chain.root, chain.dropped, (0, 0)
    for event in events:
        place = f"event {count + 1} ({event.id or 'without an id'}, {event.kind})"
        try:
            here = event_position(event.id)
        except InputRefused as refused:
            return f"{place}: {refused}"
        if here <= position:
            return f"{place} stands after a later one"
        if linked(before, event).chain != event.chain:
            return f"{place} does not follow from what stands before it: one of them was changed, removed or put in"
        before, count, position = event.chain, count + 1, here
    if count != chain.count:
        return f"the history ends after event {count}, {chain.count} were noted"
    return "" if before == chain.head else f"the history ends with another event than was noted last (number {count})"


def identity(record: RunRecord) -> str:
    """Digest of what a run was when it was asked for: cluster, who, from where, why. That never changes."""
    return digest_of(record.model_dump(mode="json", exclude_defaults=True, exclude=_BECOMES))


def asked(record: RunRecord) -> Event:
    """The first event of every run."""
    by = f"{record.who or 'somebody'} on {record.origin_host or 'an unnamed machine'}"
    parts = [f"{record.kind} of {record.cluster} asked for by {by}"]
    parts += [f"reason: {record.reason}"] if record.reason else []
    parts += [f"plan {record.plan_fingerprint}"] if record.plan_fingerprint else []
    return Event(kind="run.created", at=record.created, message="; ".join(parts), digest=identity(record))


def ended(outcome: StepOutcome) -> Event:
    """The event of an outcome: noted with it, in one go."""
    return Event(
        kind="step.ended",
        turn=outcome.turn,
        node=outcome.node,
        step=outcome.step,
        status=outcome.status,
        failure=outcome.failure or "",
        message=outcome.message,
        digest=digest_of(outcome),
    )
