"""The XML document: two parsers must agree, limits are tried at both sides, encodings are reproduced or refused."""

import gc
from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.xml import document as module
from tasks.ektron.xml.document import Element, XmlDocument
from tasks.ektron.xml.text import MAX_BYTES, XmlText


def nested(depth: int) -> bytes:
    """Elements in elements."""
    return b"<a>" * depth + b"</a>" * depth


def test_a_document_leaves_no_garbage() -> None:
    """Documents that are no longer kept leave the memory at once: those of hundreds of nodes are read in a run."""
    gc.collect()
    for number in range(100):
        XmlDocument.of(b"<a><b/><c><d n='%d'/></c></a>" % number)
    assert gc.collect() == 0


def test_depth_has_a_limit() -> None:
    """A hundred levels are accepted, one more is refused, with the line."""
    assert len(XmlDocument.of(nested(100)).elements) == 100
    with pytest.raises(ConfigRefused, match="deeper than 100") as caught:
        XmlDocument.of(nested(101))
    assert caught.value.line == 1


def test_size_has_a_limit() -> None:
    """A file of the largest size is read, one byte more is refused."""
    largest = b"<a/>" + b" " * (MAX_BYTES - 4)
    assert len(XmlText.of(largest).text) == MAX_BYTES
    with pytest.raises(ConfigRefused, match="the limit is"):
        XmlText.of(largest + b" ")


LONG = b"x" * 11_000_000


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (b"<a>\n<b c='" + LONG + b"'/></a>", "10,000,000 bytes"),
        (b"<a>" + LONG + b"</a>", "10,000,000 bytes"),
        (b"<a><!--" + LONG + b"--></a>", "10,000,000 bytes"),
        (b"<" + LONG[:60_000] + b"/>", "10,000,000 bytes"),
        (b"<a>" * 300 + b"</a>" * 300, "nested deeper than 100"),
    ],
    ids=["attribute", "text", "comment", "name", "depth"],
)
def test_a_file_that_exceeds_a_limit_is_not_called_broken(data: bytes, limit: str) -> None:
    """The limit is named, and the file is not said to be damaged: a restored copy would be refused again."""
    with pytest.raises(ConfigRefused, match=limit) as caught:
        XmlDocument.of(data)
    assert "well-formed" not in caught.value.message
    assert "backup" not in caught.value.remedy


DIFFERENT: dict[str, Callable[[list[Element]], list[Element]]] = {
    "an element is missing": lambda elements: elements[:-1],
    "an element too many": lambda elements: [*elements, elements[-1]],
    "another name": lambda elements: [elements[0], replace(elements[1], name="x")],
    "another value": lambda elements: [elements[0], _with_value(elements[1], "x")],
    "an attribute is missing": lambda elements: [elements[0], replace(elements[1], attributes={})],
}


def _with_value(element: Element, value: str) -> Element:
    return replace(element, attributes={"k": replace(element.attributes["k"], value=value)})


