"""Text for people: counts, lists, shortened values, and what changed on a node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.wording import PARTS, ago, all_are, changed_parts, counted, named, shortened, sized
from tests.unit.tasks.ektron.joined import changed, joined_node


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes"), (345_498, "345,498 nodes")]
)
def test_one_is_not_several(number: int, text: str) -> None:
    """A noun has no s for one; thousands are separated."""
    assert text == counted(number, "node")


def test_a_sentence_about_all_nodes_begins_in_the_right_number() -> None:
    """One node is not called all nodes."""
    assert (all_are(1), all_are(2)) == ("the node is", "all 2 nodes are")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "just now"), (59, "just now"), (60, "1 min ago"), (3599, "60 min ago"), (3600, "1 h ago"),
     (47 * 3600, "47 h ago"), (48 * 3600, "2 days ago"), (400 * 86_400, "400 days ago")],
)  # fmt: skip
def test_how_long_ago_is_said_in_the_largest_unit(seconds: float, text: str) -> None:
    """The clocks of two machines may differ: what is ahead of ours was just now."""
    assert text == ago(seconds)


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
    later = {
        "product_folder": r"D:\CMS400v80",
        "partner_family": {"SyncClient.cer": {"common": "99" * 32}},
        "renamed_copies": ["X1_SyncClient.cer"],
        "old_places": [{"folder": r"D:\old", "files": 6, "why": "an earlier run"}],
    }
    assert changed(joined_node("S1"), **later).comparable().keys() == PARTS.keys()
    assert PARTS.keys() - joined_node("S1").comparable().keys() == later.keys()
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


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (9_949, "9.9 kB"), (9_950, "10 kB"),
        (121_000, "121 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"), (290_218_300, "290 MB"), (5 * 10**12, "5.0 TB"),
        (12_345 * 10**12, "12,345 TB"),
    ],
)  # fmt: skip
def test_sizes_are_readable(size: int, text: str) -> None:
    """Two or three digits and a unit; never 1000 of one unit."""
    assert text == sized(size)


@given(st.integers(0, 10**15 - 10**12))
def test_a_size_is_near_the_number_of_bytes(size: int) -> None:
    """Read back, it differs by less than one in twenty, and has at most three digits."""
    amount, unit = sized(size).split()
    units = {"byte": 1, "bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    assert abs(float(amount) * units[unit] - size) <= size / 20
    assert len(amount.replace(".", "")) <= 3
