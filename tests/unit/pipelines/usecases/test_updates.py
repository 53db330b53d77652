"""Messages about a run that its store has lost."""

from collections.abc import Callable

import pytest

from pipelines.cli.board import StoredRows
from pipelines.usecases.updates import updates_of
from workers.errors import RunUnknown
from workers.records import RunRecord
from workers.store.memory import MemoryStore
from workers.store.port import RunStore


@pytest.mark.parametrize(
    "look", [lambda store: updates_of(store, "r1")(""), lambda store: StoredRows(store).row("r1")], ids=["one", "many"]
)
def test_who_follows_a_run_is_told_when_the_store_has_lost_it(look: Callable[[RunStore], object]) -> None:
    """That it was there, what became of its servers, and how to go on: an operator cannot know that at night."""
    store = MemoryStore()
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    look(store)
    with pytest.raises(RunUnknown, match="the run store has lost run r1: its server was emptied or replaced") as caught:
        look(MemoryStore())
    assert "no file is half-written: start it again" in caught.value.remedy
