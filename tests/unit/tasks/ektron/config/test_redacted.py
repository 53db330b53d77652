"""A diff of two configuration files shows what changed, and never a secret."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.config.redacted import hunks
from tasks.ektron.refusals import ConfigRefused
from tests.places import CASE_FOLDERS

FORM = """<?xml version="1.0"?>
<configuration>
  <connectionStrings>
    <!-- <add name="old" connectionString="{comment}" /> -->
    <add name="Ektron.DbConnection" providerName="System.Data.SqlClient"
         connectionString="{connection}" />
  </connectionStrings>
  <appSettings>
    <add key="ek_PageSize" value="{page}" />
    <add key="SmtpLogin" value="{value}" />
    <add key="encodedValue" value="{key}" />
    <add key="WSPath" value="http://S1/WorkArea/ServerControlWS.asmx" />
  </appSettings>
  <ektron.serviceModel>
    <publickCertKeys>
      <add key="S1_SyncClient.cer" encodedValue="{key}" />
    </publickCertKeys>
    <endPoints><add contract="IScheduleService" clientCertificate="{certificate}" /></endPoints>
  </ektron.serviceModel>
  <system.web>
    <machineKey validationKey="{machine}" decryptionKey="{machine}" validation="SHA1" />
    <identity impersonate="true" userName="svc" password="{password}" />
    <custom>{text}</custom>
    <custom><![CDATA[{text}]]></custom>
  </system.web>
