"""What a process remembers of the documents of a run is never older than the store."""

import pytest

from tasks.documents import Known, RunDocuments
from tasks.ektron.certificates.family import Family
from tasks.ektron.certificates.making import generate_family
from tests.unit.tasks.ektron.joined import FOUR, joined_node
from workers.records import DocumentKind, RunRecord
from workers.remembered import Remembered
from workers.secrets.vault import Vault, new_seal_key
from workers.store.memory import MemoryStore


@pytest.fixture(scope="module")
def families() -> tuple[Family, Family]:
    """Two families of one node."""
    return generate_family("S1"), generate_family("S1")


@pytest.fixture
def two() -> tuple[RunDocuments, RunDocuments]:
    """The documents of a run, as two processes see them."""
    store = MemoryStore()
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    vault = Vault(store, new_seal_key())
    return RunDocuments(store, vault, "r1", Known()), RunDocuments(store, vault, "r1", Known())


def test_a_family_is_unsealed_once(two: tuple[RunDocuments, ...], families: tuple[Family, ...]) -> None:
    """The second reading returns the same object."""
    here, there = two
    assert here.family() is None
    there.keep_family(families[0])
    found = here.family()
    assert families[0] == found
    assert here.family() is found


def test_a_family_that_another_process_replaced_is_read_again(
    two: tuple[RunDocuments, ...], families: tuple[Family, ...]
) -> None:
    """What is remembered counts only while the digests in the store are the same."""
    here, there = two
    for family in families:
        there.keep_family(family)
        assert family == here.family()


def test_facts_that_another_process_replaced_are_read_again(two: tuple[RunDocuments, ...]) -> None:
    """Equal facts are parsed once; others are others."""
    here, there = two
    facts = joined_node("S1", FOUR, origin=True)
    there.keep_facts(DocumentKind.OBSERVED, facts)
    found = here.facts(DocumentKind.OBSERVED, "S1")
    assert facts == found
    assert here.facts(DocumentKind.OBSERVED, "S1") is found
    changed = facts.model_copy(update={"service": facts.service.model_copy(update={"state": "stopped"})})
    there.keep_facts(DocumentKind.OBSERVED, changed)
    assert changed == here.facts(DocumentKind.OBSERVED, "S1")


def test_facts_that_are_in_memory_are_not_read_again(two: tuple[RunDocuments, ...]) -> None:
    """Also those that the process would have forgotten, while something holds them; afterwards they are read."""
    store, vault = two[0]._store, two[0]._vault
    documents = RunDocuments(store, vault, "r1", Known(_facts=Remembered(0)))
    held = joined_node("S1", FOUR, origin=True)
    documents.keep_facts(DocumentKind.OBSERVED, held)
    assert documents.all_facts(DocumentKind.OBSERVED)["S1"] is held
    same = held.model_copy()
    del held
    found = documents.facts(DocumentKind.OBSERVED, "S1")
    assert found == same
    assert documents.facts(DocumentKind.OBSERVED, "S1") is found


def test_a_step_sees_what_it_stored_itself(two: tuple[RunDocuments, ...]) -> None:
    """A document that was read when the step began is replaced by what the step stores."""
    store, vault = two[0]._store, two[0]._vault
    step = RunDocuments(store, vault, "r1", Known(), dict.fromkeys(RunDocuments.of_step("S1", alone=False)))
    assert (None, False) == (step.facts(DocumentKind.OBSERVED, "S1"), step.is_right("S1"))
    facts = joined_node("S1", FOUR, origin=True)
    step.keep_facts(DocumentKind.OBSERVED, facts)
    step.keep_right("S1", right=True)
    assert (facts, True) == (step.facts(DocumentKind.OBSERVED, "S1"), step.is_right("S1"))
