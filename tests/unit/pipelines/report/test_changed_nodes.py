"""Nodes with the same changes are one group."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.report.changed_nodes import changed_nodes
from pipelines.report.rows import NodeRow
from tasks.cluster import Role
from workers.records import Change, Status

RESTART = "service EktronWindowsServices30 restarted"


def row(node: str, *changes: Change) -> NodeRow:
    """A node with these changes."""
    return NodeRow(
        node=node, status=Status.CHANGED, host=f"{node}.example", role=Role.STAGING, pool="a", wave="", changes=changes
    )


def own(node: str, process: int) -> tuple[Change, ...]:
    """The changes that every node gets, each with its own name and process."""
    return (
        Change(what="@serverCertificate", file=f"C:\\{node}.config", before="old", after=f"{node}_SyncServer.pfx"),
        Change(what=RESTART, before=f"process {process}, started 1", after=f"process {process + 1}, started 2"),
    )


def test_names_and_processes_of_their_own_make_no_difference() -> None:
    """One group with one node's names in it and without processes; a node with another change is by itself."""
    rows = [row("S1", *own("S1", 7)), row("S2", *own("S2", 9)), row("S3"), row("S4", *own("S4", 1)[:1])]
    both, single = changed_nodes(rows, together=True)
    assert ("S1, S2", 2, 2) == both[:3]
    assert "S1_SyncServer.pfx (on S1; the others have their own names there)" == both.files[0].changes[0].after
    assert (RESTART, "", "") == both.files[1].changes[0][:3]
    assert ("S4", 1, 1, "S4_SyncServer.pfx") == (*single[:3], single.files[0].changes[0].after)


@given(changes=st.lists(st.lists(st.sampled_from("abc"), max_size=2), max_size=8), together=st.booleans())
def test_no_node_is_lost(*, changes: list[list[str]], together: bool) -> None:
    """Every node that was changed is in one group; apart, every group is one node with all that is known of it."""
    rows = [row(f"N{n}", *(Change(what=what, file="x") for what in whats)) for n, whats in enumerate(changes)]
    groups = changed_nodes(rows, together=together)
    assert sum(group.nodes for group in groups) == sum(bool(whats) for whats in changes)
    assert len(groups) == (len({tuple(whats) for whats in changes if whats}) if together else sum(map(bool, changes)))
