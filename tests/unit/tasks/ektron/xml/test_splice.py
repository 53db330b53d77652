"""The splicer: its guard refuses every wrong splice, and inserted lines have the style of the file."""

from collections.abc import Callable

import pytest

from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.xml.document import Element, XmlDocument
from tasks.ektron.xml.splice import New, Splicer, _Splice

FILE = b"""<?xml version="1.0"?>
<!-- head -->
<?keep this?>
<root>
  <first key="a" value="0"/>
  <second key="b">text</second>tail
  <parent><child/></parent>
</root>
"""
ADD = [New("add", {"key": "new"})]


def replaced(old: str, new: str) -> Callable[[Splicer], None]:
    """A fault in the splicer: besides the wanted change it replaces some text."""

    def tamper(splicer: Splicer) -> None:
        start = FILE.decode().index(old)
        splicer._splices.append(_Splice(start, start + len(old), new))

    return tamper


WRONG = {
    "a value of the same element": replaced('"a"', '"x"'),
    "a value of another element": replaced('"b"', '"x"'),
    "the name of an attribute": replaced('key="b"', 'kex="b"'),
    "an attribute added": replaced('key="b"', 'key="b" x="1"'),
    "an attribute removed": replaced(' key="b"', ""),
    "the order of attributes": replaced('key="a" value="0"', 'value="1" key="a"'),
    "the name of an element": replaced("<child/>", "<chilx/>"),
    "an element added": replaced("<child/>", "<child/><child/>"),
    "an element removed": replaced("<child/>", ""),
    "an element moved out of its parent": replaced("<parent><child/></parent>", "<parent></parent><child/>"),
    "the text of an element": replaced("text", "texx"),
    "the text of an element removed": replaced("text", ""),
    "the text after an element": replaced("tail", "taix"),
    "the text after an element removed": replaced("tail", ""),
    "a comment": replaced("head", "heax"),
    "a comment removed": replaced("  <parent>", "  <!-- x --><parent>"),
    "a namespace": replaced("<child/>", '<child xmlns="urn:x"/>'),
    "text not well-formed": replaced("<child/>", "<child>"),
}


def edited(tamper: Callable[[Splicer], None] | None = None) -> bytes:
    """The file with one value set, and with a fault."""
    document = XmlDocument.of(FILE)
    splicer = Splicer(document)
    splicer.set(document.elements[1], "value", "1")
    if tamper:
        if tamper is WRONG["the order of attributes"]:
            splicer._splices.clear()
        tamper(splicer)
    return splicer.result()


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_splice_is_refused(fault: str) -> None:
    """Whatever else a faulty splice changes, the guard finds it and returns no file."""
    with pytest.raises(ConfigRefused, match=r"more than it should|not well-formed") as caught:
        edited(WRONG[fault])
    assert caught.value.remedy


def test_a_missing_splice_is_refused() -> None:
    """A change that did not reach the text is refused too."""
    document = XmlDocument.of(FILE)
    splicer = Splicer(document)
    splicer.set(document.elements[1], "value", "1")
    splicer._splices.clear()
    with pytest.raises(ConfigRefused, match="more than it should"):
        splicer.result()


def test_only_the_wanted_bytes_change() -> None:
    """Without a fault the result differs in one byte. White space alone is not a difference for the guard."""
    assert edited() == FILE.replace(b'value="0"', b'value="1"')
    assert edited(replaced("  <parent>", "\n\t<parent>")).count(b"\n\t<parent>") == 1


SHAPES = {
    "after the last child": '<root>{n}  <keys>{n}    <add key="a" />{n}  </keys>{n}</root>{n}',
    "after a comment": '<root>{n}  <keys>{n}    <add key="a" /> <!-- c -->{n}  </keys>{n}</root>{n}',
    "into an empty element": "<root>{n}  <keys>{n}  </keys>{n}</root>{n}",
    "into an empty element on one line": "<root>{n}  <keys></keys>{n}</root>{n}",
    "into a self-closed element": "<root>{n}  <keys />{n}</root>{n}",
    "into an element with a comment": "<root>{n}  <keys>{n}    <!-- none -->{n}  </keys>{n}</root>{n}",
}


def appended(text: str, new: list[New]) -> str:
    """The file with elements added to `keys`."""
    document = XmlDocument.of(text.encode())
    keys = next(element for element in document.elements if element.name == "keys")
    splicer = Splicer(document)
    splicer.append(keys, new)
    return splicer.result().decode()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("shape", SHAPES)
