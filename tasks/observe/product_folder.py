"""Finds the product's folder on the origin where it is not beside the service: in both roots, on every fixed drive.

Service and product may be in different roots, `Program Files` and `Program Files (x86)` (ektron-facts 1.2). The roots
are also in the registry, because Windows can have them on another drive.
"""

from collections.abc import Iterable, Mapping

from tasks.ektron.certificates.family import family_names
from tasks.ektron.editions import CONFIGURATOR, Layout
from tasks.observe.asking import answers_to
from tasks.step import Work
from workers.winrm import operations as ops
from workers.winrm.operations import Reply

__all__ = ["elsewhere"]

_ROOTS = ("Program Files", "Program Files (x86)")
_VALUES = ("ProgramFilesDir", "ProgramFilesDir (x86)")
_KEY = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion"


def elsewhere(work: Work, layout: Layout) -> tuple[str, tuple[str, ...]]:
    """The product's folder, if another one than that of the layout fits better, and all folders that were looked at.

    A folder whose Security Configurator has all six files of this node is better than one with the Security
    Configurator alone, and that is better than any other.

    Args:
        work: the origin, and the session with it.
        layout: where the product was expected.

    Returns:
        The other folder, or an empty text; and the folders of the Security Configurator that were looked at.

    Raises:
        EsyncError: the session broke.
    """
    folders = _candidates(work, layout)
    answers = answers_to(work, {folder: ops.list_folder(f"{folder}\\{CONFIGURATOR}") for folder in folders})
    best = max(folders, key=lambda folder: _worth(work.node.name, answers, folder))
    looked = tuple(f"{folder}\\{CONFIGURATOR}" for folder in folders)
    better = _worth(work.node.name, answers, best) > _worth(work.node.name, answers, layout.product_folder)
    return (best if better else ""), looked


def _candidates(work: Work, layout: Layout) -> list[str]:
    """The expected folder first; then those of the registry; then the usual ones on every drive. Each once."""
    name = layout.product_folder.rpartition("\\")[2]
    values = answers_to(work, {value: ops.registry(_KEY, value) for value in _VALUES})
    roots = [str(reply["value"]).rstrip("\\") for reply in values.values() if reply.ok]
    hello = work.session.hello()
    drives = [hello.system_drive, *(drive.name for drive in hello.drives), layout.service_folder[:2]]
    roots += [f"{drive[:2]}\\{root}" for drive in drives for root in _ROOTS]
    found = [layout.product_folder, *(f"{root}\\Ektron\\{name}" for root in roots if root[1:2] == ":")]
    return list({folder.casefold(): folder for folder in reversed(found)}.values())[::-1]


def _worth(node: str, answers: Mapping[str, Reply], folder: str) -> int:
    """0: nothing is there; 1: the Security Configurator; 2: it has all six files of this node."""
    reply = answers[folder]
    if not reply.ok:
        return 0
    names: Iterable[str] = {str(entry["name"]).casefold() for entry in reply["entries"]}
    return 2 if all(name.casefold() in names for name in family_names(node)) else 1
