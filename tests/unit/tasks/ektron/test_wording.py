"""Text for people: counts, lists, shortened values, and what changed on a node."""

import pytest

from tasks.ektron.facts import NodeFacts
from tasks.ektron.wording import PARTS, all_are, changed_parts, counted, named, shortened
from tests.unit.tasks.ektron.joined import joined_node


@pytest.mark.parametrize(("number", "text"), [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes")])
def test_one_is_not_several(number: int, text: str) -> None:
    """A noun has no s for one."""
    assert text == counted(number, "node")


def test_a_sentence_about_all_nodes_begins_in_the_right_number() -> None:
    """One node is not called all nodes."""
    assert (all_are(1), all_are(2)) == ("the node is", "all 2 nodes are")


def test_lists_show_five_names() -> None:
    """The sixth and later ones are counted."""
    assert named("abcde") == "a, b, c, d, e"
    assert named("abcdef") == "a, b, c, d, e and 1 more"
    assert named(["a"]) == "a"


def test_values_are_shortened_to_forty_characters() -> None:
    """A longer one ends in three dots."""
    assert shortened("x" * 40) == "x" * 40
    assert shortened("x" * 41) == "x" * 37 + "..."


def test_every_part_of_the_facts_has_a_name() -> None:
    """Whatever a plan is based on has a name that is not the name of a variable."""
    assert joined_node("S1").comparable().keys() == PARTS.keys()
    assert not any("_" in name for name in PARTS.values())


def test_changes_are_named_by_file_and_value() -> None:
    """Files by their names, values by the names of the product; a change that no rule reads is reported as such."""
    before = joined_node("S1", origin=True)
    web = before.web.model_copy(update={"file": before.web.file.model_copy(update={"hash": "f" * 64})})
    assert ["web.config (no value that esync reads)"] == _changed(before, web=web)
    assert ["web.config (encodedValue)"] == _changed(before, web=web.model_copy(update={"encoded_value": "other"}))
    assert ["web.config (endpoints, WSPath)"] == _changed(
        before, web=before.web.model_copy(update={"endpoints": (), "ws_path": "x"})
    )
    assert ["the EWSUpdates copy"] == _changed(before, ews=None)
    assert ["the Windows service (image path)"] == _changed(
        before, service=before.service.model_copy(update={"image_path": "x"})
    )
    assert ["the Windows service (start type)"] == _changed(
        before, service=before.service.model_copy(update={"start_type": "x"})
    )
    assert ["the certificates of the origin", "the name of the machine"] == _changed(
        before, computer="OTHER", origin_family={}
    )
    assert [] == _changed(before)


def _changed(before: NodeFacts, **update: object) -> list[str]:
    return changed_parts(before.comparable(), before.model_copy(update=update).comparable())
