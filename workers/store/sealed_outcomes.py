"""Outcomes as they are stored, and those that this process has written or read: joins read each of them again."""

from workers.records import StepOutcome
from workers.remembered import Remembered
from workers.secrets.seal import Seal
from workers.store.chain import digested
from workers.store.damage import damage_reported

__all__ = ["SealedOutcomes"]

REMEMBERED = 600_000  #: characters of the texts whose outcomes are kept: those of a run on two hundred nodes


class SealedOutcomes:
    """Seals and opens outcomes.

    Args:
        seal: recognises what this installation wrote.
    """

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._known: Remembered[tuple[str, StepOutcome]] = Remembered(REMEMBERED)

    def sealed(self, outcome: StepOutcome, place: str) -> tuple[str, str]:
        """The digest of an outcome, and the text that is stored in a place of its turn.

        Raises:
            SecretUnavailable: there is no seal key.
        """
        digest, plain = digested(outcome)
        where = ("outcome", outcome.run, outcome.turn, place)
        text = self._seal.sealed(where, plain)
        self._keep(where, text, outcome)
        return digest, text

    def opened(self, run: str, turn: str, place: str, text: str) -> StepOutcome:
        """The outcome in a stored text. A text that was read in that place before is not read again.

        Raises:
            RecordRefused: the text was not written by this installation for that place, or cannot be read.
        """
        where = ("outcome", run, turn, place)
        known = self._known.get(_name(where))
        if known is not None and known[0] == text:
            return known[1]
        with damage_reported(run, "outcome"):
            return self._keep(where, text, StepOutcome.model_validate_json(self._seal.opened(where, text)))

    def _keep(self, where: tuple[str, ...], text: str, outcome: StepOutcome) -> StepOutcome:
        return self._known.put(_name(where), (text, outcome), len(text))[1]


def _name(where: tuple[str, ...]) -> str:
    return "\0".join(where)
