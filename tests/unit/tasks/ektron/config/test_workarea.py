"""The pages of the WorkArea read their settings as ASP.NET lets them inherit, and nothing else is an override."""

import hashlib

import pytest

from tasks.ektron.config.readers import read_web
from tasks.ektron.config.sections import Content
from tasks.ektron.facts.configuration import FolderSettings

SITE = '<appSettings><add key="encodedValue" value="QUJD"/></appSettings>'
OTHER = '<appSettings><add key="ENCODEDvalue" value="REVG"/></appSettings>'
DEF = hashlib.sha256(b"DEF").hexdigest()
ENDPOINT = (
    '<ektron.serviceModel><endPoints><add contract="C1" clientCertificate="S1_SyncClient.pfx"/></endPoints>'
    "</ektron.serviceModel>"
)


def seen(site: str, **below: str) -> FolderSettings:
    """What the pages read, by the files of the site, of WorkArea and of WorkArea/sync."""
    folders = {"workarea": "WorkArea", "sync": r"WorkArea\sync"}
    files = {folders[name]: f"<configuration>{body}</configuration>".encode() for name, body in below.items()}
    content = Content(f"<configuration>{SITE}{site}</configuration>".encode(), below=files)
    return read_web(content, lambda text: f"digest of {text}").workarea


@pytest.mark.parametrize(
    "path", ["WorkArea", "workarea", "WorkArea/", "WORKAREA/sync", "WorkArea/sync/SyncHandler.ashx", " WorkArea "]
)
def test_a_location_of_the_pages_overrides_the_site(path: str) -> None:
    """In whatever spelling; the place has its line."""
    found = seen(f'\n<location path="{path}">{OTHER}</location>')
    assert [("encodedValue", DEF)] == [(one.setting, one.value) for one in found.overrides]
    assert "line 2" in found.overrides[0].where


@pytest.mark.parametrize("path", ["uploadedfiles", "WorkArea2", "WorkArea/login.aspx", "WorkArea/synchronise", "Work"])
def test_a_location_of_other_pages_does_not(path: str) -> None:
    """No page that runs a sync reads it."""
    assert FolderSettings() == seen(f'<location path="{path}">{OTHER}</location>')


def test_a_location_without_settings_of_esync_does_not() -> None:
    """As sites have many: rights, limits, other settings."""
    rights = '<system.web><authorization><deny users="?"/></authorization></system.web>'
    colour = '<appSettings><add key="SiteColour" value="blue"/></appSettings>'
    assert FolderSettings() == seen(f'<location path="WorkArea">{rights}{colour}</location>', workarea=rights + colour)


def test_the_file_of_the_nearest_folder_is_in_force() -> None:
    """A location element loses to web.config of the folder, and that to the one of the folder below it."""
    third = OTHER.replace("REVG", "R0hJ")
    located = f'<location path="WorkArea">{third}</location>'
    assert [r"WorkArea\web.config, line 1"] == [one.where for one in seen(located, workarea=OTHER).overrides]
    assert [DEF] == [one.value for one in seen(located, workarea=third, sync=OTHER).overrides]
    inner = f'<location path="sync">{OTHER}</location>'
    assert [DEF] == [one.value for one in seen(located, workarea=third + inner).overrides]


@pytest.mark.parametrize("body", ["<clear/>", '<remove key="encodedValue"/>'])
def test_a_setting_that_is_removed_is_an_override(body: str) -> None:
    """Then the pages have none; one that is added again after it counts."""
    assert [""] == [one.value for one in seen("", workarea=f"<appSettings>{body}</appSettings>").overrides]
    again = f'<appSettings>{body}<add key="encodedValue" value="REVG"/></appSettings>'
    assert [DEF] == [one.value for one in seen("", workarea=again).overrides]


def test_endpoints_and_the_connection_count_too() -> None:
    """An endpoint by its contract, the connection string as a digest."""
    strings = (
        '<connectionStrings><add name="Ektron.DbConnection" connectionString="a=b"/><add name="X" '
        'connectionString="c"/></connectionStrings>'
    )
    found = seen("", workarea=ENDPOINT + strings).overrides
    assert [("clientCertificate", "C1", "S1_SyncClient.pfx"), ("connectionString", "", "digest of a=b")] == [
        (one.setting, one.of, one.value) for one in found
    ]


@pytest.mark.parametrize(
    ("below", "why"),
    [
        ("<appSettings", r"WorkArea\web.config: line 1: the file is not well-formed"),
        ('<appSettings configSource="x.config"/>', "in another file, or encrypted"),
        ('<appSettings configProtectionProvider="Rsa"><EncryptedData/></appSettings>', "in another file, or encrypted"),
    ],
)
def test_what_cannot_be_known_is_said(below: str, why: str) -> None:
    """A file that cannot be read refutes nothing, and proves nothing."""
    assert why in seen("", workarea=below).problem
    unreadable = Content(b"<configuration/>", unreadable_below={"WorkArea": "access denied"})
    assert "cannot be read: access denied" in read_web(unreadable, str).workarea.problem
