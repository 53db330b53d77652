"""A plan as text: the changes on each node, equal nodes together, then what each wave does. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from pipelines.report.layout import name_ranges, printable
from pipelines.run.plan import NodePlan, Plan
from pipelines.run.waves import worst_case
from tasks.cluster import Cluster
from tasks.ektron.wording import counted, sized
from tasks.policy import FILE, Policy
from workers.records import Change

__all__ = ["left_out_lines", "plan_lines", "schedule_lines"]

_OWN = "\ue000_Sync"  #: stands for the beginning of a node's own file names, to find nodes with equal plans
_CONFIG = ".config"
#: The steps of a wave that change a node, and whether a node's plan has something for them to do.
_NEEDS: Mapping[str, Callable[[NodePlan], bool]] = {
    "config_edit": lambda part: any(change.file.casefold().endswith(_CONFIG) for change in part.changes),
    "cert_copy": lambda part: part.files > 0 or any(change.after == "removed" for change in part.changes),
    "service_restart": lambda part: bool(part.restart),
}

Shape = tuple[tuple[str, str, str, str], ...]


def plan_lines(cluster: Cluster, plan: Plan, only: Sequence[str] = ()) -> list[str]:
    """The plan as lines of text, without its totals. Nodes whose plans differ only in their own name form one group.

    Args:
        cluster: all nodes.
        plan: of the nodes that were selected and answered.
        only: the selected nodes; empty when all are.
    """
    lines: list[str] = []
    groups: dict[tuple[Shape, str, int], list[NodePlan]] = {}
    for part in plan.nodes:
        groups.setdefault((_shape(part), _masked(part.restart, part.node), part.files), []).append(part)
    numbers = plan.wave_numbers()
    for members in groups.values():
        lines += _group(numbers, members)
    lines += left_out_lines(cluster, plan, only)
    lines += [*(f"note: {note}" for note in plan.notes), ""] if plan.notes else []
    return [*map(printable, lines), *schedule_lines(cluster, plan)]


def schedule_lines(cluster: Cluster, plan: Plan) -> list[str]:
    """What each wave of a plan does, what limits them, and how long they take at most."""
    return [printable(line) for line in (*_wave_lines(plan), *_limits(cluster, plan), *_forecast(cluster, plan))]


def left_out_lines(cluster: Cluster, plan: Plan, only: Sequence[str] = ()) -> list[str]:
    """What a plan leaves out: nodes that were not selected or not checked, and leftovers."""
    return [*_left_out(cluster, plan, only), *_leftovers(plan)]


def _left_out(cluster: Cluster, plan: Plan, only: Sequence[str]) -> Iterable[str]:
    """The nodes without a plan, and why."""
    planned = plan.parts()
    missing = [name for name in cluster.node_names if name not in planned]
    unselected = [name for name in missing if only and name not in only]
    lost = [name for name in missing if name not in unselected]
    if unselected:
        yield f"{name_ranges(unselected)}: not selected"
    if lost:
        yield f"{name_ranges(lost)}: no plan, because these nodes could not be checked"
    if missing:
        yield ""


def _leftovers(plan: Plan) -> Iterable[str]:
    """What the plan leaves alone, and how to remove it."""
    if plan.leftovers:
        yield (
            f"{plan.leftovers} leftover {'entry' if plan.leftovers == 1 else 'entries'}: keys and certificate files of "
            "servers that are neither nodes nor partners, or in folders that are not used any more; "
            "esync rollout --prune removes them"
        )
        yield ""


def _group(numbers: Mapping[str, int], members: Sequence[NodePlan]) -> list[str]:
    names = name_ranges(part.node for part in members)
    waves = sorted({numbers.get(part.node, 0) for part in members})
    if members[0].empty:
        return [f"{names}: nothing to do, configured as required", ""]
    first = members[0]
    differ = len(members) > 1 and _shape(first) != _unmasked(first)
    own = f", shown as on {first.node}; the others have their own names" if differ else ""
    where = f" (wave {', '.join(str(wave) for wave in waves)})" if any(waves) else ""
    lines = [f"{names}{where}{own}"]
    shape = _unmasked(first)
    for file in dict.fromkeys(file for _, file, _, _ in shape):
        lines.append(f"  {file}")
        lines += [f"    ~ {what}: {_value(before)} -> {_value(after)}" for what, f, before, after in shape if f == file]
    if first.files:
        where = " on each node" if len(members) > 1 else ""
        lines.append(f"  copy: {counted(first.files, 'certificate file')}, {sized(first.bytes)}{where}")
    if first.restart:
        lines.append(f"  restart: {first.restart}")
    return [*lines, ""]


def _wave_lines(plan: Plan) -> Iterable[str]:
    """The nodes of each wave, and on how many of them each step has something to do."""
    parts = plan.parts()
    for number, wave in enumerate(plan.waves, 1):
        members = [parts[name] for name in wave if name in parts]
        counts = {step: sum(1 for part in members if needed(part)) for step, needed in _NEEDS.items()}
        steps = ", ".join(f"{step} on {count}" for step, count in counts.items() if count)
        yield f"wave-{number}  {name_ranges(wave)}: {steps or 'nothing to do'}"
    if plan.waves and not plan.empty:
        yield "Each step checks its node before and after; at the end all nodes are verified."


def _limits(cluster: Cluster, plan: Plan) -> Iterable[str]:
    """What the policy says about order, limits, holds and approval, as far as it concerns these waves."""
    policy = cluster.policy
    if plan.empty:
        return
    told = [f"order: by {policy.order}"] if policy.order != FILE else []
    told += [f"at most {most} with the same {label} at a time" for label, most in policy.at_most.items()]
    if any(part.restart for part in plan.nodes):
        told.append("whole pools may be restarted" if policy.whole_pool else "at most half of a pool is restarted")
    if policy.hold and len(plan.waves) > 1:
        after = f", at most {policy.hold_for:g} s" if policy.hold_for else ""
        told.append(f"holds {policy.hold.replace('-', ' ')} for esync promote{after}")
    if told:
        yield f"In waves: {'; '.join(told)}."
    if len(plan.waves) > 1:
        yield f"It stops after a wave when more than {_budget(policy, len(cluster.nodes))}."
    if policy.approval:
        yield "Before it changes anything, a second person approves the plan: esync approve."


def _budget(policy: Policy, nodes: int) -> str:
    in_wave = policy.max_failed_per_wave
    of_wave = "" if in_wave is None else f" ({in_wave} in one wave)"
    failed, away = policy.allowed_failures(nodes), policy.allowed_unreachable(nodes)
    return f"{failed} of {counted(nodes, 'node')} failed{of_wave}, or more than {away} did not answer"


def _forecast(cluster: Cluster, plan: Plan) -> Iterable[str]:
    if plan.empty:
        return ()
    minutes = worst_case(cluster, plan.waves) / 60
    held = ", without holds" if cluster.policy.hold and len(plan.waves) > 1 else ""
    return (f"worst case: {minutes:.0f} min{held}, if every step uses up its deadline and all retries",)


def _shape(part: NodePlan) -> Shape:
    return tuple(_masked_change(change, part.node) for change in part.changes)


def _unmasked(part: NodePlan) -> Shape:
    return tuple((change.what, change.file, change.before, change.after) for change in part.changes)


def _masked_change(change: Change, node: str) -> tuple[str, str, str, str]:
    return (
        _masked(change.what, node),
        _masked(change.file, node),
        _masked(change.before, node),
        _masked(change.after, node),
    )


def _masked(text: str, node: str) -> str:
    """Text with the node's own name as a placeholder, so that equal plans read the same."""
    return text.replace(f"{node}_Sync", _OWN)


def _value(text: str) -> str:
    return f'"{text}"' if text else "nothing"