def test_inserted_lines_have_the_line_endings_of_the_file(shape: str, ending: str) -> None:
    """Wherever a line is inserted, and with children of its own, all line endings are those of the file."""
    text = SHAPES[shape].replace("{n}", ending)
    for new in (ADD, [New("group", {}, ADD)]):
        result = appended(text, new)
        assert "\n" not in result.replace(ending, "")
        assert "\r" not in result.replace(ending, "")
        assert result.count(ending) > text.count(ending)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            SHAPES["after the last child"],
            '<root>{n}  <keys>{n}    <add key="a" />{n}    <add key="new" />{n}  </keys>{n}</root>{n}',
        ),
        (
            SHAPES["after a comment"],
            '<root>{n}  <keys>{n}    <add key="a" /> <!-- c -->{n}    <add key="new" />{n}  </keys>{n}</root>{n}',
        ),
        (SHAPES["into an empty element"], '<root>{n}  <keys>{n}    <add key="new" />{n}  </keys>{n}</root>{n}'),
        (
            SHAPES["into an empty element on one line"],
            '<root>{n}  <keys>{n}    <add key="new" />{n}  </keys>{n}</root>{n}',
        ),
        (SHAPES["into a self-closed element"], '<root>{n}  <keys>{n}    <add key="new" />{n}  </keys>{n}</root>{n}'),
        (
            SHAPES["into an element with a comment"],
            '<root>{n}  <keys>{n}    <!-- none -->{n}    <add key="new" />{n}  </keys>{n}</root>{n}',
        ),
        ("<root><keys/></root>", '<root><keys><add key="new" /></keys></root>'),
        ("<root><keys></keys></root>", '<root><keys><add key="new" /></keys></root>'),
        ("<keys/>", '<keys>{n}  <add key="new" />{n}</keys>'),
        ("<keys>{n}{t}<add a='1'/>{n}</keys>", "<keys>{n}{t}<add a='1'/>{n}{t}<add key='new' />{n}</keys>"),
        ("<r>{n}{t}<keys/>{n}</r>", '<r>{n}{t}<keys>{n}{t}{t}<add key="new" />{n}{t}</keys>{n}</r>'),
        ("{t}<keys/>", '{t}<keys>{n}{t}{t}<add key="new" />{n}{t}</keys>'),
        ("<keys><add key='a'></add></keys>", "<keys><add key='a'></add><add key='new'></add></keys>"),
        ("<keys><b><add key='a'/></b></keys>", "<keys><b><add key='a'/></b><add key='new' /></keys>"),
        ("<keys><add  key = 'a'/><other/></keys>", "<keys><add  key = 'a'/><other/><add  key = 'new'/></keys>"),
    ],
)
def test_inserted_elements_have_the_style_of_the_file(text: str, expected: str) -> None:
    """Indentation, quotes, spacing and end tags follow the neighbours; one line stays one line."""
    form = {"n": "\n", "t": "\t"}
    assert expected.format(**form) == appended(text.format(**form), ADD)


def test_children_are_indented_by_one_more_unit() -> None:
    """A new element with children has them on their own lines; in one line everything stays in one line."""
    group = [New("group", {}, ADD)]
    text = "<root>\n   <keys />\n</root>"
    inner = '      <group>\n         <add key="new" />\n      </group>\n'
    assert f"<root>\n   <keys>\n{inner}   </keys>\n</root>" == appended(text, group)
    assert '<r><keys><group><add key="new" /></group></keys></r>' == appended("<r><keys/></r>", group)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<a/>", '<a k="v"/>'),
        ("<a><b x='1'/></a>", "<a k='v'><b x='1'/></a>"),
        ("<a  x='1' />", "<a  x='1'  k='v' />"),
        ('<a\n  x="1"\n/>', '<a\n  x="1"\n  k="v"\n/>'),
        ("<a k='0' x='1'/>", "<a k='v' x='1'/>"),
    ],
)
def test_a_new_attribute_has_the_style_of_its_neighbour(text: str, expected: str) -> None:
    """It follows the last attribute with the same spacing and quotes; without one, it has the quotes of the file."""
    document = XmlDocument.of(text.encode())
    splicer = Splicer(document)
    splicer.set(document.root, "k", "v")
    assert expected == splicer.result().decode()


@pytest.mark.parametrize("quote", ["'", '"'])
def test_values_are_escaped_for_their_quotes(quote: str) -> None:
    """Characters with a meaning in XML are written as references, and only the quote in use."""
    document = XmlDocument.of(f"<a k={quote}{quote}/>".encode())
    splicer = Splicer(document)
    value = "&<>\"'\t\n\r\u00e9"
    splicer.set(document.root, "k", value)
    result = splicer.result().decode()
    inner = "&amp;&lt;>&quot;'" if quote == '"' else '&amp;&lt;>"&apos;'
    assert f"<a k={quote}{inner}&#9;&#10;&#13;\u00e9{quote}/>" == result
    assert value == XmlDocument.of(result.encode()).root.value("k")


def test_nothing_appended_changes_nothing() -> None:
    """An empty list of new elements does not open a self-closed element."""
    assert "<r><keys/></r>" == appended("<r><keys/></r>", [])


def test_elements_are_added_in_the_namespace_of_their_parent() -> None:
    """The guard compares names with namespaces, and accepts the new element."""
    assert '<keys xmlns="urn:x"><add key="new" /></keys>' == appended('<keys xmlns="urn:x"></keys>', ADD).replace(
        "\n  ", ""
    ).replace("\n", "")


def test_a_splice_at_the_end_of_a_comment_keeps_the_next_line() -> None:
    """A comment over several lines after the last child is not split: the new line is inserted before it."""
    text = '<keys>\n  <add key="a" /> <!-- one\n two -->\n</keys>'
    assert '<keys>\n  <add key="a" />\n  <add key="new" /> <!-- one\n two -->\n</keys>' == appended(text, ADD)


def element_at(document: XmlDocument, name: str) -> Element:
    """The first element with a name."""
    return next(element for element in document.elements if element.name == name)


def test_several_changes_are_made_in_one_pass() -> None:
    """Changes are applied by their place in the file, whatever the order of the calls."""
    document = XmlDocument.of(b"<r><a k='1'/><b k='2'/></r>")
    splicer = Splicer(document)
    splicer.set(element_at(document, "b"), "k", "two")
    splicer.set(element_at(document, "a"), "k", "one")
    assert b"<r><a k='one'/><b k='two'/></r>" == splicer.result()
