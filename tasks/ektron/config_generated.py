"""The files the service generates once a day: sitedb.config and data.config. Read only, never edited.

A manual edit would vanish; what is wrong in them is corrected in web.config (ektron-facts 2.4).
"""

from collections.abc import Callable

from tasks.ektron.facts import Fact
from tasks.ektron.xml_document import Element, XmlDocument

__all__ = ["GeneratedSite", "read_generated"]


class GeneratedSite(Fact):
    """One site as the service knows it. Attributes are looked up in any case; an absent one is None."""

    name: str | None = None
    site_path: str | None = None
    physical_path: str | None = None
    active: str | None = None
    connection_digest: str | None = None  #: comparable with that of web.config


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
