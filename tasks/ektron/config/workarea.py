"""What the WorkArea reads: in ASP.NET a folder of a site may override the settings of the site for its own pages.

The pages that run syncs are in the WorkArea (ektron-facts 4). Their settings come from web.config of the site, then
from its `location` elements for their folder, then from web.config of each folder on the way, the nearest one last.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.ektron.certificates.family import thumbprint
from tasks.ektron.config.sections import open_config
from tasks.ektron.facts.configuration import CERTIFICATE, CLIENT, CONNECTION, FolderSettings, Override
from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.wording import shortened
from tasks.ektron.xml.document import Element, XmlDocument

__all__ = ["FOLDERS", "overrides_in"]

#: Below the site root, the nearest to the pages last. The spelling does not matter to Windows.
FOLDERS = ("WorkArea", r"WorkArea\sync")
_PAGES = "workarea/sync"
_ELSEWHERE = ("configSource", "file", "configProtectionProvider")


@dataclass(frozen=True, slots=True)
class _Holder:
    """An element that holds sections for a folder of the site."""

    element: Element
    document: XmlDocument
    where: str

    def place(self, element: Element) -> str:
        return f"{self.where}, line {self.document.line(element)}"


def overrides_in(
    site: XmlDocument, below: Mapping[str, bytes], connections: Sequence[str], digest: Callable[[str], str]
) -> FolderSettings:
    """The settings of eSync that are in force for the pages of the WorkArea instead of those of the site.

    Args:
        site: web.config of the site.
        below: folder, as in `FOLDERS` -> its web.config, of those that have one.
        connections: names of the connection strings that the product uses.
        digest: keyed digest; connection strings are passed only to it.
    """
    found: dict[str, Override] = {}
    try:
        for holder in _holders(site, below):
            for one in (*_settings(holder), *_endpoints(holder), *_connections(holder, connections, digest)):
                found[f"{one.setting} {one.of}".casefold()] = one
    except _Hidden as hidden:
        return FolderSettings(overrides=tuple(found.values()), problem=str(hidden))
    return FolderSettings(overrides=tuple(found.values()))


class _Hidden(Exception):
    pass


def _holders(site: XmlDocument, below: Mapping[str, bytes]) -> Iterator[_Holder]:
    """In the order in which .NET reads them."""
    yield from _locations(site, "", "web.config")
    for folder in (one for one in FOLDERS if one in below):
        name = rf"{folder}\web.config"
        try:
            document = open_config(below[folder])
        except ConfigRefused as refusal:
            raise _Hidden(f"{name}: {refusal}") from refusal
        yield _Holder(document.root, document, name)
        yield from _locations(document, f"{folder.casefold()}/".replace("\\", "/"), name)


def _locations(document: XmlDocument, folder: str, name: str) -> Iterator[_Holder]:
    """Those for the folder of the pages, one above it, or a page in it; the ones for the nearest folder last."""
    found = [(path, one) for one in document.root.named("location") if (path := _path(one)) or folder]
    for path, one in sorted(found, key=lambda pair: pair[0].count("/")):
        whole = f"{folder}{path}".rstrip("/")
        if f"{_PAGES}/".startswith(f"{whole}/") or whole.startswith(f"{_PAGES}/"):
            yield _Holder(one, document, f"{name}, <location path={shortened(one.value('path') or '')!r}>")


def _path(location: Element) -> str:
    path = (location.value("path") or "").strip().casefold().replace("\\", "/").strip("/")
    return "" if path == "." else path


def _section(holder: _Holder, name: str) -> Sequence[Element]:
    """The children of a section, and of its sections of that name.

    Raises:
        _Hidden: their content is in another file, or encrypted.
    """
    sections = holder.element.named(name)
    for section in sections:
        if any(section.value(attribute) for attribute in _ELSEWHERE):
            raise _Hidden(f"{holder.place(section)}: the content of {name} is in another file, or encrypted")
    return [child for section in sections for child in section.children]


def _settings(holder: _Holder) -> Iterator[Override]:
    for child in _section(holder, "appSettings"):
        named = (child.value("key") or "").casefold() == CERTIFICATE.casefold()
        if child.name == "clear" or (named and child.name in {"add", "remove"}):
            value = thumbprint(child.value("value") or "") if child.name == "add" else ""
            yield Override(setting=CERTIFICATE, value=value, where=holder.place(child))


def _endpoints(holder: _Holder) -> Iterator[Override]:
    for child in _section(holder, "ektron.serviceModel"):
        for entry in child.children if child.name == "endPoints" else ():
            if entry.name == "add":
                contract, value = entry.value("contract") or "", entry.value("clientCertificate") or ""
                yield Override(setting=CLIENT, of=contract, value=value, where=holder.place(entry))


def _connections(holder: _Holder, names: Sequence[str], digest: Callable[[str], str]) -> Iterator[Override]:
    known = {name.casefold() for name in names}
    for child in _section(holder, "connectionStrings"):
        name, text = child.value("name") or "", (child.value("connectionString") or "").strip()
        if child.name == "clear" or (name.casefold() in known and child.name in {"add", "remove"}):
            yield Override(setting=CONNECTION, value=digest(text) if text else "", where=holder.place(child))
