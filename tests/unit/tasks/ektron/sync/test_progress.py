"""When a sync has begun and ended, by its polls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.sync.answers import Entry, InProgress, SyncStatus
from tasks.ektron.sync.progress import GONE, QUIET, SyncState, Watched, has_begun, phase_of, since, watched

ENTRIES = st.lists(
    st.builds(
        Entry,
        code=st.sampled_from(("SyncStarted", "SyncTemplatesStarted", "SyncTemplatesFailed", "SyncEnded", "SyncFailed")),
        date=st.sampled_from(("1", "2")),
    ),
    max_size=5,
)


def entries(*codes: str) -> tuple[Entry, ...]:
    """Entries with these codes."""
    return tuple(Entry(code=code, date=str(place)) for place, code in enumerate(codes))


def polled(*polls: tuple[tuple[Entry, ...], bool | None], before: tuple[Entry, ...] = ()) -> Watched:
    """What is known after these polls: entries, and whether a sync is running."""
    known = Watched()
    for found, running in polls:
        known = watched(known, SyncStatus(success=True, entries=found), before, running=running)
    return known


def test_it_has_ended_with_its_last_entry() -> None:
    """Without a failure; or failed, although it ended."""
    assert SyncState.ENDED is polled((entries("SyncStarted", "SyncEnded"), False)).state
    failed = polled((entries("SyncStarted", "SyncAssetsFailed", "SyncEnded"), False))
    assert SyncState.FAILED is failed.state
    assert failed.failure is not None
    assert "SyncAssetsFailed" == failed.failure.code


def test_a_failure_without_an_end_is_final_when_nothing_follows() -> None:
    """The product never reports it complete (ektron-facts 4.4)."""
    poll = (entries("SyncStarted", "SyncFailed"), None)
    assert SyncState.RUNNING is polled(*[poll] * QUIET).state
    assert SyncState.FAILED is polled(*[poll] * (QUIET + 1)).state
    assert SyncState.RUNNING is polled(*[(poll[0], True)] * 20).state


def test_a_sync_whose_service_died_is_lost() -> None:
    """Only when it is known that nothing runs."""
    started = entries("SyncStarted")
    assert SyncState.LOST is polled(*[(started, False)] * (GONE + 1)).state
    assert SyncState.RUNNING is polled(*[(started, None)] * 50).state


def test_nothing_has_begun_without_a_sign() -> None:
    """Entries of the sync before do not count, whether the list grows or begins again."""
    before = entries("SyncStarted", "SyncEnded")
    assert SyncState.WAITING is polled(*[(before, False)] * 30, before=before).state
    assert SyncState.ENDED is polled(((*before, *entries("SyncEnded")), False), before=before).state
    assert entries("SyncStarted") == since(before, entries("SyncStarted"))
    status = SyncStatus(success=True, entries=before)
    assert not has_begun("7", before, status, InProgress(running=True, profile="8"))
    assert has_begun("7", before, status, InProgress(running=True, profile="7"))
    assert has_begun("7", (), status, None)


@given(st.lists(st.tuples(ENTRIES, st.sampled_from((True, False, None))), max_size=20), ENTRIES)
def test_a_final_state_stays(polls: list[tuple[list[Entry], bool | None]], before: list[Entry]) -> None:
    """Whatever is polled afterwards."""
    known, final = Watched(), None
    for found, running in polls:
        known = watched(known, SyncStatus(success=True, entries=tuple(found)), before, running=running)
        final = final or (known if known.state.is_final else None)
        assert final is None or known == final


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("SyncPrivateAssetsStarted", "PrivateAssets: begun"),
        ("SyncAssetLibraryEnded", "AssetLibrary: done"),
        ("SyncAssetsFailed", "Assets: failed"),
        ("SyncEnded", "ended"),
        ("SyncPerformingLoadBalance", "load balancing"),
        ("Something", "Something"),
    ],
)
def test_codes_in_words(code: str, words: str) -> None:
    """An unknown one stays."""
    assert words == phase_of(code)
