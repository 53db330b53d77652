"""Data that another program wrote to the run store: it is reported for its run, and other runs are not affected."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from pipelines.cli.board import Board, StoredRows, show_board
from pipelines.cli.console import CommandExit, stderr_console
from pipelines.cli.several import Follow, chosen, show_several, watch_several
from pipelines.cli.stored_runs import StoredRuns
from pipelines.engine import Engine
from pipelines.usecases.doing import steered
from pipelines.usecases.waiting import has_work
from tests.claiming import claim
from tests.conftest import Clock
from tests.contract.test_store import a_run, an_outcome
from tests.sampling import examples
from tests.unit.pipelines.audit.bundled_run import the_cluster
from workers.errors import EsyncError, RecordRefused, SecretUnavailable
from workers.records import Event, RunRecord, RunState, Verdict
from workers.secrets.seal import Seal
from workers.secrets.vault import Vault, new_seal_key
from workers.settings import Secret, Settings
from workers.store.kept import DRAINED, attested
from workers.store.redis_store import RedisStore

KEY = new_seal_key()


@pytest.fixture
def store(valkey: Redis, clock: Clock) -> RedisStore:
    """Runs r1 and r2, with data of every kind."""
    made = RedisStore(valkey, Seal(KEY), clock=clock)
    for run in ("r1", "r2"):
        made.create(a_run(run))
        made.lock_servers(("shop:5986",), run, 60)
        fence = claim(made, run, "S1", "w1", 60)
        assert fence
        made.record(an_outcome(run=run), fence)
        made.put(run, "plan", "plan", json.dumps({"of": run}))
        made.put(run, "planned", "S1", "{}")
        made.flag(run, "cancel", f"by the operator of {run}")
        made.note(run, Event(kind="run.started"))
    return made


def fresh(valkey: Redis, key: Secret | None = KEY) -> RedisStore:
    """The same store in another process, which remembers nothing."""
    return RedisStore(valkey, Seal(key), clock=Clock())


def everything(store: RedisStore, run: str) -> list[Callable[[], object]]:
    """All reads of a run, then all writes."""
    return [
        lambda: store.run(run),
        lambda: store.look(run),
        lambda: store.progress(run),
        lambda: store.flags(run),
        lambda: store.outcome(run, "wave-1", "S1", "config_edit"),
        lambda: store.outcomes(run),
        lambda: store.events(run),
        lambda: store.chain(run),
        lambda: store.document(run, "plan", "plan"),
        lambda: store.documents(run, "planned"),
        lambda: store.leases(run),
        lambda: store.reap(run),
        lambda: claim(store, run, "S2", "w1", 60, limit=5),
        lambda: store.renew(run, ["S1"], "w1", 60),
        lambda: store.number(run, "S1", 1, seen=3),
        lambda: store.record(an_outcome("S2", run=run), 1),
        lambda: store.put(run, "facts", "S1", "{}"),
        lambda: store.flag(run, "pause"),
        lambda: store.note(run, Event(kind="turn.opened")),
        lambda: store.save(store.run(run), Event(kind="run.concluded")),
        lambda: store.create(a_run(run)),
        lambda: store.lock_servers(("shop:5986",), run, 60),
        lambda: store.release(run, "S1", "w1"),
        lambda: store.forget(run),
    ]


def is_unchanged(valkey: Redis, run: str = "r2") -> None:
    """The other run has all its data."""
    store = fresh(valkey)
    assert run in {record.id for record in store.runs()}
    assert run == store.run(run).id
    assert 1 == len(store.outcomes(run))
    assert json.dumps({"of": run}) == store.document(run, "plan", "plan")
    assert "cancel" in store.flags(run)
    assert "run.started" in {event.kind for event in store.events(run)}


def test_a_record_without_a_seal_is_refused(store: RedisStore, valkey: Redis) -> None:
    """An older version wrote it, or an attacker with the password of the broker."""
    forged = store.run("r1").model_copy(update={"spec": {"connection": {"secret": "file:/etc/shadow"}}})
    valkey.hset("esync:run:r1", mapping={"record": forged.to_json(), "token": "another"})
    with pytest.raises(RecordRefused, match="record of run r1 has no seal") as caught:
        store.run("r1")
    assert ("r1", "record_refused") == (caught.value.run, caught.value.slug)
    assert "ESYNC_SEAL_KEY" in caught.value.remedy
    is_unchanged(valkey)


def test_a_forged_run_is_refused(valkey: Redis) -> None:
    """A run whose keys are all forged is listed as unreadable, and never started."""
    record = a_run("evil")
    valkey.hset("esync:run:evil", mapping={"version": "0", "token": "t", "cluster": "shop", "record": record.to_json()})
    valkey.zadd("esync:runs", {"evil": 99})
    valkey.sadd("esync:active", "evil")
    refused: list[RecordRefused] = []
    assert () == fresh(valkey).runs(refused=refused.append)
    assert ["evil"] == [error.run for error in refused]
    with pytest.raises(RecordRefused):
        fresh(valkey).run("evil")


@pytest.mark.parametrize(
    "edit",
    [
        lambda text, _: text.replace("shop", "sh0p", 1),
        lambda text, _: text[:-1],
        lambda text, _: text + " ",
        lambda text, _: text[:5] + ("0" if text[5] != "0" else "1") + text[6:],
        lambda text, _: text[33:],
        lambda text, _: " " * 33 + text[33:],
        lambda _, other: other,
        lambda text, other: other[:33] + text[33:],
    ],
    ids=["edited", "cut", "longer", "code", "bare", "blank", "of another run", "another's code"],
)
def test_an_edited_record_is_refused(edit: Callable[[str, str], str], store: RedisStore, valkey: Redis) -> None:
    """Any changed byte, and the record of another run under this id."""
    mine, other = (cast("str", valkey.hget(f"esync:run:{run}", "record")) for run in ("r1", "r2"))
    valkey.hset("esync:run:r1", mapping={"record": edit(mine, other), "token": "another"})
    with pytest.raises(RecordRefused, match="r1"):
        store.run("r1")
    is_unchanged(valkey)


PLACES: list[tuple[str, str, Callable[[RedisStore], object]]] = [
    ("run:{}:outcomes:wave-1", "S1\x1fconfig_edit", lambda store: store.outcomes("r1")),
    ("run:{}:outcomes:wave-1", "S1\x1fconfig_edit", lambda store: store.outcome("r1", "wave-1", "S1", "config_edit")),
    ("run:{}:outcomes:wave-1", "S1\x1fconfig_edit", lambda store: store.record(an_outcome(), 1)),
    ("run:{}:documents:plan", "plan", lambda store: store.document("r1", "plan", "plan")),
    ("run:{}:documents:planned", "S1", lambda store: store.documents("r1", "planned")),
]


@pytest.mark.parametrize(("key", "field", "read"), PLACES, ids=[place[0] for place in PLACES])
@pytest.mark.parametrize("how", ["bare", "swapped", "edited"])
def test_forged_data_of_decisions_is_refused(
    key: str, field: str, read: Callable[[RedisStore], object], how: str, store: RedisStore, valkey: Redis
) -> None:
    """Outcomes, plan and facts: unsealed, copied from another run, or changed."""
    mine, other = (cast("str", valkey.hget("esync:" + key.format(run), field)) for run in ("r1", "r2"))
    text = {"bare": mine[33:], "swapped": other, "edited": mine + "1"}[how]
    valkey.hset("esync:" + key.format("r1"), field, text)
    with pytest.raises(RecordRefused, match="r1"):
        read(store)
    is_unchanged(valkey)


def test_a_list_with_a_forged_flag_shows_all_runs(store: RedisStore, valkey: Redis) -> None:
    """The run says that it cannot be read, and waits for no worker."""
    records = [store.run(run) for run in ("r1", "r2")]
    valkey.hset("esync:run:r1", "flags", json.dumps({"pause": "x"}))
    assert {"r1": "cannot be read", "r2": "stopping"} == steered(store, records)
    assert not has_work(Engine(Settings(), store, Vault(store, None)), records[0])


@pytest.fixture
def runs(store: RedisStore) -> StoredRuns:
    """Those runs as `esync status` and `watch` look at them, and r3, which has failed."""
    failed = {"state": RunState.CONCLUDED, "verdict": Verdict.FAILED, "summary": "P1 failed"}
    store.create(a_run("r3").model_copy(update=failed | {"spec": the_cluster().model_dump(mode="json")}))
    return StoredRuns(Engine(Settings(seal_key=KEY), store, Vault(store, None)))


def forge_flag(valkey: Redis) -> None:
    """The flags of r1 have no seal."""
    valkey.hset("esync:run:r1", "flags", json.dumps({"pause": "x"}))


def forge_record(valkey: Redis) -> None:
    """The record of r1 has no seal."""
    valkey.hset("esync:run:r1", mapping={"record": "{}", "token": "another"})


@pytest.mark.parametrize("forge", [forge_flag, forge_record])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_damaged_run_hides_no_other_in_a_status(
    runs: StoredRuns,
    valkey: Redis,
    forge: Callable[[Redis], None],
    as_json: bool,  # noqa: FBT001 - a parameter
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has its error in its line, after the failures; the exit status says that it could not be read."""
    forge(valkey)
    with pytest.raises(CommandExit) as ended:
        show_several(runs, chosen(runs, ["r1", "r3"]), as_json=as_json)
    assert Verdict.INCONCLUSIVE.exit_code == ended.value.status
    shown = capsys.readouterr().out
    if as_json:
        damaged, other = json.loads(shown)["clusters"]
        assert ("r1", None, "r3", "failed") == (damaged["run"], damaged["verdict"], other["run"], other["verdict"])
        assert "of run r1" in damaged["summary"]
    else:
        first, second = shown.splitlines()[1:]
        assert ["r3", "failed"] == first.split()[1:3]
        assert "r1" in second
        assert "cannot be read  the " in second


