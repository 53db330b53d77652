"""Converts the bytes of an XML file to text, and back to the same bytes."""

import codecs
import re
from dataclasses import dataclass

from tasks.ektron.refusals import ConfigRefused

__all__ = ["MAX_BYTES", "XmlText"]

MAX_BYTES = 16 * 2**20  #: 5,000 keys of 2048 bits are 5 MB

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
# Stateless encodings, equal in Python, libxml2 and .NET. ISO-2022 and UTF-7 are not stateless.
_KNOWN = re.compile(
    r"utf-8|ascii|iso8859-\d+|cp(125\d|437|85\d|86\d|874|93[26]|949|950)|koi8-[ru]|gb(k|2312|18030)|big5|shift_jis|euc_(jp|kr)"
)
_DECLARED = re.compile(r"<\?xml\s[^>]*?\sencoding\s*=\s*[\"']([A-Za-z][A-Za-z0-9._-]*)[\"']")
_REMEDY = "save the file with one encoding, such as UTF-8 with byte order mark, then run esync again"


@dataclass(frozen=True, slots=True)
class XmlText:
    """An XML file as text, with its codec and byte order mark."""

    text: str
    codec: str
    bom: bytes

    @classmethod
    def of(cls, data: bytes) -> "XmlText":
        """Decodes by byte order mark, else by the declaration, else as UTF-8, as the XML standard requires.

        Raises:
            ConfigRefused: the file is too large, empty, not reproducible, or its mark and declaration contradict.
        """
        if len(data) > MAX_BYTES:
            raise ConfigRefused(f"the file has {len(data)} bytes, the limit is {MAX_BYTES}", remedy="check the file")
        if not data.strip(b"\0 \t\r\n"):
            raise ConfigRefused("the file is empty", remedy="restore it from a backup")
        bom, codec = _codec(data)
        try:
            text = data[len(bom) :].decode(codec)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ConfigRefused(f"the bytes are not valid {codec}", line=line, remedy=_REMEDY) from None
        if bom + text.encode(codec) != data:
            raise ConfigRefused(f"encoding the file as {codec} does not reproduce its bytes", remedy=_REMEDY)
        return cls(text=text, codec=codec, bom=bom)

    def line(self, offset: int) -> int:
        """The 1-based line of an offset into the text."""
        return self.text.count("\n", 0, offset) + 1

    def bytes_of(self, kept_and_new: list[tuple[bool, str]]) -> bytes:
        """Joins pieces to a file: kept pieces exactly, new ones with references for characters the encoding lacks."""
        pieces = (
            piece.encode(self.codec) if kept else piece.encode(self.codec, "xmlcharrefreplace")
            for kept, piece in kept_and_new
        )
        return self.bom + b"".join(pieces)


def _codec(data: bytes) -> tuple[bytes, str]:
    """The byte order mark and the codec."""
    if data.startswith(_UTF_32):
        raise ConfigRefused("the file is UTF-32, which .NET configuration does not use", remedy=_REMEDY)
    for bom, codec in _BOMS:
        if data.startswith(bom):
            return bom, _agreed(codec, data[len(bom) :], codec)
    for codec, start in (("utf-16-le", b"<\0"), ("utf-16-be", b"\0<")):
        if data.startswith(start):
            return b"", _agreed(codec, data, codec)
    return b"", _agreed("", data, "latin-1")


def _agreed(certain: str, data: bytes, reading: str) -> str:
    """The codec on which byte order mark and declaration agree. If they contradict, XML readers differ."""
    declaration = _DECLARED.match(data[:400].decode(reading, "replace"))
    if declaration is None:
        return certain or "utf-8"
    name = declaration[1]
    if certain.startswith("utf-16") and name.casefold() in ("utf-16", "unicode"):
        return certain
    try:
        declared = codecs.lookup(name).name
    except LookupError:
        raise ConfigRefused(f"the declared encoding {name!r} is unknown", line=1, remedy=_REMEDY) from None
    if declared == certain:
        return certain
    if not _KNOWN.fullmatch(declared):
        wide = declared.startswith("utf-16")
        what = f"declares {name!r} but is not encoded so" if wide else f"has the unsupported encoding {name!r}"
        raise ConfigRefused(f"the file {what}", line=1, remedy=_REMEDY)
    if certain:
        raise ConfigRefused(
            f"the byte order mark is {certain}, but the declaration is {name!r}", line=1, remedy=_REMEDY
        )
    return declared
