"""What commands read in place of the name of a cluster: no cluster may be called so."""

from pathlib import PurePath

__all__ = ["LAST", "SUFFIXES", "read_as"]

LAST = "last"  #: the newest run
SUFFIXES = (".yaml", ".yml")  #: of cluster files; of two files with one name the first counts


def read_as(name: str) -> str:
    """What commands take a name for where a cluster may be named; empty if it can only be that of a cluster.

    The name of a group of runs is random: where there is no group of that name, it is that of a cluster.
    """
    if name == LAST:
        return "the newest run"
    return "a cluster file" if PurePath(name).suffix in SUFFIXES else ""
