"""The files the service generates once a day: sitedb.config and data.config. Read only, never edited.

A manual edit would vanish; what is wrong in them is corrected in web.config (ektron-facts 2.4).
"""

from collections.abc import Callable

from tasks.ektron.facts import GeneratedSite
from tasks.ektron.xml.document import Element, XmlDocument

__all__ = ["GeneratedSite", "read_batch_size", "read_generated"]


def read_generated(data: bytes, digest: Callable[[str], str]) -> tuple[GeneratedSite, ...]:
    """Every site in sitedb.config, or the one of data.config, in the file's order.

    The tag of an entry is not documented, so any element with a connection string is one.

    Args:
        data: the file.
        digest: the same keyed digest as for web.config.

    Raises:
        ConfigRefused: not well-formed, or beyond the limits.
    """
    entries = (_folded(element) for element in XmlDocument.of(data).elements)
    return tuple(_site(entry, digest) for entry in entries if entry.get("connectionstring"))


def read_batch_size(data: bytes) -> str | None:
    """`batchsize` of DbSync.config, which has to be the same on all servers (ektron-facts 2.4; 6, row 22).

    Raises:
        ConfigRefused: not well-formed, or beyond the limits.
    """
    named = (element for element in XmlDocument.of(data).elements if element.name.casefold() == "databaseruntime")
    return next((_folded(element).get("batchsize") for element in named), None)


def _folded(element: Element) -> dict[str, str]:
    return {name.casefold(): attribute.value for name, attribute in element.attributes.items()}


def _site(entry: dict[str, str], digest: Callable[[str], str]) -> GeneratedSite:
    return GeneratedSite(
        name=entry.get("name"),
        site_path=entry.get("sitepath"),
        physical_path=entry.get("physicalpath"),
        active=entry.get("active"),
        connection_digest=digest(entry["connectionstring"].strip()),
    )
