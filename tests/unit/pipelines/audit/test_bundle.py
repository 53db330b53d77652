"""A bundle is valid only as it was written: every byte, the history, the outcomes, the verdict by its evidence."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.audit import archive
from pipelines.audit.archive import pack, unpack
from pipelines.audit.check import check, check_file
from pipelines.audit.manifest import EVENTS, MANIFEST, OUTCOMES, REPORT_PAGE, RUN, BundledRun, evidence_in
from pipelines.cli.entry import run
from pipelines.run.evidence import conclusion
from tasks.ektron.facts.node import NodeFacts
from tests.sampling import examples
from tests.unit.pipelines.audit.bundled_run import MadeUpRun, forged, the_cluster
from workers.errors import BundleRefused, InputRefused
from workers.records import Event, RunState, Status, Verdict
from workers.store.chain import GENESIS, linked

MEMBERS = MadeUpRun().bundle()
PACKED = pack(MEMBERS)
RUNS: dict[str, Callable[[], MadeUpRun]] = {
    "joined": MadeUpRun,
    "verify": lambda: MadeUpRun("verify"),
    "plan": lambda: MadeUpRun("plan"),
    "refuted": lambda: MadeUpRun("verify", after={"P2": stopped}),
    "refuted before": lambda: MadeUpRun(before={"P1": another_build}),
    "failed": lambda: MadeUpRun(ends={("P1", "cert_copy"): Status.FAILED}),
    "unreachable": lambda: MadeUpRun(ends={("P2", "install_check"): Status.UNREACHABLE}),
    "origin silent": lambda: MadeUpRun(ends={("S1", "install_check"): Status.UNREACHABLE}),
    "cancelled": lambda: MadeUpRun(cancel_in="wave-1"),
    "one node": lambda: MadeUpRun(cluster=the_cluster(("S1",))),
    "locked": lambda: MadeUpRun(locked=True),
}


def stopped(facts: NodeFacts) -> NodeFacts:
    """Its service does not run."""
    return facts.model_copy(update={"service": facts.service.model_copy(update={"state": "stopped"})})


def another_build(facts: NodeFacts) -> NodeFacts:
    """It has another build than the others."""
    web = facts.web.model_copy(update={"builds": {"ek_buildNumber": "8.0.1.099", "ek_ServicePack": "SP1"}})
    return facts.model_copy(update={"web": web})


@pytest.mark.parametrize("name", RUNS)
def test_every_kind_of_run_has_a_valid_bundle(name: str) -> None:
    """However a run ends, its bundle leads to the same verdict again, also after writing and reading the file."""
    made = RUNS[name]()
    checked = check(unpack(pack(made.bundle())))
    assert (made.id, made.record.verdict, made.store.chain(made.id).head) == (
        checked.run,
        checked.verdict,
        checked.chain_head,
    )
    assert any("lead to the verdict" in sentence for sentence in checked.checked)


@pytest.mark.parametrize("names", [("S1",), ("S1", "S2", "P1", "P2")])
def test_the_plan_is_recorded_before_the_first_wave(names: tuple[str, ...]) -> None:
    """Also if the canary is the only node: the run has the fingerprint of the plan, and one event records it."""
    made = MadeUpRun(cluster=the_cluster(names))
    kinds = [event.kind for event in made.store.events(made.id)]
    (planned,) = [event for event in made.store.events(made.id) if event.kind == "run.planned"]
    assert made.record.plan_fingerprint == planned.digest != ""
    assert "turn.opened" == kinds[kinds.index("run.planned") + 1]


def test_the_same_run_gives_the_same_bytes() -> None:
    """Writing a bundle twice gives one file."""
    made = MadeUpRun()
    assert pack(made.bundle()) == pack(made.bundle())


def test_the_members_of_a_bundle() -> None:
    """Run, plan, outcomes, events, facts of every observation, findings and both reports, each in the manifest."""
    looks = {f"facts/{kind}/{node}.json" for kind in ("observed", "verified") for node in ("S1", "S2", "P1", "P2")}
    wanted = {RUN, OUTCOMES, EVENTS, "plan.json", "family.json", "report.json", REPORT_PAGE}
    findings = {"findings/assess.json", "findings/verify.json"}
    assert wanted | findings | looks == set(json.loads(MEMBERS[MANIFEST])["members"])


@settings(max_examples=examples(whole=3000, sample=40))
@given(st.data())
def test_any_flipped_byte_of_a_member_is_found(data: st.DataObject) -> None:
    """One changed byte of a member: the bundle is refused, and the member is named."""
    name = data.draw(st.sampled_from(sorted(MEMBERS)))
    place = data.draw(st.integers(0, len(MEMBERS[name]) - 1))
    flipped = bytearray(MEMBERS[name])
    flipped[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BundleRefused, match=name):
        check({**MEMBERS, name: bytes(flipped)})


@settings(max_examples=examples(whole=2000, sample=30))
@given(place=st.integers(0, len(PACKED) - 1), bits=st.integers(1, 255))
def test_any_flipped_byte_of_the_file_is_found(place: int, bits: int) -> None:
    """The bytes of the archive itself are checked, too: headers, directory, times."""
    flipped = bytearray(PACKED)
    flipped[place] ^= bits
    with pytest.raises(BundleRefused):
        check(unpack(bytes(flipped)))


@settings(max_examples=examples(whole=1000, sample=20))
@given(st.integers(0, len(PACKED) - 1))
def test_a_truncated_file_is_refused(length: int) -> None:
    """A file without its last bytes, however many."""
    with pytest.raises(BundleRefused):
        unpack(PACKED[:length])


@settings(max_examples=examples(whole=1000, sample=20))
@given(st.binary(max_size=200))
def test_anything_else_is_refused(data: bytes) -> None:
    """Bytes that are not a zip file, alone, and before and after a valid one."""
    for other in (data, PACKED + data + b"x", b"x" + data + PACKED):
        with pytest.raises(BundleRefused):
            unpack(other)


def lines_changed(change: Callable[[list[bytes]], None]) -> dict[str, bytes]:
    """The bundle with another history, its manifest adapted."""
    lines = MEMBERS[EVENTS].splitlines(keepends=True)
    change(lines)
    return forged(MEMBERS, **{EVENTS: b"".join(lines)})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda lines: lines.pop(4), "event 5 "),
        (lambda lines: lines.pop(), "ends after event"),
        (lambda lines: lines.pop(0), "event 1 "),
        (lambda lines: lines.insert(4, lines[4]), "event 6 .* is after a later event"),
        (lambda lines: lines.insert(4, lines.pop(5)), "event 5 "),
        (lambda lines: lines.__setitem__(4, lines[4].replace(b"2026-", b"2025-")), "event 5 "),
        (lambda lines: lines.__setitem__(4, lines[4].replace(b'"5-0"', b'"5-1"')), "event 5 "),
        (lambda lines: lines.clear(), "ends after event 0"),
        (lambda lines: lines.append(b'{"kind": "run.extra", "id": "x"}\n'), "is not an event id"),
        (lambda lines: lines.append(b"[" * 100_000), "cannot be read"),
    ],
    ids=["removed", "last", "first", "doubled", "moved", "changed", "renumbered", "none", "added", "deep"],
)
def test_a_changed_history_is_found(change: Callable[[list[bytes]], None], what: str) -> None:
    """Removing, adding, moving or changing an event breaks the chain, also with an adapted manifest."""
    with pytest.raises(BundleRefused, match=what):
        check(lines_changed(change))


@pytest.mark.parametrize(
    ("name", "old", "new", "what"),
    [
        (OUTCOMES, b"cert_copy unchanged", b"cert_copy  unchanged", "outcomes.json: the outcome of cert_copy on S1"),
        (RUN, b"new servers", b"old servers", "run.json does not match"),
        (RUN, b'"who": "ops"', b'"who": "you"', "run.json does not match"),
        (RUN, b"all 4 nodes", b"all 5 nodes", "concluded as joined"),
        (RUN, b'"ended": "2', b'"ended": "3', "not those with which the run was concluded"),
        ("facts/verified/P1.json", b'"running"', b'"stopped"', "not those with which the run was concluded"),
        ("plan.json", b"S2", b"S1", "not those with which the run was concluded"),
        ("findings/verify.json", b"proven", b"refuted", "not those with which the run was concluded"),
        (REPORT_PAGE, b"shop", b"shed", "report.html does not match"),
    ],
)
def test_a_member_that_was_changed_is_named(name: str, old: bytes, new: bytes, what: str) -> None:
    """A changed outcome, run, fact, plan, finding or report is found although the manifest was adapted."""
    assert old in MEMBERS[name]
    with pytest.raises(BundleRefused, match=what):
        check(forged(MEMBERS, **{name: MEMBERS[name].replace(old, new, 1)}))


def relinked(members: dict[str, bytes], change: Callable[[Event], Event]) -> dict[str, bytes]:
    """A consistent history, made by an attacker who can compute links."""
    head, lines = GENESIS, []
    for line in members[EVENTS].splitlines():
        event = linked(head, change(Event.model_validate_json(line)))
        head = event.chain
        lines.append(event.to_json())
    run = BundledRun.model_validate_json(members[RUN])
    run = run.model_copy(update={"chain": run.chain.model_copy(update={"head": head})})
    return forged(members, **{EVENTS: "\n".join(lines).encode(), RUN: run.model_dump_json().encode()})


def test_a_forged_verdict_does_not_follow() -> None:
    """A complete new history with the verdict joined is refused: the facts refute it."""
    made = MadeUpRun("verify", after={"P2": stopped})
    made.engine.store.save(made.record.model_copy(update={"verdict": Verdict.JOINED, "summary": "all well"}))
    members = made.bundle()
    run = BundledRun.model_validate_json(members[RUN])

    def joined(event: Event) -> Event:
        if event.kind != "run.concluded":
            return event
        rests_on = conclusion(run.record, evidence_in(members))
        return event.model_copy(update={"status": "joined", "message": "all well", "digest": rests_on})

    with pytest.raises(BundleRefused, match=r"the evidence leads to refuted: service\.running"):
        check(relinked(members, joined))


def test_a_relinked_history_is_consistent_but_has_another_head() -> None:
    """The chain alone cannot reveal a new history; its head does, because it has changed."""
    checked = check(relinked(MEMBERS, lambda e: e.model_copy(update={"message": e.message.replace("1 node", "one")})))
    assert checked.chain_head != check(MEMBERS).chain_head


def zipped(*entries: tuple[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file from another program."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as made:
        for name, data in entries:
            made.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (zipped(("../../etc/passwd", b"x")), "not a valid name"),
        (zipped(("/etc/passwd", b"x")), "not a valid name"),
        (zipped(("C:\\x", b"x")), "not a valid name"),
        (zipped((RUN, b"0" * 10_000_000), how=zipfile.ZIP_DEFLATED), "compressed"),
        (zipped((RUN, b"{}")), "unexpected bytes"),
        (pack({}), "missing: this is not the bundle"),
        (pack({MANIFEST: b"[" * 1_000_000}), "manifest.json cannot be read"),
        (pack({MANIFEST: b"\xff\xfe"}), "manifest.json cannot be read"),
        (pack({MANIFEST: b"{}"}), "manifest.json cannot be read: run: Field required"),
        (b"PK\x01\x02" * 50_000, "larger than any bundle"),
        (b"", "not a valid zip file"),
    ],
    ids=["up", "root", "drive", "bomb", "foreign", "empty", "deep", "no text", "no manifest", "entries", "nothing"],
)
def test_a_hostile_file_is_refused_with_a_sentence(data: bytes, what: str) -> None:
    """Nothing is unpacked or expanded, and no other error is raised."""
    with pytest.raises(BundleRefused, match=what):
        check(unpack(data))


def test_two_members_of_one_name_are_refused() -> None:
    """The result must not depend on which of them a reader takes."""
    with pytest.warns(UserWarning, match="Duplicate"):
        data = zipped((RUN, b"{}"), (RUN, b"[]"))
    with pytest.raises(BundleRefused, match="same name"):
        unpack(data)


def test_an_oversized_file_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is checked first."""
    monkeypatch.setattr(archive, "LARGEST", 10)
    with pytest.raises(BundleRefused, match="larger than any bundle"):
        unpack(PACKED)


def test_an_active_run_has_no_bundle() -> None:
    """A run without a verdict has nothing to check."""
    made = MadeUpRun()
    made.store.save(made.record.model_copy(update={"state": RunState.RUNNING}))
    with pytest.raises(InputRefused, match="has not ended"):
        made.bundle()


def test_the_command_lists_its_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0 and one line per check; 5 and one sentence if a check fails; 1 if there is no file."""
    file = tmp_path / "run.zip"
    file.write_bytes(PACKED)
    assert 0 == run(["report", "--check", str(file)])
    assert 7 == capsys.readouterr().out.count("ok: ")
    assert 0 == run(["report", "--format", "json", "--check", str(file)])
    assert "joined" == json.loads(capsys.readouterr().out)["verdict"]
    file.write_bytes(PACKED.replace(b"all 4 nodes", b"all 5 nodes"))
    assert 5 == run(["report", "--check", str(file)])
    assert str(file) in capsys.readouterr().err
    assert 1 == run(["report", "--check", str(tmp_path / "none.zip")])
    assert check_file.__doc__
