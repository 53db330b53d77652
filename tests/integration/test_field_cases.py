"""Situations from public reports, played on the lab: what esync says about each.

A case is a folder in `tests/cases/field` with `case.json`:

    source        address of the public page; its text is not copied
    situation     one sentence
    lab           the case has its own untouched servers of that edition; without, the joined ones of 8.0
    kind          of the run: `verify`, or `rollout` on its own servers
    changes       what is done to the servers: `nodes`, `file`, and `text`, `gone`, or `find` and `replace` (the time of
                  the file is kept); `into` is the file that gets the text which was replaced
    faults        node -> faults of the machine
    cluster       what the cluster file says otherwise
    verdict       of the run
    node          the counter-example, P1 if not given
    says          refuted rule -> words of the reason; no other rule of severity error is refuted, except that a
                  restart may be owed because of the change
    unknown       unknown rule -> words of the reason
    remedy        rule -> words
    words         words in the summary of the run and in the messages of its steps; these and the reasons above are also
                  on the terminal, on the page and in the JSON
    changed, unchanged   files of P1 that the run has, or has not, written
"""

import html
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lab.control.remote import LabProcess
from pipelines.cli.results import print_result
from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tasks.ektron.rules.findings import Findings, InvariantState, Severity
from tests.integration.harness import SITE, Harness, cluster_of, four_servers, on_disk, steps_of
from tests.integration.test_breakages import restored
from tests.integration.test_rollout import SERVICE
from tests.places import CASE_FOLDERS

pytestmark = pytest.mark.integration

FOLDER = CASE_FOLDERS / "field"
CASES: dict[str, dict[str, Any]] = {
    path.parent.name: json.loads(path.read_text("ascii")) for path in sorted(FOLDER.glob("*/case.json"))
}


