"""Folders that the product does not use any more: another place of the site, other editions.

A server lives for years: its site moves to another folder, its edition is upgraded. The certificate files in the old
folders hold private keys that the cluster still trusts. A folder counts as old only with evidence: several sites, and
two generations of the service, may run side by side on one server (ektron-facts 1.1, 10).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PureWindowsPath
from typing import NamedTuple

from tasks.ektron.editions import CONFIGURATOR, Layout, executable_of
from tasks.ektron.facts.generated import GeneratedFile
from tasks.ektron.facts.values import folded_path
from tasks.ektron.refusals import EditionUnknown

__all__ = ["GENERATIONS", "OtherService", "old_folders", "other_services", "product_roots"]

GENERATIONS = ("20", "30", "40")  #: of the Windows service (ektron-facts 1.1)
_SERVICE_FOLDER = re.compile(r"EktronWindowsService(\d\d)", re.IGNORECASE)
_PRODUCT_FOLDER = re.compile(r"CMS400v(\d\d)\d*", re.IGNORECASE)
_VERSION = re.compile(r"\s*(\d+)\.(\d)")
_LOCAL = re.compile(r"[A-Za-z]:\\[^/*?\"<>|\x00-\x1f]*")
_FIRST_OF_40 = 85  #: the first edition with service 4.0, without its dot (ektron-facts 1.1)


class OtherService(NamedTuple):
    """A generation of the service other than the cluster's, that is installed on the node."""

    state: str
    start_type: str
    image_path: str

    @property
    def in_use(self) -> bool:
        """Whether it runs, or would after the next start of the machine."""
        return self.state not in {"", "stopped"} or self.start_type.startswith("auto")


def other_services(service_name: str) -> dict[str, str]:
    """Generation -> name of the service, without the cluster's own."""
    names = {generation: f"EktronWindowsServices{generation}" for generation in GENERATIONS}
    return {number: name for number, name in names.items() if name.casefold() != service_name.casefold()}


def product_roots(system_drive: str) -> tuple[str, ...]:
    """Folders in which each edition has its own folders (ektron-facts 1.2)."""
    return (rf"{system_drive}\Program Files\Ektron", rf"{system_drive}\Program Files (x86)\Ektron")


def old_folders(
    layout: Layout,
    *,
    sites: GeneratedFile | None,
    earlier_sites: Iterable[str],
    contents: Mapping[str, Iterable[str]],
    services: Mapping[str, OtherService],
    image_path: str = "",
) -> dict[str, str]:
    """The folders that may hold old certificate files, each with how that is known. None of them is in use.

    Args:
        layout: where the product is now.
        sites: sitedb.config of the service.
        earlier_sites: where earlier runs found the site.
        contents: each of `product_roots` -> the names of the folders in it.
        services: generation -> that service, where it is installed.
        image_path: of the cluster's own service, which may run from another folder than the cluster file says.
    """
    found: dict[str, str] = {}
    used = {folded_path(one) for one in (*layout.written_folders, layout.service_folder, _folder_of(image_path))}
    candidates = (
        *_sites(layout, sites, earlier_sites),
        *_services(contents, services),
        *_products(layout, sites, contents, services),
    )
    for folder, why in candidates:
        if folded_path(folder) not in used and _LOCAL.fullmatch(folder) and ".." not in PureWindowsPath(folder).parts:
            used.add(folded_path(folder))
            found[folder.rstrip("\\")] = why
    return found


def _sites(layout: Layout, sites: GeneratedFile | None, earlier: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Earlier places of the site. One that the service still serves beside the present one is another site.

    The service writes its list once a day (ektron-facts 2.4): a list without the present place is from before the move.
    """
    listed = [(site, site.physical_path) for site in (sites.sites if sites else ()) if site.physical_path]
    active = {folded_path(path) for site, path in listed if site.is_active}
    served = active if folded_path(layout.site) in active else set()
    for path in earlier:
        if folded_path(path) not in served:
            yield path, "an earlier run set the site up there"
    for site, path in listed:
        if not site.is_active and folded_path(path) not in active:
            yield path, "sitedb.config has it as a site that is not active"


def _services(contents: Mapping[str, Iterable[str]], services: Mapping[str, OtherService]) -> Iterator[tuple[str, str]]:
    for root, names in contents.items():
        for name in names:
            match = _SERVICE_FOLDER.fullmatch(name)
            if match and not _in_use(match[1], services):
                yield rf"{root}\{name}", f"no service of generation {match[1][0]}.{match[1][1]} runs from it"
    for generation, service in services.items():
        if not service.in_use and (folder := _folder_of(service.image_path)):
            yield folder, f"the service of generation {generation[0]}.{generation[1]} is switched off"


def _products(
    layout: Layout,
    sites: GeneratedFile | None,
    contents: Mapping[str, Iterable[str]],
    services: Mapping[str, OtherService],
) -> Iterator[tuple[str, str]]:
    """Configurator folders of editions that no site on this server has. Unknown as long as a site has no version."""
    versions = [_VERSION.match(site.version or "") for site in (sites.sites if sites else ()) if site.is_active]
    if not versions or not all(versions):
        return
    editions = {f"{match[1]}{match[2]}" for match in versions if match}
    for root, names in contents.items():
        for name in names:
            match = _PRODUCT_FOLDER.fullmatch(name)
            if match is None or folded_path(rf"{root}\{name}") == folded_path(layout.product_folder):
                continue
            generation = "40" if int(match[1]) >= _FIRST_OF_40 else "30"
            if match[1] not in editions and not _in_use(generation, services):
                yield (
                    rf"{root}\{name}\{CONFIGURATOR}",
                    f"no site on this server has edition {match[1][0]}.{match[1][1]}",
                )


def _in_use(generation: str, services: Mapping[str, OtherService]) -> bool:
    return generation in services and services[generation].in_use


def _folder_of(image_path: str) -> str:
    try:
        return str(PureWindowsPath(executable_of(image_path)).parent)
    except EditionUnknown:
        return ""
