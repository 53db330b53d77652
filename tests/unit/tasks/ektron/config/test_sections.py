"""Sections and collections are read as .NET reads them, and other files are named, never guessed."""

import pytest

from tasks.ektron.config.generated import read_batch_size, read_generated
from tasks.ektron.config.sections import collection, find_section, included_files, open_config, open_section, sole_child
from tasks.ektron.refusals import ConfigRefused


def config(body: str) -> bytes:
    """A configuration file."""
    return f"<configuration>\n{body}\n</configuration>".encode()


@pytest.mark.parametrize(
    ("path", "found"),
    [('path="."', True), ('path=""', True), ("", True), ('path="sub"', False), ('path="./"', False)],
)
def test_a_location_of_the_whole_site_counts(path: str, *, found: bool) -> None:
    """A location of a part of the site does not, and neither does a deeper element of the same name."""
    document = open_config(config(f"<location {path}><appSettings a='1'/></location><other><appSettings/></other>"))
    section = find_section(document, "appSettings")
    assert (section is not None and section.value("a") == "1") is found


def test_a_section_that_exists_twice_is_refused() -> None:
    """With both lines, and the second as the place."""
    document = open_config(config("<appSettings/>\n<appSettings/>"))
    with pytest.raises(ConfigRefused, match=r"exists 2 times \(lines 2, 3\)") as caught:
        find_section(document, "appSettings")
    assert caught.value.line == 3


@pytest.mark.parametrize(
    ("section", "words", "remedy"),
    [
        ("<s configSource='x.config'/>", "in another file, 'x.config'", "move the content"),
        ("<s configProtectionProvider='p'/>", "is encrypted", "aspnet_regiis -pdf s"),
        ("<s><EncryptedData/></s>", "is encrypted", "aspnet_regiis -pdf s"),
        ("<t/>", "the section s is missing", "install it"),
    ],
)
def test_a_section_that_cannot_be_edited_is_refused(section: str, words: str, remedy: str) -> None:
    """Each with its line, when it exists, and what to do."""
    with pytest.raises(ConfigRefused, match=words) as caught:
        open_section(open_config(config(section)), "s", "install it")
    assert remedy in caught.value.remedy
    assert caught.value.line == (None if "missing" in words else 2)


def test_a_plain_section_is_opened() -> None:
    """Also one that names a file which overrides parts of it."""
    section = open_section(open_config(config("<s file='y.config'/>")), "s", "")
    assert included_files(section) == ("y.config",)
    assert included_files(open_section(open_config(config("<s/>")), "s", "")) == ()


def test_only_one_child_is_accepted() -> None:
    """None is no error; two are, and so is one in another file."""
    document = open_config(config("<s><a/><b/><b/><c file='z.config'/></s>"))
    section = document.root.children[0]
    child = sole_child(document, section, "a")
    assert child is not None
    assert child.name == "a"
    assert sole_child(document, section, "none") is None
    with pytest.raises(ConfigRefused, match="s has 2 elements b"):
        sole_child(document, section, "b")
    with pytest.raises(ConfigRefused, match="the content of c is in another file"):
        sole_child(document, section, "c")


def test_a_collection_is_the_result_of_its_elements() -> None:
    """`remove` and `clear` take effect in order, keys are compared without case, elements without a key are ignored."""
    body = (
        "<add key='gone' value='0'/><clear/><add key='A' value='1'/><add key='a' value='2'/><add key='b' value='3'/>"
        "<remove key='B'/><add value='4'/><set key='c' value='5'/><remove key='none'/>"
    )
    entries = collection(open_config(config(f"<s>{body}</s>")).root.children[0].children)
    assert list(entries.entries) == ["a"]
    assert [entry.value("value") for entry in entries.of("A")] == ["1", "2"]
    assert entries.last("a", "value") == "2"
    assert entries.last("b", "value") is None
    assert entries.of("gone") == []


def test_the_root_element_is_checked() -> None:
    """Another kind of file is refused with both names."""
    with pytest.raises(ConfigRefused, match="the root element is 'other', 'configuration' was expected"):
        open_config(b"<other/>")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("<c><DataBaseRuntime BatchSize='100'/></c>", "100"),
        ("<c><databaseruntime batchsize='7'/><databaseruntime batchsize='8'/></c>", "7"),
        ("<c><databaseruntime/></c>", None),
        ("<c><other batchsize='9'/></c>", None),
    ],
)
def test_the_batch_size_is_read_in_any_case(text: str, size: str | None) -> None:
    """Only from its own element, the first one; absent is None."""
    assert read_batch_size(text.encode()) == size


def test_entries_without_a_connection_string_are_no_sites() -> None:
    """An empty string counts as absent; blanks around a string do not matter."""
    text = b"<c><add name='a'/><add name='b' connectionString=''/><add name='c' connectionString=' x '/></c>"
    sites = read_generated(text, lambda value: f"<{value}>")
    assert [(site.name, site.connection_digest) for site in sites] == [("c", "<x>")]
