"""What handlers answer: read, bounded, and never trusted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.refusals import Refused
from tasks.ektron.sync import answers
from tasks.ektron.sync.answers import Entry, InProgress, NotAuthorised, Profile, Unusable

READERS = (
    answers.relationships_of,
    answers.in_progress_of,
    answers.started_of,
    answers.status_of,
    answers.balance_start_of,
    answers.balance_status_of,
)
FIELDS = ("Success", "Entries", "Messages", "Code", "Relationships", "Profiles", "IsSyncInProgress", "Items", "Date")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=12,
)


def body(value: object) -> bytes:
    """As a handler sends it."""
    return json.dumps(value).encode()


@given(JSON, st.sampled_from(READERS))
def test_any_json_is_read_or_refused(value: object, reader: object) -> None:
    """No answer raises anything but a refusal."""
    try:
        reader(body(value))  # type: ignore[operator]
    except Refused:
        return


@given(st.binary(max_size=60), st.sampled_from(READERS))
def test_any_bytes_are_read_or_refused(data: bytes, reader: object) -> None:
    """Also what is no JSON."""
    try:
        reader(data)  # type: ignore[operator]
    except Refused:
        return


@pytest.mark.parametrize("reader", READERS)
def test_null_is_not_authorised_and_nothing_is_an_unknown_action(reader: object) -> None:
    """The two odd answers (ektron-facts 4.1)."""
    with pytest.raises(NotAuthorised):
        reader(b"null")  # type: ignore[operator]
    with pytest.raises(Unusable, match="does not know the action"):
        reader(b" ")  # type: ignore[operator]


def test_profiles_are_read() -> None:
    """With ids that are numbers or texts."""
    profile = {"ProfileId": 7, "ProfileName": "Nightly", "Direction": "Upload", "Items": ["Bin", "Templates"]}
    (found,) = answers.relationships_of(body({"Relationships": [{"RelationshipId": "r", "Profiles": [profile]}]}))
    assert (Profile(id="7", name="Nightly", direction="Upload", items=("Bin", "Templates")),) == found.profiles


def test_a_status_has_dates_as_the_server_writes_them() -> None:
    """They are texts (ektron-facts 4.1)."""
    entry = {"Code": "SyncStarted", "DateCreated": "26.11.2026 19:01", "Message": None, "Details": "d"}
    status = answers.status_of(body({"Success": "True", "IsComplete": False, "Entries": [entry, 5]}))
    assert (Entry(code="SyncStarted", date="26.11.2026 19:01", details="d"),) == status.entries
    assert (True, False) == (status.success, status.complete)
    balance = answers.balance_status_of(
        body({"IsAuthorized": True, "Entries": [{"Code": "c", "Error": "e", "Date": "d"}]})
    )
    assert (Entry(code="c", date="d", details="e"),) == balance.entries


def test_a_sync_in_progress_has_its_profile() -> None:
    """An answer without the field is none."""
    found = answers.in_progress_of(body({"IsSyncInProgress": True, "ProfileId": 7, "ProfileName": "Nightly"}))
    assert InProgress(running=True, profile="7", name="Nightly") == found
    with pytest.raises(Unusable, match="IsSyncInProgress"):
        answers.in_progress_of(body({"Success": True}))


def test_lists_and_texts_are_bounded() -> None:
    """An answer cannot fill the store."""
    entries = [{"Code": "x" * 5000}] * 5000
    status = answers.status_of(body({"Entries": entries}))
    assert (2000, 500) == (len(status.entries), len(status.entries[0].code))
