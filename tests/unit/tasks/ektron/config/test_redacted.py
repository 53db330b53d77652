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
    """The file, with some values of its own."""
    return FORM.format(**VALUES | values).encode()


def shown(first: bytes, second: bytes) -> str:
    """All the diff says."""
    return "\n".join("\n".join((*hunk.first, *hunk.second)) for hunk in hunks(first, second))


def test_a_plain_value_is_shown_with_its_line() -> None:
    """A number that changed stands in both versions, at its line."""
    (hunk,) = hunks(form(), form(page="75"))
    assert hunk.line == FORM[: FORM.index("ek_PageSize")].count("\n") + 1
    assert ('    <add key="ek_PageSize" value="50" />',) == hunk.first
    assert ('    <add key="ek_PageSize" value="75" />',) == hunk.second


def test_names_of_certificates_are_shown() -> None:
    """Which file an end point uses is no secret."""
    assert "P1_SyncClient.pfx" in shown(form(), form(certificate="P1_SyncClient.pfx"))


@pytest.mark.parametrize("place", SECRET)
def test_a_changed_secret_is_seen_and_not_read(place: str) -> None:
    """Its line is in the diff, with different marks for different values; the values are not."""
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
    """Whatever a secret is and wherever the files differ around it, it is in no line of the diff."""
    text = shown(form(**{place: before}), form(**{place: after}, page=str(page)))
    assert before not in text
    assert after not in text


def test_elements_around_a_secret_keep_it_hidden() -> None:
    """An attribute that is usually shown is hidden where its element is about keys."""
    first = b'<c><machineKey mode="AAAA1111" /></c>'
    assert "AAAA1111" not in shown(first, first.replace(b"1111", b"2222"))


def test_only_invisible_differences_are_no_hunk() -> None:
    """Line ends and blanks at the end of a line make no lines to show."""
    assert () == hunks(form(), form().replace(b"\n", b"\r\n"))


def test_what_is_no_xml_is_not_shown() -> None:
    """A file that cannot be understood could hold anything anywhere."""
    with pytest.raises(ConfigRefused):
        hunks(form(), b"password = swordfish")


def test_much_is_shortened() -> None:
    """Long lines, many lines and many places are cut."""
    lines = "\n".join(f'  <add key="k{i}" value="{i}" />' for i in range(100))
    (hunk,) = hunks(b"<c>\n</c>", f"<c>\n{lines}\n</c>".encode())
    assert 9 == len(hunk.second)
    assert "(92 more lines)" == hunk.second[-1]
    wide = "x/" * 400
    assert all(len(line) <= 160 for hunk in hunks(b"<c />", f'<c name="{wide}" />'.encode()) for line in hunk.second)


CASES = sorted((CASE_FOLDERS / "config").glob("*/input.config"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_every_case_is_shown_or_refused(path: Path) -> None:
    """Any of the configuration files against its own output is a diff, or refused as unreadable."""
    data, output = path.read_bytes(), path.with_name("output.config")
    after = output.read_bytes() if output.exists() else data
    try:
        found = hunks(data, after)
    except ConfigRefused:
        return
    assert bool(found) <= (data != after)
