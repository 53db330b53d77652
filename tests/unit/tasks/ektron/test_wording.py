"""How counts, names and what changed are said."""

import pytest

from tasks.ektron.facts import NodeFacts
from tasks.ektron.wording import PARTS, changed_parts, counted
from tests.unit.tasks.ektron.joined import joined_node


@pytest.mark.parametrize(("number", "said"), [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes")])
def test_one_is_not_several(number: int, said: str) -> None:
    """A noun has no s for one."""
    assert said == counted(number, "node")


def test_every_part_of_a_look_has_a_name() -> None:
    """Whatever a plan is based on can be said to have changed, in words that are no name of a variable."""
    assert joined_node("S1").comparable().keys() == PARTS.keys()


def test_what_changed_is_named_by_file_and_value() -> None:
    """Files by their names, values by the product's; a change of nothing that is read is said to be that."""
    before = joined_node("S1")
    web = before.web.model_copy(update={"file": before.web.file.model_copy(update={"hash": "f" * 64})})
    assert ["web.config (no value that esync reads)"] == _changed(before, web=web)
    assert ["web.config (encodedValue)"] == _changed(before, web=web.model_copy(update={"encoded_value": "other"}))
    assert ["the name of the machine"] == _changed(before, computer="OTHER")
    assert [] == _changed(before)


def _changed(before: NodeFacts, **update: object) -> list[str]:
    return changed_parts(before.comparable(), before.model_copy(update=update).comparable())