@pytest.mark.parametrize("fault", DIFFERENT)
def test_a_file_that_two_parsers_read_differently_is_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any difference between the tokenizer and lxml is found before the file is used."""
    tokenize = module._elements
    monkeypatch.setattr(module, "_elements", lambda source: DIFFERENT[fault](tokenize(source)))
    with pytest.raises(ConfigRefused, match="read the file differently"):
        XmlDocument.of(b"<a><b k='1'/></a>")


def test_places_and_values_are_exact() -> None:
    """Each value is found between its quotes, with references resolved and white space normalised."""
    text = "<r>\n<a x='1&amp;&#50;&#x33;&lt;&gt;&quot;&apos;' y=\"t\tn\nr\r\n\"  z = '4'/></r>"
    document = XmlDocument.of(text.encode())
    a = document.elements[1]
    assert {name: attribute.value for name, attribute in a.attributes.items()} == {
        "x": "1&23<>\"'",
        "y": "t n r ",
        "z": "4",
    }
    assert [text[attribute.start : attribute.end] for attribute in a.attributes.values()][2] == "4"
    assert [attribute.space for attribute in a.attributes.values()] == [" ", " ", "  "]
    assert (document.line(a), a.closed, a.parent, document.root.children) == (2, True, 0, [a])
    assert text[document.root.close_start : document.root.close_end] == "</r>"
    assert (a.close_start, a.close_end) == (a.start, a.end)
    assert a.value("none") is None
    assert document.root.named("a") == [a]
    assert document.root.named("b") == []


@pytest.mark.parametrize("white", ["\t", "\n", "\r", "\r\n"], ids=["tab", "LF", "CR", "CRLF"])
def test_each_white_space_is_one_blank_in_a_value(white: str) -> None:
    """As lxml reads it, alone and beside others."""
    document = XmlDocument.of(f"<a k='x{white}y'/>".encode())
    assert document.root.value("k") == "x y"


@pytest.mark.parametrize(
    "text",
    [
        "<!-- <x> --><r><![CDATA[<x>]]><?pi <x> ?><a/></r>",
        "<r xmlns='urn:a' xmlns:b='urn:b'><b:a k='1' b:k='2'/></r>",
        "<r a='>' b='/'><a/></r>",
    ],
)
def test_only_elements_are_elements(text: str) -> None:
    """Comments, CDATA, instructions and namespaces do not confuse the tokenizer."""
    assert len(XmlDocument.of(text.encode()).elements) == 2


@pytest.mark.parametrize(
    ("text", "line"), [("<!DOCTYPE r><r/>", 1), ("<!-- c -->\n<?pi?>\n<!DOCTYPE r [<!ENTITY e 'x'>]>\n<r>&e;</r>", 3)]
)
def test_a_document_type_is_refused(text: str, line: int) -> None:
    """Wherever it is in the prolog, with its line; the word in a comment is harmless."""
    with pytest.raises(ConfigRefused, match="document type") as caught:
        XmlDocument.of(text.encode())
    assert caught.value.line == line
    assert XmlDocument.of(b"<!-- <!DOCTYPE r> --><r/>").root.name == "r"


@pytest.mark.parametrize("codec", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", ["\ufeff", ""], ids=["mark", "no mark"])
def test_unicode_files_are_reproduced(codec: str, mark: str) -> None:
    """With and without byte order mark: the text is read, and written again as the same bytes."""
    data = (mark + "<a k='\u00e9\u20ac'/>").encode(codec)
    source = XmlText.of(data)
    assert source.text == "<a k='\u00e9\u20ac'/>"
    assert source.bytes_of([(True, source.text)]) == data


@pytest.mark.parametrize(
    ("name", "codec"),
    [("windows-1252", "cp1252"), ("ISO-8859-15", "iso8859-15"), ("us-ascii", "ascii"), ("gb18030", "gb18030")],
)
def test_declared_encodings_are_reproduced(name: str, codec: str) -> None:
    """Old code pages are read by their declaration; a character that one lacks is written as a reference."""
    text = f"<?xml version='1.0' encoding='{name}'?><a/>"
    source = XmlText.of(text.encode(codec))
    assert (source.text, source.codec, source.bom) == (text, codec, b"")
    new = source.bytes_of([(False, "\U0001f600")])
    assert new == ("\U0001f600".encode(codec) if codec == "gb18030" else b"&#128512;")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b" \t\r\n\0", "empty"),
        ("\ufeff<a/>".encode("utf-32-le"), "UTF-32"),
        ("\ufeff<a/>".encode("utf-32-be"), "UTF-32"),
        (b"<?xml version='1.0' encoding='utf-16'?><a/>", "is not encoded so"),
        (b"<?xml version='1.0' encoding='utf-7'?><a/>", "unsupported encoding 'utf-7'"),
        (b"<?xml version='1.0' encoding='iso-2022-jp'?><a/>", "unsupported encoding"),
        (b"<?xml version='1.0' encoding='klingon'?><a/>", "'klingon' is unknown"),
        (b"\xef\xbb\xbf<?xml version='1.0' encoding='windows-1252'?><a/>", "byte order mark is utf-8"),
        (b"<a>\n\xff</a>", "not valid utf-8"),
        ("<?xml version='1.0' encoding='utf-16be'?><a/>".encode("utf-16-le"), "byte order mark|encoded so"),
    ],
)
def test_a_file_that_cannot_be_reproduced_is_refused(data: bytes, words: str) -> None:
    """Each with a sentence and a remedy."""
    with pytest.raises(ConfigRefused, match=words) as caught:
        XmlText.of(data)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["utf-16", "Unicode", "UTF-16LE", "utf-16-le"])
def test_names_of_utf_16_are_accepted_in_utf_16(name: str) -> None:
    """Each usual name of the encoding agrees with the bytes."""
    text = f"\ufeff<?xml version='1.0' encoding='{name}'?><a/>"
    assert XmlText.of(text.encode("utf-16-le")).codec == "utf-16-le"


def test_the_line_of_an_invalid_byte_is_reported() -> None:
    """The second line, counted from one."""
    with pytest.raises(ConfigRefused) as caught:
        XmlText.of(b"<a>\n\xff</a>")
    assert caught.value.line == 2
    with pytest.raises(ConfigRefused) as caught:
        XmlText.of(b"\n\xff")
    assert caught.value.line == 2
