"""Reads the product's configuration files as .NET does."""

from functools import lru_cache

from lxml import etree

__all__ = ["parse", "parse_or_none", "parses", "setting"]


def parse(data: bytes) -> etree._Element:
    """The root of a file; comments are left out.

    Raises:
        XMLSyntaxError: it is not XML.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    return etree.fromstring(data, parser)


def parse_or_none(data: bytes) -> etree._Element | None:
    """The root of a file; None if it is not XML."""
    try:
        return parse(data)
    except etree.XMLSyntaxError:
        return None


@lru_cache(maxsize=4096)
def parses(data: bytes) -> bool:
    """Whether it is XML."""
    return parse_or_none(data) is not None


def setting(root: etree._Element, key: str) -> str | None:
    """The last value of a key in appSettings, like .NET; the case of the key is ignored."""
    values = [
        item.get("value") for item in root.iterfind("appSettings/add") if item.get("key", "").upper() == key.upper()
    ]
    return values[-1] if values else None
