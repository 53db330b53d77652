"""A renewal of the certificate family as text, before it begins: what happens on which server, and who has to help."""

from collections.abc import Iterator

from pipelines.report.layout import name_ranges, printable
from pipelines.run.plan import waves_of
from tasks.cluster import Cluster
from tasks.ektron.certificates.both import NEW, OLD
from tasks.ektron.wording import counted, named

__all__ = ["renewal_lines"]

_STAGES = (
    ("admit", f"keys and files of the old and the new family are added as {OLD} and {NEW}"),
    ("switch", "keys, files and web.config change to the new family"),
    ("forget", f"{OLD} and {NEW} are removed, and with them the trust in the old family"),
)


def renewal_lines(cluster: Cluster, *, begun: str, generate: bool, partners_ready: bool) -> list[str]:
    """What a renewal will do.

    Args:
        cluster: whose family.
        begun: the run that this one continues; empty when it begins.
        generate: whether esync makes the new family.
        partners_ready: whether the partners trust the new family already.
    """
    return [printable(line) for line in _lines(cluster, begun, generate=generate, partners_ready=partners_ready)]


def _lines(cluster: Cluster, begun: str, *, generate: bool, partners_ready: bool) -> Iterator[str]:
    names, origin = cluster.node_names, cluster.origin
    maker = "esync makes it" if generate else f"the Security Configurator on {origin} has made it, or the run says how"
    yield f"  family  the new family: {f'that of run {begun}' if begun else maker}"
    for stage, what in _STAGES:
        yield f"  {stage:<6}  {what}; each service restarts"
        if stage == "admit" and cluster.partners and not partners_ready:
            yield f"          then it stops: {named(cluster.partners)} has to trust the new family; the run says how"
    waves = waves_of(cluster, names, restarted=names)
    order = ", then ".join(name_ranges(wave) for wave in waves)
    yield f"  each stage on {counted(len(names), 'server')}: {order}; no stage begins before the one before has ended"
    restarts = len(_STAGES) * len(names)
    yield f"  {counted(restarts, 'service restart')} at most; a server cannot sync while its own service restarts"
    if not cluster.partners:
        yield "  servers outside the cluster that sync with it lose their connection: list them under `partners` first"
