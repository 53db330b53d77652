"""Sections and collections are read as .NET reads them, and other files are named, never guessed."""

import pytest

from tasks.ektron.config.generated import read_batch_size, read_generated
from tasks.ektron.config.sections import (
    Configuration,
    Content,
    collection,
    find_section,
    included_names,
    included_path,
    is_below,
    open_config,
)
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
        ("<s configSource='x.config'/>", "in another file, 'x.config', which does not exist", "move the content"),
        ("<s configSource='broken.config'/>", "in the included file 'broken.config': line 1: .*well-formed", "repair"),
        ("<s configSource='other.config'/>", "the root element is 'other', 's' was expected", "right file"),
        (
            "<s configSource='locked.config'/>",
            "'locked.config', which s includes, cannot be read",
            "permissions",
        ),
        ("<s configSource='nested.config'/>", "line 1: the element s has the attribute configSource", "remove it"),
        ("<s configSource='secret.config'/>", "'secret.config', line 1: the section s is encrypted", "aspnet_regiis"),
        ("<s configProtectionProvider='p'/>", "is encrypted", "aspnet_regiis -pdf s"),
        ("<s><EncryptedData/></s>", "is encrypted", "aspnet_regiis -pdf s"),
        ("<t/>", "the section s is missing", "install it"),
    ],
)
def test_a_section_that_cannot_be_edited_is_refused(section: str, words: str, remedy: str) -> None:
    """Each with the file and its line, when it exists, and what to do."""
    included = {
        "broken.config": b"<s>",
        "other.config": b"<other/>",
        "nested.config": b"<s configSource='again.config'/>",
        "secret.config": b"<s><EncryptedData/></s>",
    }
    whole = Configuration(Content(config(section), included, {"locked.config": "denied"}))
    with pytest.raises(ConfigRefused, match=words) as caught:
        whole.opened("s", "install it")
    assert remedy in caught.value.remedy
    assert (caught.value.line == 2) is not ("missing" in words or "included file" in str(caught.value))


def test_a_section_is_taken_from_the_file_that_it_names() -> None:
    """Its element is the root of that file; a file with single settings comes behind the section's own ones."""
    whole = Configuration(Content(config("<s configSource='x.config'/>"), {"x.config": b"<s><a/></s>"}))
    (part,) = whole.opened("s", "").parts
    assert (part.source, [child.name for child in part.element.children]) == ("x.config", ["a"])
    settings = b"<appSettings><add key='b' value='2'/></appSettings>"
    body = "<appSettings file='y.config'><add key='a' value='1'/></appSettings>"
    both = Configuration(Content(config(body), {"y.config": settings})).opened("appSettings", "")
    assert [part.source for part in both.parts] == ["", "y.config"]
    assert [child.value("key") for child in both.children] == ["a", "b"]
    alone = Configuration(Content(config(body))).opened("appSettings", "")
    assert [part.source for part in alone.parts] == [""]


@pytest.mark.parametrize("attribute", ["file='z.config'", "x='1'"])
def test_an_overriding_file_has_no_attributes(attribute: str) -> None:
    """.NET refuses such a file, and so does esync, with the file."""
    body = config("<appSettings file='y.config'/>")
    with pytest.raises(ConfigRefused, match=r"in the included file 'y.config', line 1: .* has the attribute"):
        Configuration(Content(body, {"y.config": f"<appSettings {attribute}/>".encode()})).section("appSettings")


@pytest.mark.parametrize(
    ("override", "source"),
    [
        ("<add key='K' value='2'/>", "y.config"),
        ("<add key='k' value='2'/>", "y.config"),
        ("<remove key='K'/>", "y.config"),
        ("<clear/>", "y.config"),
        ("<clear/><add key='other' value='2'/>", "y.config"),
        ("<add key='other' value='2'/>", ""),
        ("<remove key='other'/>", ""),
    ],
)
def test_a_value_is_in_force_where_it_is_named_last(override: str, source: str) -> None:
    """Also where the file removes it: there it has to be added."""
    body = config("<appSettings file='y.config'><add key='K' value='1'/></appSettings>")
    included = {"y.config": f"<appSettings>{override}</appSettings>".encode()}
    section = Configuration(Content(body, included)).opened("appSettings", "")
    assert section.part_of("K").source == source


def test_only_files_with_content_that_matters_are_named() -> None:
    """Of sections that are read or edited, each once; a file that cannot be read names none."""
    body = (
        "<appSettings file='a.config'/><connectionStrings configSource='b.config'/><other configSource='c.config'/>"
        "<ektron.serviceModel configSource='a.config' file='d.config'/>"
    )
    assert included_names(config(body)) == ("b.config", "a.config")
    assert included_names(b"<configuration>") == ()


@pytest.mark.parametrize(
    ("name", "path", "below"),
    [
        ("Application.config", r"C:\site\Application.config", True),
        ("App_Data/x.config", r"C:\site\App_Data\x.config", True),
        (r"..\site\x.config", r"C:\site\x.config", True),
        (r"..\x.config", r"C:\x.config", False),
        (r"..\site2\x.config", r"C:\site2\x.config", False),
        (r"D:\x.config", r"D:\x.config", False),
        (r"c:\SITE\x.config", r"c:\SITE\x.config", True),
        (r"\\server\share\x.config", r"\\server\share\x.config", False),
    ],
)
def test_a_name_is_relative_to_the_configuration_file(name: str, path: str, *, below: bool) -> None:
    """As .NET reads it; esync writes only below the folder of that file."""
    found = included_path(r"C:\site\web.config", name)
    assert found == path
    assert is_below(r"C:\site\web.config", found) is below


def test_only_one_child_is_accepted() -> None:
    """None is no error; two are, and so is one in another file."""
    section = Configuration(Content(config("<s><a/><b/><b/><c file='z.config'/></s>"))).section("s")
    assert section is not None
    (part,) = section.parts
    child = part.sole_child("a")
    assert child is not None
    assert child.name == "a"
    assert part.sole_child("none") is None
    with pytest.raises(ConfigRefused, match="s has 2 elements b"):
        part.sole_child("b")
    with pytest.raises(ConfigRefused, match="the content of c is in another file"):
        part.sole_child("c")


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
