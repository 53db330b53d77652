"""What a renewal shows before it asks."""

import pytest

from pipelines.report.renewal_text import renewal_lines
from tasks.cluster import Cluster
from tests.unit.pipelines.run.snapshots import a_cluster, numbered


def shown(cluster: Cluster, *, begun: str = "", generate: bool = False, partners_ready: bool = False) -> str:
    """The lines as one text."""
    return "\n".join(renewal_lines(cluster, begun=begun, generate=generate, partners_ready=partners_ready))


def test_it_says_what_happens_on_which_server_and_how_often_services_restart() -> None:
    """The stages in their order, the waves, and three restarts for each server."""
    text = shown(a_cluster(numbered(4), waves=[1, 3], whole_pool=True))
    assert text.index("admit") < text.index("switch") < text.index("forget")
    assert "each stage on 4 servers: N1, then N2..N4;" in text
    assert "12 service restarts at most" in text
    assert "list them under `partners` first" in text


@pytest.mark.parametrize("ready", [True, False])
def test_it_says_whether_it_waits_for_partners(ready: bool) -> None:  # noqa: FBT001 - a parameter
    """Not when they are said to trust the new family already."""
    cluster = a_cluster(numbered(2)).model_copy(update={"partners": ("X1",)})
    text = shown(cluster, partners_ready=ready)
    assert ready is ("then it stops: X1 has to trust the new family" not in text)
    assert "lose their connection" not in text


def test_it_says_where_the_new_family_comes_from() -> None:
    """From an earlier run, from esync, or from the Security Configurator."""
    cluster = a_cluster(numbered(2))
    assert "the new family: that of run r7" in shown(cluster, begun="r7", generate=True)
    assert "the new family: esync makes it" in shown(cluster, generate=True)
    assert "the Security Configurator on N1 has made it" in shown(cluster)
