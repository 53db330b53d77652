"""The questions about a cluster that only a person can answer, each with its answer. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pydantic import TypeAdapter, ValidationError

from tasks.cluster import Cluster, Role
from tasks.ektron.rules.attestations import Attestation, attestations
from tasks.ektron.rules.confirmations import Confirmation, in_force
from workers.records import DocumentKind, RunRecord
from workers.store.port import RunStore

__all__ = ["Asked", "asked_of", "confirmations_of", "document_of", "read_confirmations"]

_ADAPTER: TypeAdapter[tuple[Confirmation, ...]] = TypeAdapter(tuple[Confirmation, ...])


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and who confirmed the answer.

    Attributes:
        confirmation: the answer, if there is one.
        counts: whether it counts: it is not expired, and was given to this question.
    """

    attestation: Attestation
    confirmation: Confirmation | None = None
    counts: bool = False


def asked_of(cluster: Cluster, confirmations: Iterable[Confirmation], on: date) -> tuple[Asked, ...]:
    """All questions about a cluster; first those without an answer that counts.

    Args:
        cluster: its shape decides what is asked.
        confirmations: all that are recorded for it.
        on: the day on which an answer has to count, UTC.
    """
    pools = Counter(node.pool for node in cluster.nodes)
    staging = Counter(node.pool for node in cluster.nodes if node.role is Role.STAGING)
    asked = attestations(
        nodes=max(pools.values()),
        staging=max(staging.values(), default=0),
        production=len(cluster.nodes) - staging.total(),
    )
    given = {one.rule: one for one in confirmations}
    counting = in_force(given.values(), {one.id: one.question for one in asked}, on)
    rows = [Asked(one, given.get(one.id), one.id in counting) for one in asked]
    return tuple(sorted(rows, key=lambda row: row.counts))


def read_confirmations(texts: Mapping[str, str]) -> tuple[Confirmation, ...]:
    """What the store has kept, by rule; a text of another form is left out."""
    found = []
    for rule in sorted(texts):
        try:
            confirmation = Confirmation.model_validate_json(texts[rule])
        except ValidationError:
            continue
        found += [confirmation] if confirmation.rule == rule else []
    return tuple(found)


def document_of(confirmations: Sequence[Confirmation]) -> str:
    """The document that a run keeps of them: they are part of its evidence."""
    return _ADAPTER.dump_json(tuple(confirmations)).decode()


def confirmations_of(store: RunStore, record: RunRecord) -> tuple[Confirmation, ...]:
    """What persons had confirmed when a run was requested."""
    text = store.document(record.id, DocumentKind.ATTESTED, DocumentKind.ATTESTED)
    return _ADAPTER.validate_json(text) if text else ()
