"""Reports: their content and its order, in three formats."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import html

from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.report.layout import duration, name_ranges
from pipelines.report.rows import Report, StepRow
from pipelines.report.styles import STATUS_STYLES, VERDICT_STYLES
from pipelines.report.text import to_text
from pipelines.rollout import kind_of
from pipelines.run.node_results import NodeResult
from tasks.ektron.rules.findings import Finding, InvariantState, ordered
from tests.unit.pipelines.report.sample_run import REMEDY, Sample, cluster_of, sample
from workers.records import Status, Verdict


def _page(made: Sample) -> html.HtmlElement:
    return html.fromstring(to_html(build(made)))


def test_json_is_read_back() -> None:
    """The JSON report contains everything: read back, it is the same report."""
    report = build(sample(failed=["P2"], unreachable=["S2"]))
    assert report == Report.model_validate_json(report.model_dump_json(indent=2))


@pytest.mark.parametrize("verdict", list(Verdict))
def test_exit_code_follows_from_the_verdict(verdict: Verdict) -> None:
    """Every verdict has its exit code in the report and its own title on the page."""
    report = build(sample(verdict=verdict))
    assert verdict.exit_code == report.exit_code
    assert VERDICT_STYLES[verdict].title == _page(sample(verdict=verdict)).findtext(".//h1")


def test_run_in_progress_has_no_verdict() -> None:
    """A run that has not ended is reported in its current state, without a verdict or an exit code."""
    made = sample()
    record = made.record.model_copy(update={"verdict": None, "ended": None, "summary": ""})
    report = build(Sample(record, made.cluster, made.outcomes[:3], None, None, made.nodes, made.kind))
    assert (None, None) == (report.verdict, report.exit_code)
    assert "In progress" in to_html(report)
    assert to_text(report).splitlines()[-1].startswith("CONCLUDED" if record.state == "concluded" else "RUNNING")


def test_failures_are_grouped_by_cause() -> None:
    """Nodes with the same failure are one cause, in words instead of one node's name; the worst come first."""
    report = build(sample(cluster_of(2, 40), failed=["P3", "P4", "P5", "P9"], unreachable=["P20", "P21"]))
    failed, unreachable = report.causes
    assert ("P3..P5, P9", "the file is read-only on the node", REMEDY) == (
        failed.ranges,
        failed.problem.message,
        failed.problem.remedy,
    )
    assert (Status.UNREACHABLE, "P20, P21") == (unreachable.status, unreachable.ranges)
    assert unreachable.problem.message == "port 5986 refused"


def test_single_failure_keeps_its_names() -> None:
    """A cause with one node has the original message."""
    (cause,) = build(sample(failed=["P2"])).causes
    assert cause.problem.message == "the file is read-only on P2"


def test_text_ends_with_failures_totals_and_verdict() -> None:
    """Details first; causes after the findings; then totals; the verdict is the last line."""
    text = to_text(build(sample(failed=["P2"], unreachable=["S2"])))
    order = [
        "refuted: config.asset",
        "warning: family.weak-key",
        "unknown: site",
        "failed: refused (access_denied) in config_edit on P2",
    ]
    order += [
        f"Fix: {REMEDY}\n  P2 reported: P2, Microsoft",
        "administrator",
        "\n\nunreachable in",
        "Node status:",
    ]
    order += ["4 nodes: 1 failed, 1 unreachable, 2 changed\nFAILED: 1 of 4 nodes failed"]
    positions = [text.index(part) for part in order]
    assert sorted(positions) == positions
    assert text.endswith("[rollout 20261123-191500-shop-7f3a2c, 48.2 s]\n")


def test_text_controls_no_terminal() -> None:
    """Escape sequences and line breaks in the message of a node do not get into the text."""
    made = sample(failed=["P2"])
    evil = "\x1b[2Jall is well\nJOINED: all 4 nodes are joined"
    nodes = tuple(
        n.model_copy(update={"problem": n.problem.model_copy(update={"message": evil})}) if n.node == "P2" else n
        for n in made.nodes
    )
    text = to_text(build(Sample(made.record, made.cluster, made.outcomes, made.findings, made.plan, nodes, made.kind)))
    assert "\x1b" not in text
    assert "\nJOINED" not in text


def test_page_stands_alone() -> None:
    """The page has no script, loads nothing, links to nothing but itself, and tells the browser to enforce that."""
    page = _page(sample(failed=["P2"]))
    assert [] == page.xpath("//script | //img | //iframe | //object | //link[@rel!='icon'] | //*[@onclick]")
    icon, *links = page.xpath("//@href | //@src")
    assert icon == "data:,"
    assert links
    assert all(page.xpath("//*[@id=$name]", name=link.removeprefix("#")) for link in links)
    assert "url(" not in to_html(build(sample()))
    assert "default-src 'none'" in page.xpath("string(//meta[@http-equiv]/@content)")


