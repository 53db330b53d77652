"""Answers of persons to questions that no program can answer: recorded, listed and withdrawn, by cluster."""

import difflib
from datetime import date, timedelta

from pipelines.engine import Engine
from pipelines.run.attested import Asked, asked_of, read_confirmations
from tasks.cluster import Cluster
from tasks.ektron.rules.attestations import Attestation
from tasks.ektron.rules.confirmations import Confirmation
from tasks.ektron.rules.invariants import INVARIANTS
from workers.errors import InputRefused
from workers.records import Record, now
from workers.store.kept import attested
from workers.texts import cleaned

__all__ = ["LONGEST", "Asked", "Question", "Questions", "attest", "listed", "questions", "scope_of", "withdraw"]

LONGEST = timedelta(days=731)  #: how long an answer may count: what was true two years ago is asked again
_NAME, _NOTE = 80, 500  #: characters


class Question(Attestation):
    """A question about a cluster, and the answer on record; it counts (`answered`) until its day."""

    confirmed: Confirmation | None = None
    answered: bool = False

    @property
    def asked(self) -> Asked:
        """The same for the texts of the terminal."""
        about = Attestation(**self.model_dump(exclude={"confirmed", "answered"}))
        return Asked(about, self.confirmed, self.answered)


class Questions(Record):
    """The questions about a cluster, and the answers about statements that no program could prove."""

    questions: tuple[Question, ...]
    others: tuple[Confirmation, ...] = ()


def attest(engine: Engine, cluster: Cluster, rule: str, *, by: str, until: date, note: str) -> Confirmation:
    """Records that a person confirms a statement about a cluster, in place of an earlier answer.

    Args:
        engine: where.
        cluster: its name and its servers; with other servers it is asked again.
        rule: id of a question, or of an invariant that the facts may leave unknown.
        by: the person.
        until: the last day (UTC) on which it counts.
        note: what the person checked.

    Raises:
        InputRefused: there is no such rule, the day is past or too far away, or a text is empty or too long.
    """
    question, today = _question(cluster, rule), now().date()
    if not today <= until <= today + LONGEST:
        raise InputRefused(
            f"{until:%Y-%m-%d} is {'past' if until < today else 'too far away'}",
            remedy=f"give a day from {today:%Y-%m-%d} to {today + LONGEST:%Y-%m-%d}",
        )
    confirmation = Confirmation(
        rule=rule,
        question=question,
        by=_text(by, "name", _NAME),
        until=until,
        note=_text(note, "note", _NOTE),
        at=now(),
    )
    engine.store.keep(attested(scope_of(cluster)), rule, confirmation.model_dump_json())
    return confirmation


def withdraw(engine: Engine, cluster: Cluster, rule: str) -> None:
    """Removes an answer, so that the question is asked again.

    Raises:
        InputRefused: there is no answer.
    """
    known = engine.store.all_kept(attested(scope_of(cluster)))
    if rule not in known:
        listed_rules = ", ".join(sorted(known)) or "nothing"
        raise InputRefused(
            f"there is no answer to {cleaned(rule, _NAME)!r} of cluster {cluster.name}; recorded: {listed_rules}"
        )
    engine.store.keep(attested(scope_of(cluster)), rule, "")


def listed(engine: Engine, cluster: Cluster) -> tuple[tuple[Asked, ...], tuple[Confirmation, ...]]:
    """The questions about a cluster, each with its answer; and the answers about invariants."""
    confirmations = read_confirmations(engine.store.all_kept(attested(scope_of(cluster))))
    asked = asked_of(cluster, confirmations, now().date())
    questions = {one.attestation.id for one in asked}
    return asked, tuple(one for one in confirmations if one.rule not in questions)


def questions(engine: Engine, cluster: Cluster) -> Questions:
    """The same as data for programs."""
    asked, others = listed(engine, cluster)
    given = [Question(**one.attestation.model_dump(), confirmed=one.confirmation, answered=one.counts) for one in asked]
    return Questions(questions=tuple(given), others=others)


def scope_of(cluster: Cluster) -> str:
    """The cluster as its runs name it (`RunRecord.scope`)."""
    return f"{cluster.name}@{cluster.digest}"


def _question(cluster: Cluster, rule: str) -> str:
    """The statement of a rule.

    Raises:
        InputRefused: there is no such rule; the remedy has similar ones.
    """
    known = {one.attestation.id: one.attestation.question for one in asked_of(cluster, (), now().date())}
    known |= {invariant.id: invariant.statement for invariant in INVARIANTS}
    if rule not in known:
        wanted = rule.casefold()
        near = [one for one in known if wanted and wanted in one] or difflib.get_close_matches(wanted, known, 3, 0.5)
        meant = f"did you mean {' or '.join(near[:3])}? " if near else ""
        raise InputRefused(
            f"there is no rule {cleaned(rule, _NAME)!r}",
            remedy=f"{meant}To list the questions about a cluster: esync attest FILE",
        )
    return known[rule]


def _text(text: str, what: str, longest: int) -> str:
    """One line for others to read.

    Raises:
        InputRefused: it is empty or too long.
    """
    line = cleaned(text).strip()
    if not line or len(line) > longest:
        raise InputRefused(
            f"the {what} is {'empty' if not line else 'too long'}", remedy=f"give 1 to {longest} characters"
        )
    return line
