"""Elements are removed with their line, and nothing else changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from tasks.ektron.xml.document import XmlDocument
from tasks.ektron.xml.splice import New, Splicer


def removed(text: str, *keys: str, new: tuple[str, ...] = ()) -> str:
    """The file without the elements with these keys, and with new ones at the end of `keys`."""
    document = XmlDocument.of(text.encode())
    splicer = Splicer(document)
    for element in document.elements:
        if element.value("key") in keys:
            splicer.remove(element)
    if new:
        holder = next(element for element in document.elements if element.name == "keys")
        splicer.append(holder, [New("add", {"key": key}) for key in new])
    return splicer.result().decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<keys>{n}  <add key='a'/>{n}  <add key='b'/>{n}</keys>", "<keys>{n}  <add key='b'/>{n}</keys>"),
        ("<keys>{n}  <add key='a'></add>{n}</keys>", "<keys>{n}</keys>"),
        ("<keys>{n}{n}  <add key='a'/>  {n}{n}</keys>", "<keys>{n}  {n}{n}</keys>"),
        ("<keys><add key='a'/></keys>", "<keys></keys>"),
        ("<keys><add key='a'/><add key='b'/></keys>", "<keys><add key='b'/></keys>"),
        ("<keys>{n}  <add key='a'/></keys>", "<keys>{n}  </keys>"),
        ("<keys>{n}  <add key='a'/><add key='b'/>{n}</keys>", "<keys>{n}  <add key='b'/>{n}</keys>"),
        ("<keys>{n}  <add key='a'/> <!-- c -->{n}</keys>", "<keys>{n}   <!-- c -->{n}</keys>"),
        ("<keys>{n}  <!-- c -->{n}  <add key='a'/>{n}</keys>", "<keys>{n}  <!-- c -->{n}</keys>"),
        ("<keys>text<add key='a'/>more</keys>", "<keys>textmore</keys>"),
        ("<keys><add key='b'/>text<add key='a'/>more</keys>", "<keys><add key='b'/>textmore</keys>"),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_an_element_goes_with_its_line(text: str, expected: str, ending: str) -> None:
    """A line with nothing else goes whole; what else is on the line stays, and so do comments and text."""
    assert expected.format(n=ending) == removed(text.format(n=ending), "a")


def test_new_elements_follow_the_place_of_a_removed_last_one() -> None:
    """Adding and removing in one pass, where the new line follows the line that goes."""
    text = "<keys>\n  <add key='a'/>\n  <add key='b'/>\n</keys>"
    assert removed(text, "b", new=("c",)) == "<keys>\n  <add key='a'/>\n  <add key='c'/>\n</keys>"
    assert removed(text, "a", "b", new=("c",)) == "<keys>\n  <add key='c'/>\n</keys>"


@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=8),
    st.sets(st.sampled_from("abcd")),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "  ", "\t"]),
    st.lists(st.sampled_from(["", " ", "<!-- c -->", "\n\n"]), min_size=8, max_size=8),
)
def test_only_the_wanted_elements_go(
    keys: list[str], unwanted: set[str], ending: str, indent: str, between: list[str]
) -> None:
    """Whatever is between the elements, the others keep their order and their bytes, and so does every comment."""
    lines = [f"{indent}<add key='{key}'/>{gap}" for key, gap in zip(keys, between, strict=False)]
    text = ending.join(["<keys>", *lines, "</keys>"])
    left = removed(text, *unwanted)
    tree = etree.fromstring(left.encode())
    assert [key for key in keys if key not in unwanted] == [add.get("key") for add in tree.iterfind("add")]
    assert left.count("<!-- c -->") == text.count("<!-- c -->")
    if not unwanted & set(keys):
        assert left == text
    if not any(between):
        kept = [line for line, key in zip(lines, keys, strict=False) if key not in unwanted]
        assert left == ending.join(["<keys>", *kept, "</keys>"])