</configuration>
"""
VALUES = {
    "comment": "server=a;pwd=b",
    "connection": "server=db;uid=sa;pwd=one",
    "page": "50",
    "value": "somebody",
    "key": "MIIB" + "Qk0x" * 12,
    "certificate": "S1_SyncClient.pfx",
    "machine": "0123456789ABCDEF" * 4,
    "password": "swordfish",
    "text": "hello",
}
SECRET = ("comment", "connection", "value", "key", "machine", "password", "text")


def form(**values: str) -> bytes:
    """The file with some values replaced."""
    return FORM.format(**VALUES | values).encode()


def shown(first: bytes, second: bytes) -> str:
    """All text of the diff."""
    return "\n".join("\n".join((*hunk.first, *hunk.second)) for hunk in hunks(first, second))


def test_a_plain_value_is_shown_with_its_line() -> None:
    """A changed number is shown in both versions, with its line."""
    (hunk,) = hunks(form(), form(page="75"))
    assert hunk.line == FORM[: FORM.index("ek_PageSize")].count("\n") + 1
    assert ('    <add key="ek_PageSize" value="50" />',) == hunk.first
    assert ('    <add key="ek_PageSize" value="75" />',) == hunk.second


def test_names_of_certificates_are_shown() -> None:
    """The certificate file of an endpoint is not a secret."""
    assert "P1_SyncClient.pfx" in shown(form(), form(certificate="P1_SyncClient.pfx"))


@pytest.mark.parametrize("place", SECRET)
def test_a_changed_secret_is_visible_but_hidden(place: str) -> None:
    """Its line is in the diff, with different numbers for different values, but without the values."""
    other = "Planted-Secret-77"
    found = hunks(form(), form(**{place: other}))
    text = shown(form(), form(**{place: other}))
    assert found
    assert "[hidden " in text
    assert found[0].first != found[0].second
    assert "Planted" not in text
    assert VALUES[place] not in text


SPOILT = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=6, max_size=20).map("Zq{}9x".format)


@given(st.sampled_from(SECRET), SPOILT, SPOILT, st.integers(1, 9))
def test_no_secret_gets_out(place: str, before: str, after: str, page: int) -> None:
    """For any secret and any other difference, no line of the diff contains the secret."""
    text = shown(form(**{place: before}), form(**{place: after}, page=str(page)))
    assert before not in text
    assert after not in text


def test_elements_around_a_secret_keep_it_hidden() -> None:
    """An attribute that is usually shown is hidden in an element about keys."""
    first = b'<c><machineKey mode="AAAA1111" /></c>'
    assert "AAAA1111" not in shown(first, first.replace(b"1111", b"2222"))


def test_only_invisible_differences_are_no_hunk() -> None:
    """Line endings and trailing blanks are not a visible difference."""
    assert () == hunks(form(), form().replace(b"\n", b"\r\n"))


def test_a_file_that_is_not_xml_is_not_shown() -> None:
    """A file that is not XML could contain secrets anywhere."""
    with pytest.raises(ConfigRefused):
        hunks(form(), b"password = swordfish")


def test_long_diffs_are_shortened() -> None:
    """Long lines, many lines and many places are shortened."""
    lines = "\n".join(f'  <add key="k{i}" value="{i}" />' for i in range(100))
    (hunk,) = hunks(b"<c>\n</c>", f"<c>\n{lines}\n</c>".encode())
    assert 9 == len(hunk.second)
    assert "(92 more lines)" == hunk.second[-1]
    wide = "x/" * 400
    assert all(len(line) <= 160 for hunk in hunks(b"<c />", f'<c name="{wide}" />'.encode()) for line in hunk.second)


@pytest.mark.parametrize(("run", "other", "expected"), [(2, 2, True), (2, 3, True), (2, 5, False), (5, 2, False)])
def test_hunks_about_the_same_lines_meet(run: int, other: int, *, expected: bool) -> None:
    """Two differences from one version meet when they are about the same or neighbouring lines of it."""
    lines = [f"<b>{n}</b>" for n in range(8)]

    def changed(line: int) -> bytes:
        return "\n".join(["<c>", *lines[:line], "<b>true</b>", *lines[line + 1 :], "</c>"]).encode()

    (first,) = hunks("\n".join(["<c>", *lines, "</c>"]).encode(), changed(run))
    (second,) = hunks("\n".join(["<c>", *lines, "</c>"]).encode(), changed(other))
    assert (first.line, first.count) == (run + 2, 1)
    assert expected is first.meets(second) is second.meets(first)


CASES = sorted((CASE_FOLDERS / "config").glob("*/input.config"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_every_case_is_shown_or_refused(path: Path) -> None:
    """Each configuration file and its output give a diff, or are refused as unreadable."""
    data, output = path.read_bytes(), path.with_name("output.config")
    after = output.read_bytes() if output.exists() else data
    try:
        found = hunks(data, after)
    except ConfigRefused:
        return
    assert bool(found) <= (data != after)


def test_each_limit_of_a_diff_at_its_border() -> None:
    """Eight lines of a side, 160 characters of a line, twenty places and 20,000 lines are shown; more is cut."""

    def added(lines: int) -> tuple[str, ...]:
        text = "".join(f"\n<b>{i}</b>" for i in range(lines))
        return hunks(b"<c>\n</c>", f"<c>{text}\n</c>".encode())[0].second

    assert len(added(8)) == 8
    assert added(9)[8:] == ("(1 more lines)",)
    for length, expected in ((160, 160), (161, 160)):
        name = ("word " * 40)[: length - 13] + "s"
        (hunk,) = hunks(b"<c/>", f'<c name="{name}"/>'.encode())
        assert len(hunk.second[0]) == expected
        assert hunk.second[0].endswith("...") is (length > 160)
    for places, expected in ((20, 20), (21, 20)):
        body = "".join(f"<a>true</a>\n<b>{i}</b>\n" for i in range(places))
        assert len(hunks(f"<c>\n{body}</c>".encode(), f"<c>\n{body.replace('true', 'false')}</c>".encode())) == expected
    long = b"<c>" + b"\n" * 20_000 + b"</c>"
    assert hunks(long, long) == ()
    with pytest.raises(ConfigRefused, match="more than 20000 lines"):
        hunks(long, long.replace(b"</c>", b"\n</c>"))


SHOWN = [
    '<a value="true"/>',
    '<a value="1.2.3"/>',
    '<a value="-5"/>',
    '<a value="12:30"/>',
    '<a value="C:\\site\\x"/>',
    '<a value="~/x/y"/>',
    '<a value="http://S1/x.asmx"/>',
    '<a value="S1_SyncServer.pvk"/>',
    '<a value="EktronSyncClient.pfx"/>',
    '<a value="my.config"/>',
    '<a value=""/>',
    '<a key="ek_PageSize" value="50"/>',
    '<a name="My.Long-Name, Version=1"/>',
    '<a key="password"/>',
    '<a xmlns:x="urn:secret:x=y;"/>',
    "<a>true</a>",
    "<!-- plain words, only; (words) & 'more' -->",
]
HIDDEN = [
    '<a value="hello"/>',
    '<a value="123456789"/>',
    '<a value="http://user:pw@host/"/>',
    '<a value="~/x?y=z"/>',
    '<a key="password" value="true"/>',
    '<a name="api_key" value="12"/>',
    '<a token="1"/>',
    '<connectionStrings><add value="1"/></connectionStrings>',
    '<a key="Server=x;Database=y"/>',
    '<a name="pwd = x"/>',
    '<a name="QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo1"/>',
    '<machineKey name="x"/>',
    '<sessionState stateConnectionString="1"/>',
    "<a>hello</a>",
    "<a><![CDATA[true]]></a>",
    "<!-- a=b -->",
    '<!-- <a value="1"/> -->',
    "<!-- QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo1 -->",
]


@pytest.mark.parametrize("text", SHOWN)
def test_harmless_values_are_shown(text: str) -> None:
    """As they are, in a line that was added."""
    assert text in shown(b"<c>\n</c>", f"<c>\n{text}\n</c>".encode())


@pytest.mark.parametrize("text", HIDDEN)
def test_everything_else_is_hidden(text: str) -> None:
    """By the names around a value, or by its form."""
    found = shown(b"<c>\n</c>", f"<c>\n{text}\n</c>".encode())
    assert "[hidden 1]" in found
    assert text not in found


def test_equal_hidden_values_have_equal_numbers_and_lines_are_kept() -> None:
    """Also across both versions; a hidden value over several lines does not move the following lines."""
    first = b'<c>\n<a value="one"/>\n<a value="two"/>\n<a value="one"/>\n</c>'
    (hunk,) = hunks(first, first.replace(b"two", b"one"))
    assert (hunk.first, hunk.second) == (('<a value="[hidden 2]"/>',), ('<a value="[hidden 1]"/>',))
    several = b"<c>\n<!-- a=b\n\n -->\n<a>1</a>\n</c>"
    (hunk,) = hunks(several, several.replace(b">1<", b">2<"))
    assert hunk.line == 5
