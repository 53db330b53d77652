"""Arguments that name several cluster files, or folders of them; all are read and checked before anything starts."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import typer

from pipelines.cluster_file.loader import load_cluster
from pipelines.cluster_file.names import SUFFIXES
from pipelines.run.groups import MOST
from tasks.cluster import Cluster
from tasks.ektron.wording import counted
from workers.errors import InputRefused, Misused

if TYPE_CHECKING:  # what makes plans is loaded for those files that are one
    from pipelines.usecases.plan_file import SavedPlan

__all__ = [
    "AtMost",
    "ClusterFiles",
    "RolloutFiles",
    "Source",
    "Unusable",
    "are_many",
    "for_each",
    "has_cluster_files",
    "load_all",
    "load_usable",
    "refuse_for_many",
]

Read = TypeVar("Read")


ClusterFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", help="Cluster files (YAML), or folders of them.", show_default=False, readable=False
    ),
]
RolloutFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="Cluster files (YAML), folders of them, or saved plans.",
        show_default=False,
        readable=False,
    ),
]
AtMost = Annotated[
    int, typer.Option("--at-most", metavar="N", min=1, max=MOST, help="Of several clusters, so many at a time.")
]


class Source(NamedTuple):
    """A cluster of the command: its file, and the plan that has to be applied to it exactly, if there is one."""

    file: Path
    cluster: Cluster
    plan: "SavedPlan | None" = None


class Unusable(NamedTuple):
    """A file that has mistakes, or cannot be read: it hides no other cluster from a command that changes nothing."""

    file: Path

    @property
    def cluster(self) -> str:
        """What to call it: the name that the cluster has is in the file."""
        return self.file.stem

    @property
    def why(self) -> str:
        """Why it has no result, and how to see its mistakes."""
        return f"the file cannot be used: esync check {self.file}"


def are_many(files: Sequence[Path]) -> bool:
    """Whether the arguments stand for a list of clusters: several files, or a folder, even if it has one file."""
    return len(files) != 1 or files[0].is_dir()


def load_all(files: Iterable[Path], *, plans: bool = False) -> tuple[Source, ...]:
    """All clusters that the arguments name, in order, each file once.

    Args:
        files: files, and folders, which stand for their `*.yaml` and `*.yml` that are not hidden.
        plans: whether saved plans are accepted beside cluster files.

    Raises:
        InputRefused: files have mistakes; the message has those of every file. Or a folder has no cluster file.
    """
    return for_each(files, lambda file: _source(file, plans=plans))


def load_usable(files: Iterable[Path]) -> tuple[Source | Unusable, ...]:
    """As `load_all`, for a command that changes nothing: a file with mistakes refuses no other one.

    Raises:
        InputRefused: no file can be used; the message has the mistakes of every file. Or a folder has no cluster file.
    """
    named = tuple(files)
    found = for_each(named, _usable)
    return found if any(isinstance(one, Source) for one in found) else load_all(named)


def for_each(files: Iterable[Path], read: Callable[[Path], Read]) -> tuple[Read, ...]:
    """What `read` makes of each file that the arguments name, in order, each file once. Raises as `load_all`."""
    found: list[Read] = []
    refused: list[InputRefused] = []
    for file in {os.path.realpath(path): path for named in files for path in _files_of(named)}.values():
        try:
            found.append(read(file))
        except InputRefused as error:
            refused.append(error)
    if len(refused) > 1:
        raise InputRefused(
            f"{counted(len(refused), 'file')} of {len(refused) + len(found)} cannot be used; no server was contacted\n"
            + "\n".join(map(str, refused)),
            remedy="correct these files, then check them again: esync check FILE...",
        )
    if refused:
        raise refused[0]
    return tuple(found)


def has_cluster_files(folder: Path) -> bool:
    """Whether a folder stands for cluster files."""
    return any(_cluster_files(folder))


def refuse_for_many(**given: object) -> None:
    """Refuses options that are about one cluster.

    Raises:
        InputRefused: one of them was given; the message names it.
    """
    for name, value in given.items():
        if value:
            raise Misused(
                f"--{name} is for one cluster, and several were named; no server was contacted",
                remedy=f"give --{name} together with one cluster file",
            )


def _source(file: Path, *, plans: bool) -> Source:
    if plans:
        from pipelines.usecases.plan_file import is_plan, load_plan  # noqa: PLC0415 - see above

        if is_plan(file):
            saved = load_plan(file)
            return Source(file, saved.spec, saved)
    return Source(file, load_cluster(file))


def _usable(file: Path) -> Source | Unusable:
    try:
        return _source(file, plans=False)
    except InputRefused:
        return Unusable(file)


def _files_of(named: Path) -> Iterator[Path]:
    if not named.is_dir():
        yield named
        return
    found = sorted(_cluster_files(named))
    if not found:
        raise InputRefused(
            f"folder {named} has no cluster file (*.yaml, *.yml); no server was contacted",
            remedy="give a cluster file, or a folder that has some; `esync init` writes one",
        )
    yield from found


def _cluster_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith("."))
