"""What the page of a plan shows: the changes as a difference, servers with the same changes together. Pure."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipelines.report.alike import in_words, masked_in_files
from pipelines.report.changed_nodes import changed_nodes
from pipelines.report.layout import name_ranges
from pipelines.report.plan_text import left_out_lines, schedule_lines
from pipelines.run.plan import NodePlan, Plan
from pipelines.run.summary import RunSummary
from pipelines.web.pages import run_view
from tasks.ektron.wording import counted, sized

__all__ = ["plan_values"]


def plan_values(known: RunSummary) -> dict[str, Any]:
    """What the page shows; `plan` is None as long as there is none."""
    plan = known.plan
    if plan is None:
        return {"record": known.record, "plan": None}
    return {
        "record": known.record,
        "plan": plan,
        "left_out": [line for line in left_out_lines(known.cluster, plan, known.record.only) if line],
        "schedule": schedule_lines(known.cluster, plan),
        "restarts": list(_alike(plan, lambda part: part.restart)),
        "copies": list(_alike(plan, _copies)),
        "groups": changed_nodes(plan.nodes, together=True, mask=masked_in_files),
        "right": name_ranges(part.node for part in plan.nodes if part.empty),
    }


def _copies(part: NodePlan) -> str:
    return f"{counted(part.files, 'certificate file')} to copy, {sized(part.bytes)}" if part.files else ""


def _alike(plan: Plan, say: Callable[[NodePlan], str]) -> Iterator[tuple[str, str]]:
    """Servers with the same text: their names, and the text about all of them."""
    groups: dict[str, list[str]] = {}
    for part in _with_text(plan.nodes, say):
        groups.setdefault(masked_in_files(say(part), part.node), []).append(part.node)
    for text, nodes in groups.items():
        yield run_view.in_words(nodes), in_words(text, nodes[0])


def _with_text(parts: Iterable[NodePlan], say: Callable[[NodePlan], str]) -> Iterator[NodePlan]:
    return (part for part in parts if say(part))
