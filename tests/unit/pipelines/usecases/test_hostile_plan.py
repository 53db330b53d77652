"""A saved plan that was edited: every change is noticed, and another spelling of the same plan is accepted."""

import dataclasses
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.usecases import runs
from pipelines.usecases.plan_file import SavedPlan, is_plan, load_plan
from tests.sampling import examples
from tests.unit.pipelines.audit.bundled_run import MadeUpRun
from workers.errors import InputRefused
from workers.secrets.vault import Vault, new_seal_key
from workers.store.chain import canonical
from workers.store.memory import MemoryStore

Place = tuple[str | int, ...]
OTHERS: tuple[object, ...] = ("", "other", 0, 1, True, None, 1.5, [], {}, "192.0.2.66", "env:OTHER")


@pytest.fixture(scope="module")
def made() -> MadeUpRun:
    """A run of kind `plan`."""
    return MadeUpRun("plan", before={"P2": lambda f: f.model_copy(update={"computer": "P2"})})


@pytest.fixture(scope="module")
def saved(made: MadeUpRun) -> SavedPlan:
    """Its plan."""
    return runs.saved_plan(made.engine, made.id)


def loads(path: Path, text: str | bytes) -> SavedPlan:
    """Writes the file and reads it as a plan."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_plan(path)


def places(value: object, at: Place = ()) -> Iterator[Place]:
    """Every place in a document."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def changed(document: dict[str, Any], at: Place, change: Callable[[Any, str | int], None]) -> str:
    """The document with one change at one place, as text."""
    copy = json.loads(json.dumps(document))
    holder = copy
    for key in at[:-1]:
        holder = holder[key]
    change(holder, at[-1])
    return json.dumps(copy)


def test_every_value_that_is_changed_is_noticed(saved: SavedPlan, tmp_path: Path) -> None:
    """A file in which any value is replaced or removed is refused."""
    document = json.loads(saved.model_dump_json())
    file, every = tmp_path / "plan.json", [at for at in places(document) if at]
    assert len(every) > 500
    step = max(1, len(every) // examples(whole=len(every), sample=100))
    for number, at in enumerate(every[::step]):
        other = OTHERS[number % len(OTHERS)]

        def replaced(holder: Any, key: str | int, other: object = other) -> None:  # noqa: ANN401 - any JSON
            holder[key] = other if canonical(holder[key]) != canonical(other) else "yet another"

        def removed(holder: Any, key: str | int) -> None:  # noqa: ANN401 - any JSON
            del holder[key]

        for change in (replaced, removed):
            with pytest.raises(InputRefused):
                loads(file, changed(document, at, change))


@pytest.mark.parametrize(
    "at",
    [
        ("spec", "nodes", 0, "host"),
        ("spec", "connection", "secret"),
        ("spec", "connection", "transport"),
        ("spec", "site", "path"),
        ("facts", "P1", "service", "image_path"),
        ("facts", "P2", "web", "file", "hash"),
        ("plan", "waves", 0, 0),
        ("run",),
        ("made",),
    ],
)
def test_targets_and_accounts_cannot_be_changed(saved: SavedPlan, tmp_path: Path, at: Place) -> None:
    """Host, secret, transport, site path, facts, waves: the error says that the file was changed."""

    def longer(holder: Any, key: str | int) -> None:  # noqa: ANN401 - any JSON
        holder[key] = f"{holder[key]}x"

    document = json.loads(saved.model_dump_json())
    with pytest.raises(InputRefused, match="changed after it was made"):
        loads(tmp_path / "plan.json", changed(document, at, longer))


def test_order_and_white_space_do_not_matter(saved: SavedPlan, tmp_path: Path) -> None:
    """The same document with another layout is the same plan, and is still recognised as a plan."""
    document = json.loads(saved.model_dump_json())
    turned = json.loads(json.dumps(document), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    for text in (json.dumps(document, indent=4), json.dumps(turned), json.dumps(document, sort_keys=True)):
        assert saved == loads(tmp_path / "plan.json", f"\n {text}\n\n")
        assert is_plan(tmp_path / "plan.json")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace('"run":', '"run":"twice","run":', 1), "damaged"),
        (lambda text: text.replace('"host":', '"host":"192.0.2.66","host":', 1), "damaged"),
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: text + "x", "damaged"),
        (lambda text: text.replace('"esync_plan":3', '"esync_plan":1'), "another version"),
        (lambda text: text.replace('"esync_plan":3', '"esync_plan":3.0'), "changed"),
        (lambda text: text.replace('"esync_plan":3', '"esync_plan":true'), "another version"),
        (lambda text: text.replace('"skew":0.0', '"skew":NaN', 1), "damaged"),
        (lambda text: text.replace('"skew":0.0', '"skew":0'), "changed"),
        (lambda text: text.replace('"skew":0.0', '"skew":' + "9" * 5000), "damaged"),
        (lambda _: '{"esync_plan": 3, "a": ' + "[" * 100_000, "damaged"),
        (lambda _: '{"esync_plan": 3, "a": [' + "{}," * 6_100_000, "larger than any plan"),
        (lambda _: '{"esync_plan": 3}', "changed"),
        (lambda _: "[]", "another version"),
        (lambda _: b"\xff\xfe{}", "damaged"),
    ],
)
def test_a_file_that_is_not_a_plan_is_refused_with_a_sentence(
    saved: SavedPlan, tmp_path: Path, change: Callable[[str], str | bytes], says: str
) -> None:
    """Names that occur twice, cut files, other versions, invalid JSON, too deep, too large: one sentence for each."""
    with pytest.raises(InputRefused, match=says) as caught:
        loads(tmp_path / "plan.json", change(saved.model_dump_json()))
    assert str(tmp_path / "plan.json") == caught.value.file
    assert "plan" in caught.value.remedy


