"""Reads the files that the service generates once a day: sitedb.config and data.config. They are never edited.

The service would overwrite a manual edit. To correct them, correct web.config (ektron-facts 2.4).
"""

import ntpath
import re
from collections.abc import Callable

from tasks.ektron.facts.generated import GeneratedSite
from tasks.ektron.xml.document import Element, XmlDocument

__all__ = ["read_batch_size", "read_generated"]

_VARIABLE = re.compile(r"%SystemDrive%", re.IGNORECASE)  #: IIS keeps the folder of its first site so


def read_generated(data: bytes, digest: Callable[[str], str], system_drive: str = "C:") -> tuple[GeneratedSite, ...]:
    """Every site in sitedb.config, or the only one in data.config, in the order of the file.

    The tag of an entry is not documented, so every element with a connection string is an entry.

    Args:
        data: the file.
        digest: the same keyed digest as for web.config.
        system_drive: of the node, such as `C:`.

    Raises:
        ConfigRefused: the file is not well-formed, or exceeds the limits.
    """
    entries = (_folded(element) for element in XmlDocument.of(data).elements)
    return tuple(_site(entry, digest, system_drive) for entry in entries if entry.get("connectionstring"))


def read_batch_size(data: bytes) -> str | None:
    """`batchsize` of DbSync.config, which must be the same on all servers (ektron-facts 2.4; 6, row 22).

    Raises:
        ConfigRefused: the file is not well-formed, or exceeds the limits.
    """
    runtimes = (element for element in XmlDocument.of(data).elements if element.name.casefold() == "databaseruntime")
    return next((_folded(element).get("batchsize") for element in runtimes), None)


def _folded(element: Element) -> dict[str, str]:
    return {name.casefold(): attribute.value for name, attribute in element.attributes.items()}


def _folder(path: str, system_drive: str) -> str:
    r"""A folder in one spelling: `%SystemDrive%\inetpub/wwwroot/site/` is `C:\inetpub\wwwroot\site`."""
    return ntpath.normpath(_VARIABLE.sub(system_drive, path.strip()))


def _site(entry: dict[str, str], digest: Callable[[str], str], system_drive: str) -> GeneratedSite:
    folder = entry.get("physicalpath")
    return GeneratedSite(
        name=entry.get("name"),
        site_path=entry.get("sitepath"),
        physical_path=_folder(folder, system_drive) if folder else folder,
        active=entry.get("active"),
        version=entry.get("version"),
        connection_digest=digest(entry["connectionstring"].strip()),
    )
