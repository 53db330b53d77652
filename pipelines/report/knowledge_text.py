"""Answers about the product as lines for people: a certificate file, a sync's reach, a node's trouble. Pure."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipelines.report.styles import printable
from tasks.ektron.certificates.inspect import Inspected
from tasks.ektron.propagation import Propagation
from tasks.ektron.rules.explain import Answer, Explanation
from tasks.ektron.wording import counted
from workers.broker.set_aside import SetAside

__all__ = ["explanation_lines", "inspected_lines", "pair_lines", "propagation_lines", "set_aside_lines"]

_WIDTH = 100
_HEADLINES = {
    Answer.JOINED: "is joined",
    Answer.CAUSE: "is not joined",
    Answer.ELSEWHERE: "is as it should be, but the cluster is not joined",
    Answer.UNKNOWN: "may be joined or not: not everything could be seen",
}


def inspected_lines(name: str, file: Inspected) -> Iterator[str]:
    """One certificate file, a handful of lines."""
    yield f"{printable(name)}: {file.what}{f', for node {printable(file.node)}' if file.node else ''}"
    private = "with the private key" if file.private else "public part only"
    yield f"  key        RSA {file.key_bits}, {file.key}, {private}"
    if file.certificate is not None:
        seen = file.certificate
        yield f"  subject    {printable(seen.subject)}"
        yield f"  valid      {seen.not_before:%Y-%m-%d %H:%M} to {seen.not_after:%Y-%m-%d %H:%M} UTC"
        yield f"  signature  {seen.signature}"
        yield f"  sha-256    {seen.thumbprint}"
        yield f"  value      {file.encoded_value[:40]}... ({len(file.encoded_value)} characters)"
    for note in file.notes:
        yield f"  note       {printable(note)}"


def pair_lines(files: Mapping[str, Inspected]) -> Iterator[str]:
    """Which of several files hold the same key pair."""
    by_key: dict[str, list[str]] = {}
    for name, file in files.items():
        by_key.setdefault(file.key, []).append(printable(name))
    if len(files) > 1:
        for key, names in by_key.items():
            yield f"key pair {key}: {', '.join(names)}"


def propagation_lines(answer: Propagation) -> Iterator[str]:
    """A row a server, then who had better start the sync, and what to mind."""
    width = max(len(server.server) for server in answer.servers)
    for server in answer.servers:
        yield f"{server.server:<{width}}  {server.reach.value:<7}  {server.why}"
    yield f"best: {answer.best.direction.value} on {answer.best.start}; {answer.advice}"
    for caution in answer.cautions:
        yield f"mind: {caution}"


def set_aside_lines(entries: Sequence[SetAside]) -> Sequence[str]:
    """How many messages workers have set aside, why, and the newest of them; nothing where there are none."""
    if not entries:
        return ()
    reasons = Counter((entry.reason, entry.queue) for entry in entries)
    newest = entries[0]
    return (
        f"workers have set {counted(len(entries), 'message')} aside that nobody could use:",
        *(f"  {times} x {reason} (queue {queue})" for (reason, queue), times in reasons.most_common(10)),
        f"  the newest, of {newest.at}: {newest.message[:200]}",
        "tell whoever sends them; they hold nothing up. To delete the list: esync doctor CLUSTER --forget-set-aside",
    )


def explanation_lines(answer: Explanation, seen_by: str, outcome: str = "") -> Iterator[str]:
    """Why a node is not joined: the cause, what to do, and what only follows from it.

    Args:
        answer: of the rules.
        seen_by: the run that looked, and when.
        outcome: what that run came to on this node, when it did not go well.
    """
    cause = answer.cause
    yield f"{answer.node} {_HEADLINES[answer.answer]}{f': {cause.invariant}' if cause else ''}"
    if cause is not None:
        yield from _wrapped(f"what has to hold: {cause.statement}")
        yield from _wrapped(f"seen: {answer.because}")
        if cause.remedy:
            yield from _wrapped(f"do: {cause.remedy}")
        yield from _wrapped(f"source: {cause.source}")
    if outcome:
        yield from _wrapped(outcome)
    yield from _rest(answer)
    yield from _wrapped(f"seen by {seen_by}")


def _rest(answer: Explanation) -> Iterator[str]:
    if answer.passed:
        yield from _wrapped(f"{len(answer.passed)} statements before it hold for this node")
    if answer.consequences:
        yield from _wrapped(f"probably consequences: {_joined(answer.consequences)}")
    for note in answer.notes:
        yield from _wrapped(f"note: {note}")


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(printable(text), _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