@given(st.binary(max_size=300) | st.from_regex(rb'\{"esync_plan": ?[0-9a-z\[\]{}":,]{0,60}\}', fullmatch=True))
def test_no_content_causes_a_crash(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever a file contains, it is refused with a sentence."""
    with pytest.raises(InputRefused):
        loads(tmp_path_factory.getbasetemp() / "any.json", content)


def test_only_holders_of_the_seal_key_make_plans(saved: SavedPlan, made: MadeUpRun) -> None:
    """An attacker can edit a plan and its digest, but not its authentication code; a plan of another key is refused."""
    where = saved.spec.model_copy(update={"name": "other"})
    forged = saved.model_copy(update={"spec": where}).sealed(Vault(MemoryStore(), None))
    others = saved.sealed(Vault(MemoryStore(), new_seal_key()))
    vault = Vault(MemoryStore(), new_seal_key())
    true = saved.sealed(vault)
    engine = dataclasses.replace(made.engine, vault=vault)
    for plan in (forged, forged.model_copy(update={"mac": true.mac}), others):
        with pytest.raises(InputRefused, match="seal key"):
            runs.start(engine, plan.spec, plan=plan)
    true.require_made_by(vault)
    forged.require_made_by(Vault(MemoryStore(), None))  # without a key it cannot be checked


def test_plans_made_with_a_rotated_seal_key_are_still_accepted(saved: SavedPlan) -> None:
    """The old key is in second place: its plans are accepted until it is removed."""
    old, new = new_seal_key().reveal(), new_seal_key().reveal()
    secret = type(new_seal_key())
    plan = saved.sealed(Vault(MemoryStore(), secret(old)))
    plan.require_made_by(Vault(MemoryStore(), secret(f"{new},{old}")))
    with pytest.raises(InputRefused, match="seal key"):
        plan.require_made_by(Vault(MemoryStore(), secret(new)))


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    """The command neither waits for any of them nor reads it."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "nothing", Path("nul\0")):
        done = threading.Event()

        def read(path: Path = path, done: threading.Event = done) -> None:
            with pytest.raises(InputRefused):
                load_plan(path)
            assert not is_plan(path)
            done.set()

        threading.Thread(target=read, daemon=True).start()
        assert done.wait(5), path
