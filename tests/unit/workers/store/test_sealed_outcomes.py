"""Outcomes that this process knows from before."""

import pytest

from workers.errors import RecordRefused
from workers.records import Status, StepOutcome, now
from workers.secrets.seal import Seal
from workers.secrets.vault import new_seal_key
from workers.store.sealed_outcomes import SealedOutcomes

BEGUN = now()
STEP = "S1 config_edit"
OUTCOME = StepOutcome(
    run="r", turn="wave 1", node="S1", step="config_edit", status=Status.CHANGED, started=BEGUN, ended=BEGUN
)


def test_an_outcome_is_read_once() -> None:
    """The one that was written here is not read at all; it is the same as one that is."""
    seal = Seal(new_seal_key())
    outcomes, others = SealedOutcomes(seal), SealedOutcomes(seal)
    _, text = outcomes.sealed(OUTCOME, STEP)
    assert outcomes.opened("r", "wave 1", STEP, text) is OUTCOME
    read = others.opened("r", "wave 1", STEP, text)
    assert OUTCOME == read
    assert others.opened("r", "wave 1", STEP, text) is read


def test_a_text_is_accepted_in_its_place_only() -> None:
    """Also when it was read there before; and a changed text is refused in the place of one that was read."""
    outcomes = SealedOutcomes(Seal(new_seal_key()))
    _, text = outcomes.sealed(OUTCOME, STEP)
    for place in (("r", "wave 1", "S2 config_edit"), ("r", "wave 2", STEP), ("q", "wave 1", STEP)):
        with pytest.raises(RecordRefused, match="not written by this installation"):
            outcomes.opened(*place, text)
    with pytest.raises(RecordRefused, match="not written by this installation"):
        outcomes.opened("r", "wave 1", STEP, text.replace("changed", "failed"))
    assert outcomes.opened("r", "wave 1", STEP, text) is OUTCOME