def test_page_escapes_texts() -> None:
    """Text of operators and nodes is text on the page."""
    page = to_html(build(sample(reason="<img src=x onerror=alert(1)>")))
    assert "<img" not in page
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_grid_has_a_cell_for_every_step_of_every_node() -> None:
    """The grid shows each outcome of the run, in its wave, with symbol, word and time."""
    made = sample(failed=["P2"], unreachable=["S2"])
    page = _page(made)
    grid = page.xpath("//table[contains(@class, 'grid')]")[0]
    assert ["wave-1", "wave-2", "in no wave"] == [
        row.text.strip() for row in grid.xpath(".//tr[contains(@class, 'group')]/th")
    ]
    assert len(made.outcomes) == len(grid.xpath(".//td[contains(@class, 'step ')]"))
    last = grid.xpath(".//tr[th = 'P2']/td[position() > 1]")
    words = [" ".join(cell.text_content().split()) for cell in last]
    assert ["= unchanged 0.51 s", "\u2717 failed 0.51 s", "\u2013 skipped", "\u2013 skipped"] == words[1:5]


def test_a_cell_of_the_grid_keeps_the_change_of_an_attempt_before() -> None:
    """The retry of a node found its files in place."""
    report = build(sample())
    again = StepRow(turn="retry-1", stage="retry", step="config_edit", status=Status.UNCHANGED, seconds=0.1)
    nodes = [one.model_copy(update={"steps": (*one.steps, again)}) for one in report.nodes if one.node == "P1"]
    grid = html.fromstring(to_html(report.model_copy(update={"nodes": tuple(nodes)})))
    titles = grid.xpath("//table[contains(@class, 'grid')]//td[contains(@class, 'step ')]/@title")
    assert [True, False] == [any(title.startswith(turn) for title in titles) for turn in ("wave-2", "retry-1")]


def test_causes_put_the_remedy_first() -> None:
    """For each cause the fix comes before the message."""
    page = _page(sample(failed=["P2"]))
    card = page.xpath("//h2[@id='problems']/following-sibling::section")[0]
    assert [f"Fix: {REMEDY}", "the file is read-only on P2"] == [p.text_content().strip() for p in card.xpath("p")[:2]]


def test_findings_are_ordered_by_weight() -> None:
    """What has to be cleared up; then, folded, what follows from a failed node; then warnings and what is proven."""
    page = _page(sample(failed=["P2"]))
    below = "//h2[contains(., 'Findings about')]/following-sibling::"
    assert ["unknown"] == page.xpath(f"{below}section//h3/span[1]/text()")
    folded = page.xpath(f"{below}details[summary]")[:3]
    assert [["refuted"], ["warning"], []] == [part.xpath(".//h3/span[1]/text()") for part in folded]
    assert ["Consequences of the problems above", "1 warning", "\u2713 5 of 8 invariants proven"] == [
        part.xpath("string(summary/text())").strip() for part in folded
    ]
    assert [None, None, None] == [part.get("open") for part in folded]
    assert len(folded[2].xpath("ul/li")) == 5


def _finding(invariant: str, verdict: InvariantState, node: str, **more: str) -> Finding:
    return Finding(invariant=invariant, verdict=verdict, nodes=(node,), evidence=more.pop("evidence", "seen"), **more)


def test_findings_with_the_same_cause_are_one_entry() -> None:
    """All about an unreachable node, and what a rollout fixes on a failed one, are one entry each."""
    silent, heals = "S2: not seen", "run a rollout, or do it by hand"
    found = [
        _finding("config.one", InvariantState.REFUTED, "P2", remedy=heals),
        _finding("config.two", InvariantState.REFUTED, "P2", remedy="run a rollout"),
        _finding("clock.skew", InvariantState.REFUTED, "P2", remedy="set the clock"),
        _finding("keys.one", InvariantState.REFUTED, "P1", remedy=heals),
        _finding("keys.two", InvariantState.REFUTED, "P1", remedy=heals),
        _finding("network.reach", InvariantState.REFUTED, "S2", remedy="open TCP 8732"),
        _finding("disk.one", InvariantState.UNKNOWN, "S2", evidence=silent),
        _finding("disk.two", InvariantState.UNKNOWN, "S2", evidence=silent),
        _finding("disk.own", InvariantState.UNKNOWN, "S2", evidence="S2: no answer in 10 s"),
    ]
    report = build(replace(sample(failed=["P2"], unreachable=["S2"]), findings=ordered(found)))
    text = to_text(report)
    assert "refuted on P2: 2 statements do not hold; a successful rollout fixes them" in text
    assert "\n  config.one, config.two\n" in text
    gone = f"unknown on S2: 4 statements could not be checked ({silent})"
    assert f"{gone}\n  network.reach, disk.one, disk.two, disk.own\n" in text
    assert text.index(gone) > text.index("keys.two")
    assert "open TCP 8732" not in text
    for alone in (
        "refuted: clock.skew on P2",
        "refuted: keys.one on P1",
        "refuted: keys.two on P1",
    ):
        assert alone in text
    page = to_html(report)
    assert all(finding.invariant in page for finding in found)