@pytest.fixture(scope="module")
def joined(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """Four servers, joined once for all cases that only look."""
    with four_servers(tmp_path_factory.mktemp("field") / "lab") as lab:
        assert harness.rollout(cluster_of(lab)).record.verdict == "joined"
        yield lab


@contextmanager
def servers_of(case: dict[str, Any], joined: Callable[[], LabProcess], folder: Path) -> Iterator[LabProcess]:
    """The servers of a case: its own, or the joined ones."""
    if "lab" not in case:
        yield joined()
        return
    with four_servers(folder / "lab", edition=case["lab"]) as lab:
        lab.run_configurator("S1")
        yield lab


@contextmanager
def played(case: dict[str, Any], lab: LabProcess) -> Iterator[None]:
    """The servers in the situation of the case; afterwards as before."""
    with ExitStack() as stack:
        for change in case["changes"]:
            for node in change["nodes"]:
                files = [on_disk(lab, node, placed(path)) for path in (change["file"], change.get("into", "")) if path]
                for file in files:
                    file.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(restored(*files))
                _change(change, lab, node, files)
        for node, faults in case.get("faults", {}).items():
            lab.break_node(node, **faults)
            stack.callback(lab.heal, node)
        yield


def _change(change: dict[str, Any], lab: LabProcess, node: str, files: list[Path]) -> None:
    def filled(text: str) -> str:
        return named(text, lab).replace("NODE", node)

    if change.get("gone"):
        files[0].unlink()
    elif "text" in change:
        files[0].write_bytes(filled(change["text"]).encode())
    else:
        text, times = files[0].read_bytes().decode(), files[0].stat()
        found = re.search(filled(change["find"]), text)
        assert found, change
        new = text[: found.start()] + found.expand(filled(change["replace"])) + text[found.end() :]
        files[0].write_bytes(new.encode())
        os.utime(files[0], ns=(times.st_atime_ns, times.st_mtime_ns))
        for file in files[1:]:
            file.write_bytes(found[0].encode())


def placed(path: str) -> str:
    """The path on a node, with the folders of the product."""
    return path.replace("{site}", SITE).replace("{service}", SERVICE)


def named(text: str, lab: LabProcess) -> str:
    """The text with the address of S1."""
    return text.replace("ADDRESS_S1", str(lab.nodes["S1"]["address"]))


def started(harness: Harness, cluster: Cluster, case: dict[str, Any]) -> RunSummary:
    """The run of a case, when it has ended."""
    return harness.rollout(cluster, kind=case.get("kind", "verify"))


@pytest.mark.parametrize("name", CASES)
def test_a_field_case(harness: Harness, request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    """Verdict, refuted rules, their words and remedies are those of the case, and only its files are written."""
    case = CASES[name]
    with servers_of(case, lambda: request.getfixturevalue("joined"), tmp_path) as lab, played(case, lab):
        data = cluster_of(lab).model_dump() | case.get("cluster", {})
        paths = (*case.get("changed", ()), *case.get("unchanged", ()))
        kept = {path: on_disk(lab, "P1", placed(path)) for path in paths}
        before = {path: file.read_bytes() for path, file in kept.items()}
        seen = started(harness, Cluster.model_validate(data), case)
        written = {path for path, file in kept.items() if file.read_bytes() != before[path]}
    assert (case["verdict"], set(case.get("changed", ()))) == (seen.record.verdict, written)
    messages = [one.message for node in lab.nodes for one in steps_of(seen, node).values()]
    told = " ".join([seen.record.summary, *messages])
    assert [words for words in case.get("words", ()) if words not in told] == [], told
    if "says" in case or case["verdict"] == "joined" or "unknown" in case:
        assert seen.findings is not None
        _judge(case, seen.findings, lab)
    causes = {**case.get("says", {}), **case.get("unknown", {}), **dict(enumerate(case.get("words", ())))}
    for place, shown in renderings(seen).items():
        assert [named(words, lab) for words in causes.values() if named(words, lab) not in shown] == [], (place, shown)


def renderings(seen: RunSummary, *, verbose: bool = False) -> dict[str, str]:
    """What a person reads at the end of the run and on its page, and what a program reads, each in one line."""
    report, screen = build(seen), StringIO()
    print_result(report, Console(file=screen, width=5000), verbose=verbose)
    page = html.unescape(re.sub(r"<[^>]+>", " ", to_html(report).replace("<wbr>", "")))
    shown = {"terminal": screen.getvalue(), "page": page, "JSON": " ".join(_texts(report.model_dump(mode="json")))}
    return {name: " ".join(text.split()) for name, text in shown.items()}


def _texts(value: object) -> Iterator[str]:
    """All texts in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _judge(case: dict[str, Any], findings: Findings, lab: LabProcess) -> None:
    node, says = case.get("node", "P1"), {rule: named(words, lab) for rule, words in case.get("says", {}).items()}
    refuted = {f.invariant: f for f in findings.findings if f.verdict is InvariantState.REFUTED}
    errors = {rule for rule, finding in refuted.items() if finding.severity is Severity.ERROR}
    assert set(says) == errors - {"service.started-after-last-change"}
    for rule, words in says.items():
        assert refuted[rule].nodes == (node,)
        assert words in refuted[rule].reasons[node]
    for rule, words in case.get("unknown", {}).items():
        assert words in findings.of(rule).reasons[node]
    for rule, words in case.get("remedy", {}).items():
        assert words in findings.of(rule).remedy


#: One file of each kind that cannot be used -> words of its cause.
UNUSABLE = {
    "cut off": (b"<configuration>", "not well-formed XML: "),
    "empty": (b"", "the file is empty"),
    "another file": (b"<other/>", "the root element is 'other', 'configuration' was expected"),
    "document type": (b"<!DOCTYPE a><configuration/>", "line 1: the file has a document type"),
    "bytes": (b"<configuration a='\xff'/>", "line 1: the bytes are not valid utf-8"),
    "encoding": (
        b"<?xml version='1.0' encoding='x-none'?><configuration/>",
        "encoding 'x-none' is unknown",
    ),
    "long value": (b"<configuration a='" + b"x" * 11_000_000 + b"'/>", "bytes, more than the limit of 8388608"),
    "depth": (b"<configuration>" + b"<a>" * 120 + b"</a>" * 120 + b"</configuration>", "nested deeper than 100"),
    "section twice": (
        b"<configuration>\n<appSettings/>\n<appSettings/></configuration>",
        "line 3: the section appSettings exists 2 times (lines 2, 3)",
    ),
    "file of a section missing": (
        b"<configuration><appSettings configSource='x.config'/></configuration>",
        "the section appSettings is in another file, 'x.config', which does not exist",
    ),
    "children twice": (
        b"<configuration>\n<ektron.serviceModel><endPoints/><endPoints/></ektron.serviceModel></configuration>",
        "line 2: ektron.serviceModel has 2 elements endPoints",
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_the_cause_of_an_unusable_file_reaches_everybody(harness: Harness, joined: LabProcess, kind: str) -> None:
    """Why web.config on P1 cannot be used is on the terminal, on the page and in the JSON, with the file."""
    data, cause = UNUSABLE[kind]
    file = on_disk(joined, "P1", rf"{SITE}\web.config")
    with restored(file):
        file.write_bytes(data)
        seen = harness.rollout(cluster_of(joined), kind="verify")
    assert seen.record.verdict == "refuted", renderings(seen)["terminal"]
    for place, shown in renderings(seen, verbose=True).items():
        assert cause in shown, place
        assert rf"{SITE}\web.config" in shown, place


def test_every_case_names_its_source_and_situation() -> None:
    """A public address and one sentence, and nothing else than the parts that this file explains."""
    parts = set(re.findall(r"^    (?:(\w+), )?(\w+)  ", __doc__ or "", re.MULTILINE))
    known = {name for pair in parts for name in pair if name}
    for name, case in CASES.items():
        assert re.fullmatch(r"https://\S+", case["source"]), name
        assert re.fullmatch(r".*\.", case["situation"]), name
        assert set(case) <= known, name
    assert len(CASES) >= 20
