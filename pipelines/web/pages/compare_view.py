"""Two runs side by side: what is different between them. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipelines.report.layout import duration, name_ranges
from pipelines.report.node_words import node_words
from pipelines.report.rows import Report

__all__ = ["Line", "compare_values"]

_NOTHING = "\u2013"


class Line(NamedTuple):
    """One difference."""

    what: str
    first: str
    second: str


def compare_values(first: Report, second: Report) -> dict[str, Any]:
    """What the page shows of two runs."""
    tables = (
        ("Servers that ended differently", "servers", list(_servers(first, second))),
        ("Statements with another result", "statement", list(_findings(first, second))),
        ("Time of each step", "step", list(_timings(first, second))),
    )
    return {"sides": (first, second), "tables": tables}


def _servers(first: Report, second: Report) -> Iterator[Line]:
    """The servers whose part was another one, those with the same two parts together."""
    words = [{node: word.value for node, word in node_words(report).items()} for report in (first, second)]
    groups: dict[tuple[str, str], list[str]] = {}
    for node in dict.fromkeys([*words[0], *words[1]]):
        ends = words[0].get(node, "not in it"), words[1].get(node, "not in it")
        if ends[0] != ends[1]:
            groups.setdefault(ends, []).append(node)
    for ends, nodes in groups.items():
        yield Line(name_ranges(nodes), *ends)


def _findings(first: Report, second: Report) -> Iterator[Line]:
    """The statements about the cluster; none where one of the runs has checked none."""
    if not (first.findings and second.findings):
        return
    texts = [{one.invariant: _result(one.label, one.ranges) for one in report.findings} for report in (first, second)]
    yield from _different(*texts)


def _result(label: str, ranges: str) -> str:
    return f"{label}: {ranges}" if ranges and label != "proven" else label


def _different(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[Line]:
    for name in dict.fromkeys([*first, *second]):
        ends = first.get(name, _NOTHING), second.get(name, _NOTHING)
        if ends[0] != ends[1]:
            yield Line(name, *ends)


def _timings(first: Report, second: Report) -> Sequence[Line]:
    texts = [
        {one.step: f"median {duration(one.median)}, longest {duration(one.longest)}" for one in report.timings}
        for report in (first, second)
    ]
    steps = dict.fromkeys([*texts[0], *texts[1]])
    return [Line(step, texts[0].get(step, _NOTHING), texts[1].get(step, _NOTHING)) for step in steps]
