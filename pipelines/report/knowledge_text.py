"""Answers about the product as text: a certificate file, the reach of a sync, why a node is not joined. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.report.layout import TEXT_WIDTH, printable, wrapped
from tasks.ektron.cluster_facts import NOT_SEEN
from tasks.ektron.rules.explain import Answer, Explanation
from tasks.ektron.wording import counted
from workers.records import Status

if TYPE_CHECKING:  # each verb loads what it shows
    from pipelines.run.attested import Asked
    from tasks.ektron.certificates.inspect import Inspected
    from tasks.ektron.propagation import Propagation
    from tasks.ektron.rules.confirmations import Confirmation
    from workers.broker.set_aside import SetAside

__all__ = [
    "explanation_lines",
    "inspected_lines",
    "pair_lines",
    "propagation_lines",
    "question_lines",
    "set_aside_lines",
]

_HEADLINES = {
    Answer.JOINED: "is joined",
    Answer.CAUSE: "is not joined",
    Answer.ELSEWHERE: "is correct, but the cluster is not joined",
    Answer.UNKNOWN: "could not be checked completely",
}


def inspected_lines(name: str, file: "Inspected") -> Iterator[str]:
    """One certificate file in a few lines."""
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


def pair_lines(files: "Mapping[str, Inspected]") -> Iterator[str]:
    """The files that contain the same key pair, if there are several files."""
    by_key: dict[str, list[str]] = {}
    for name, file in files.items():
        by_key.setdefault(file.key, []).append(printable(name))
    if len(files) > 1:
        for key, names in by_key.items():
            yield f"key pair {key}: {', '.join(names)}"


def question_lines(
    asked: "Sequence[Asked]", others: "Sequence[Confirmation]", width: int = TEXT_WIDTH
) -> Iterator[str]:
    """The questions that only a person can answer, each with its answer; then what else is confirmed."""
    for one in asked:
        question = one.attestation
        yield ""
        yield f"{question.id}{f' [{question.when}]' if question.when != 'once' else ''}"
        yield from wrapped(question.question, width)
        if one.confirmation is None:
            yield "  not answered"
        else:
            old = "" if one.counts else "does not count any more: "
            yield from wrapped(f"{old}{one.confirmation.sentence}", width)
    for confirmation in others:
        yield ""
        yield confirmation.rule
        yield from wrapped(confirmation.question, width)
        yield from wrapped(confirmation.sentence, width)


def propagation_lines(answer: "Propagation") -> Iterator[str]:
    """One row per server, then the best server to start the sync on, and warnings."""
    width = max(len(server.server) for server in answer.servers)
    for server in answer.servers:
        yield f"{server.server:<{width}}  {server.reach.value:<7}  {server.why}"
    best = f"{answer.best.direction.value} on {answer.best.start}" if answer.best else "no sync"
    yield f"best: {best}; {answer.advice}"
    for caution in answer.cautions:
        yield f"warning: {caution}"


def set_aside_lines(entries: "Sequence[SetAside]") -> Sequence[str]:
    """The number of messages that workers have set aside, the reasons, and the newest one; empty if there are none."""
    if not entries:
        return ()
    reasons = Counter((entry.reason, entry.queue) for entry in entries)
    newest = entries[0]
    return (
        f"workers have set aside {counted(len(entries), 'unusable message')}:",
        *(f"  {times} x {reason} (queue {queue})" for (reason, queue), times in reasons.most_common(10)),
        f"  newest, at {newest.at}: {newest.message[:200]}",
        "They block nothing; find their sender. To delete the list: esync doctor CLUSTER --forget-set-aside",
    )


def explanation_lines(answer: Explanation, seen_by: str, outcome: str = "", width: int = TEXT_WIDTH) -> Iterator[str]:
    """Why a node is not joined: the cause, the fix, and the consequences of the cause.

    Args:
        answer: the result of the rules.
        seen_by: the run that checked the node, and when.
        outcome: the result of that run on this node, unless it was successful.
        width: columns of a line.
    """
    cause = answer.cause
    if cause is not None and answer.because.startswith(NOT_SEEN):
        yield from _unseen_lines(answer, seen_by, outcome, width)
        return
    yield f"{answer.node} {_HEADLINES[answer.answer]}{f': {cause.invariant}' if cause else ''}"
    if cause is not None:
        yield from wrapped(f"required: {cause.statement}", width)
        yield from wrapped(f"found: {answer.because}", width)
        if cause.remedy:
            yield from wrapped(f"Fix: {cause.remedy}", width)
        yield from wrapped(f"source: {cause.source}", width)
    if outcome:
        yield from wrapped(outcome, width)
    yield from _rest(answer, width)
    yield from wrapped(f"checked by {seen_by}", width)


def _unseen_lines(answer: Explanation, seen_by: str, outcome: str, width: int) -> Iterator[str]:
    """That the node could not be checked, and why; no statement about it means anything until it can be."""
    why = answer.because.removeprefix(NOT_SEEN).removeprefix(f"{answer.node}: ").removeprefix(f"{answer.node} ")
    silent = outcome.startswith(f"result of that run on this node: {Status.UNREACHABLE.value}")
    yield f"{answer.node} {'did not answer' if silent else 'could not be checked'}: {why}"
    if outcome:
        yield from wrapped(outcome, width)
    yield from wrapped("nothing else is known about it; what other nodes report about it may follow from this", width)
    yield from wrapped(f"checked by {seen_by}", width)


def _rest(answer: Explanation, width: int) -> Iterator[str]:
    if answer.passed:
        yield from wrapped(f"{len(answer.passed)} earlier statements hold for this node", width)
    if answer.consequences:
        yield from wrapped(f"probable consequences: {', '.join(answer.consequences)}", width)
    for note in answer.notes:
        yield from wrapped(f"note: {note}", width)