def test_a_refuted_node_is_not_shown_as_unchanged() -> None:
    """After a verify: neither in the totals nor as its outcome nor in its last cell; in text, too."""
    made = sample()
    nodes = tuple(NodeResult(node=node.node, status=Status.UNCHANGED) for node in made.nodes)
    record = made.record.model_copy(
        update={"kind": "verify", "verdict": Verdict.REFUTED, "turns": made.record.turns[-1:]}
    )
    verified = [outcome for outcome in made.outcomes if outcome.turn == "verify"]
    found = ordered([_finding("keys.complete", InvariantState.REFUTED, "P2")])
    done = replace(made, record=record, nodes=nodes, outcomes=tuple(verified), findings=found, kind=kind_of("verify"))
    page = _page(done)
    counts = [span.text_content() for span in page.xpath("//div[@class='totals']/span")]
    assert ["\u2260 1 refuted", "= 3 correct"] == counts
    rows = {row.xpath("string(th)"): row for row in page.xpath("//table[contains(@class, 'grid')]//tr[td]")}
    marks = {
        node: [row.xpath("string(td[1])").strip(), " ".join(row.xpath("string(td[last()])").split()[:2])]
        for node, row in rows.items()
    }
    assert ["\u2260 refuted", "\u2260 refuted"] == marks.pop("P2")
    assert [["= correct", "= unchanged"]] * 3 == list(marks.values())
    assert "4 nodes: 1 refuted, 3 correct" in to_text(build(done))


def test_changes_of_each_node_are_listed() -> None:
    """Every change is listed under its node with before, after and file."""
    made = sample()
    page = _page(made)
    tables = page.xpath("//h2[contains(., 'Changes')]/following-sibling::details[contains(summary, 'changes')]")
    assert len(tables) == 4
    assert sum(len(outcome.changes) for outcome in made.outcomes) == len(page.xpath("//details//li[@class='change']"))


def test_no_reference_to_a_secret_is_in_a_report() -> None:
    """Accounts and references to secrets are in no report."""
    report = build(sample(failed=["P2"]))
    for shape in (report.model_dump_json(), to_text(report), to_html(report)):
        assert not re.search(r"ESYNC_SHOP_PASSWORD|svc-esync", shape)


def test_large_cluster_is_reported_quickly_and_small() -> None:
    """1,000 nodes make a page below 4 MB."""
    page = to_html(build(sample(cluster_of(4, 996), failed=["P7"])))
    assert len(page) < 4_000_000


def test_every_status_and_verdict_has_a_style() -> None:
    """Every status and verdict has a style, and no two statuses share a symbol."""
    assert set(Status) == set(STATUS_STYLES)
    assert set(Verdict) == set(VERDICT_STYLES)
    assert (
        len({s.symbol for s in STATUS_STYLES.values()}) == len({s.plain for s in STATUS_STYLES.values()}) == len(Status)
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ""),
        (["P1"], "P1"),
        (["P1", "P2"], "P1, P2"),
        (["P1", "P2", "P3"], "P1..P3"),
        (["P1", "P3", "P4", "P5", "S1"], "P1, P3..P5, S1"),
        (["W08", "W09", "W10"], "W08..W10"),
        (["W8", "W09", "W10"], "W8, W09, W10"),
        (["1", "2", "3"], "1..3"),
        (["A", "B"], "A, B"),
    ],
)
def test_node_ranges(names: list[str], expected: str) -> None:
    """Three and more consecutive numbers after the same beginning are one range."""
    assert expected == name_ranges(names)


@given(st.lists(st.from_regex(r"[A-C]?-?0?[0-9]{1,2}", fullmatch=True), max_size=12))
def test_node_ranges_lose_no_name(names: list[str]) -> None:
    """Written out again, ranges are the names they were made from."""
    found: list[str] = []
    for part in filter(None, name_ranges(names).split(", ")):
        first, _, last = part.partition("..")
        found += _written_out(first, last) if last else [first]
    assert names == found


def _written_out(first: str, last: str) -> list[str]:
    number = re.search(r"\d+$", first)
    assert number is not None
    start, digits = int(number[0]), number[0]
    width = len(digits) if digits.startswith("0") else 0
    end = int(last[number.start() :])
    return [f"{first[: number.start()]}{value:0{width}}" for value in range(start, end + 1)]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, "0.00 s"), (0.42, "0.42 s"), (12.34, "12.3 s"), (245.2, "4 min 05 s"), (3720, "1 h 02 min")],
)
def test_durations(seconds: float, expected: str) -> None:
    """Durations are readable at every size."""
    assert expected == duration(seconds)