@pytest.mark.parametrize("forge", [forge_flag, forge_record])
def test_a_damaged_run_is_followed_no_further(
    runs: StoredRuns,
    store: RedisStore,
    valkey: Redis,
    forge: Callable[[Redis], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The others are, to their end; the exit status is that of the worst."""

    def shows(records: Sequence[RunRecord], called: Mapping[str, str]) -> None:
        show_board(Board(StoredRows(store), records, called), stderr_console(), str, interval=0)

    forge(valkey)
    with pytest.raises(CommandExit) as ended:
        watch_several(runs, chosen(runs, ["r1", "r3"]), Follow(shows, lambda _: ""), verbose=False, as_json=True)
    assert Verdict.FAILED.exit_code == ended.value.status
    printed = capsys.readouterr()
    assert ["r1", "r3"] == [one["run"] for one in json.loads(printed.out)["clusters"]]
    assert "1 failed, 1 no result" in printed.err


@pytest.mark.parametrize("how", ["bare", "swapped", "edited", "renamed"])
def test_forged_flags_are_refused(how: str, store: RedisStore, valkey: Redis) -> None:
    """Unsealed, copied from another run, changed, or copied to another flag."""
    mine, other = (json.loads(cast("str", valkey.hget(f"esync:run:{run}", "flags"))) for run in ("r1", "r2"))
    seal = mine["cancel"]
    forged = {
        "bare": {"cancel": seal[33:]},
        "swapped": other,
        "edited": {"cancel": seal + "1"},
        "renamed": {"pause": seal},
    }[how]
    valkey.hset("esync:run:r1", "flags", json.dumps(forged))
    with pytest.raises(RecordRefused, match="flag of run r1"):
        store.flags("r1")
    with pytest.raises(RecordRefused, match="flag of run r1"):
        store.look("r1")
    is_unchanged(valkey)


def test_a_text_is_valid_in_one_place_only(store: RedisStore, valkey: Redis) -> None:
    """A plan copied to facts, and an outcome copied to another node are refused."""
    plan = cast("str", valkey.hget("esync:run:r1:documents:plan", "plan"))
    outcome = cast("str", valkey.hget("esync:run:r1:outcomes:wave-1", "S1\x1fconfig_edit"))
    valkey.hset("esync:run:r1:documents:planned", "S1", plan)
    valkey.hset("esync:run:r1:outcomes:wave-1", "S2\x1fconfig_edit", outcome)
    for read in (
        lambda: store.document("r1", "planned", "S1"),
        lambda: store.outcome("r1", "wave-1", "S2", "config_edit"),
    ):
        with pytest.raises(RecordRefused):
            read()


def test_a_key_that_names_another_run_is_refused(store: RedisStore, valkey: Redis) -> None:
    """An attacker changed an idempotency key to name a run that was requested with another key."""
    valkey.set("esync:key:shop:deploy-7", "r2")
    with pytest.raises(RecordRefused, match="deploy-7"):
        store.create(a_run("r3", key="deploy-7"))


def test_the_seal_key_can_be_changed(valkey: Redis) -> None:
    """With NEW,OLD both seals are valid; with NEW alone, those of OLD are refused; a missing key is reported."""
    new = new_seal_key()
    fresh(valkey).create(a_run("r1"))
    both = Secret(f"{new.reveal()},{KEY.reveal()}")
    record = fresh(valkey, both).run("r1")
    with pytest.raises(RecordRefused, match="ESYNC_SEAL_KEY differs"):
        fresh(valkey, new).run("r1")
    fresh(valkey, both).save(record.model_copy(update={"state": RunState.RUNNING}))
    assert RunState.RUNNING is fresh(valkey, new).run("r1").state
    with pytest.raises(SecretUnavailable, match="no seal key"):
        fresh(valkey, None).run("r1")


INVALID = ["", "{", "null", "[]", "1 2", "x" * 40, '{"id": 1}', "0" * 32 + " {}", b"\xff\xfe", b"\xff" * 40]
DAMAGE: dict[str, Callable[[Redis, str], object]] = {
    "list": lambda valkey, key: (valkey.delete(key), valkey.rpush(key, "x")),
    "text": lambda valkey, key: valkey.set(key, "x"),
    "set": lambda valkey, key: (valkey.delete(key), valkey.sadd(key, "x")),
    "stream": lambda valkey, key: (valkey.delete(key), valkey.xadd(key, {"x": "y"})),
    "hash": lambda valkey, key: (valkey.delete(key), valkey.hset(key, "x", "y")),
    "nothing": lambda valkey, key: valkey.delete(key),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize(
    "part",
    [
        "",
        ":events",
        ":outcomes:wave-1",
        ":documents:plan",
        ":documents:planned",
        ":claims",
        ":index",
    ],
)
@pytest.mark.usefixtures("store")
def test_a_key_of_another_type_is_reported_for_its_run(part: str, how: str, valkey: Redis) -> None:
    """Every request about the damaged run ends with an error for operators at most; the other run is unchanged."""
    DAMAGE[how](valkey, f"esync:run:r1{part}")
    for request in everything(fresh(valkey), "r1"):
        try:
            request()
        except EsyncError as error:
            assert any(name in str(error) for name in ("r1", "S1", "S2"))  # noqa: PT017 - either way is fine
    is_unchanged(valkey)


@pytest.mark.parametrize("invalid", INVALID, ids=repr)
@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("", "record"),
        ("", "version"),
        ("", "token"),
        ("", "head"),
        ("", "head_id"),
        ("", "count"),
        ("", "cluster"),
        ("", "pulse"),
        (":outcomes:wave-1", "S1\x1fconfig_edit"),
        (":outcomes:wave-1", "a field"),
        (":documents:plan", "plan"),
        ("", "flags"),
        ("", "lock"),
        ("", "held"),
        ("", "kinds"),
        (":claims", "S1"),
    ],
)
@pytest.mark.usefixtures("store")
def test_an_invalid_value_is_reported_for_its_run(part: str, field: str, invalid: str | bytes, valkey: Redis) -> None:
    """Broken JSON, another type, bytes that are not text."""
    valkey.hset(f"esync:run:r1{part}", field, invalid)
    for request in everything(fresh(valkey), "r1"):
        try:
            request()
        except EsyncError as error:
            assert any(name in str(error) for name in ("r1", "S1", "S2"))  # noqa: PT017 - either way is fine
    is_unchanged(valkey)


@pytest.mark.parametrize("invalid", INVALID, ids=repr)
def test_an_invalid_event_is_reported_for_its_run(invalid: str | bytes, store: RedisStore, valkey: Redis) -> None:
    """Only the history cannot be read."""
    last = cast("str", valkey.hget("esync:run:r1", "head_id"))
    milliseconds, _, number = last.partition("-")
    valkey.xadd("esync:run:r1:events", {"event": invalid, "chain": "x"}, id=f"{milliseconds}-{int(number) + 1}")
    with pytest.raises(RecordRefused, match="r1"):
        store.events("r1")
    is_unchanged(valkey)


@pytest.mark.parametrize("how", ["list", "text", "hash"])
def test_an_invalid_lock_is_free(how: str, store: RedisStore, valkey: Redis) -> None:
    """The next caller takes it, and the leadership too."""
    DAMAGE[how](valkey, "esync:lock:shop:5986")
    DAMAGE[how](valkey, "esync:leader:reconciler")
    assert store.lock_servers(("shop:5986",), "r2", 60) is None
    assert "r2" == store.lock_servers(("shop:5986",), "r1", 60)
    assert store.elect("reconciler", "w1", 60)
    assert not store.elect("reconciler", "w2", 60)


@settings(max_examples=examples(whole=800, sample=20))
@given(place=st.lists(st.text(max_size=5), min_size=1, max_size=4), text=st.text(max_size=50), data=st.data())
def test_a_seal_is_valid_for_its_place_and_its_text(place: list[str], text: str, data: st.DataObject) -> None:
    """It is invalid for another place, another text and another key."""
    seal = Seal(KEY)
    kept = seal.sealed(tuple(place), text)
    assert text == seal.opened(tuple(place), kept)
    at = data.draw(st.integers(0, len(kept) - 1))
    others = [
        (seal, tuple(place), kept[:at] + chr(ord(kept[at]) ^ 1) + kept[at + 1 :]),
        (seal, (*place, ""), kept),
        (seal, ("x", *place), kept),
        (Seal(new_seal_key()), tuple(place), kept),
    ]
    for other, other_place, other_text in others:
        with pytest.raises(ValueError, match=r"seal|SEAL"):
            other.opened(other_place, other_text)


def test_no_script_uses_the_time() -> None:
    """The clock of the server may be wrong."""
    folder = Path(str(files("workers.store") / "lua"))
    texts = {script.name: script.read_text("ascii") for script in folder.glob("*.lua")}
    reading = {name for name, text in texts.items() if "'TIME'" in text}
    expiring = {name for name, text in texts.items() if "'PX'" in text or "'EX'" in text or "EXPIRE" in text}
    assert (set(), set()) == (reading, expiring)


def test_event_ids_increase_when_the_clock_of_a_worker_is_set_back(store: RedisStore, valkey: Redis) -> None:
    """After a change of a day in either direction, the history continues and is complete."""
    ahead = f"{int((time.time() + 86400) * 1000)}-0"
    before = store.note("r1", Event(kind="step.started"))
    valkey.hset("esync:run:r1", "head_id", ahead)
    noted = [store.note("r1", Event(kind="step.ended", message=str(number))) for number in range(3)]
    assert [f"{ahead[:-1]}{number}" for number in (1, 2, 3)] == [event.id for event in noted]
    assert tuple(noted) == store.events("r1", after=before.id)


def test_a_record_is_read_as_it_was_written(valkey: Redis) -> None:
    """Also when another process wrote it."""
    record = fresh(valkey).create(RunRecord(id="r1", cluster="shop", spec={"name": "größer \u2028"}))
    assert record == fresh(valkey).run("r1")


def test_what_another_program_wrote_is_no_confirmation(store: RedisStore, valkey: Redis) -> None:
    """Text without a seal, moved from another cluster or rule, of another installation, or of another type."""
    store.keep(attested("shop@1"), "licence", "ab")
    sealed = valkey.hget("esync:kept:attested shop@1", "licence")
    valkey.hset("esync:kept:attested shop@1", "balancer", sealed)
    valkey.hset("esync:kept:attested shop@1", "clock", "no seal")
    valkey.hset("esync:kept:attested shop@2", "licence", sealed)
    assert {"licence": "ab"} == store.all_kept(attested("shop@1"))
    assert {} == store.all_kept(attested("shop@2"))
    assert {} == fresh(valkey, new_seal_key()).all_kept(attested("shop@1"))
    valkey.hset("esync:kept:attested shop@1", "licence", b"\xff\xfe")
    assert {} == store.all_kept(attested("shop@1"))
    store.keep(DRAINED, "p1:5986", "{}")
    valkey.hset("esync:kept:drained", "p2:5986", valkey.hget("esync:kept:drained", "p1:5986"))
    assert {"p1:5986": "{}"} == store.all_kept(DRAINED)
    valkey.set("esync:kept:attested shop@3", "text")
    assert {} == store.all_kept(attested("shop@3"))
