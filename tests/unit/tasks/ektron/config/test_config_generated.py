"""The generated files of the service are read, with any tags."""

import pytest

from tasks.ektron.config.generated import read_generated
from tasks.ektron.facts.generated import GeneratedSite
from tasks.ektron.refusals import ConfigRefused

SITEDB = rb"""<?xml version="1.0"?>
<configuration><siteDbStrings>
  <add name="site" connectionString="server=db" sitepath="/" physicalpath="C:\inetpub\wwwroot\site" active="true"/>
  <other Name="two" CONNECTIONSTRING="server=x" />
</siteDbStrings></configuration>"""


def test_sites_are_listed_with_digests() -> None:
    """Each entry with a connection string is a site; the string is replaced by its digest."""
    assert read_generated(SITEDB, lambda text: f"{len(text)}") == (
        GeneratedSite(
            name="site",
            site_path="/",
            physical_path=r"C:\inetpub\wwwroot\site",
            active="true",
            connection_digest="9",
        ),
        GeneratedSite(name="two", connection_digest="8"),
    )


@pytest.mark.parametrize(
    "spelling",
    [
        r"D:\inetpub\wwwroot\site\\",
        "D:/inetpub/wwwroot/site/",
        r"%SystemDrive%\inetpub\wwwroot\site",
        r"%SYSTEMDRIVE%\inetpub\.\wwwroot\\site ",
    ],
)
def test_a_folder_has_one_spelling(spelling: str) -> None:
    """As the rules compare it with the folder of the site: IIS writes the drive of the system as a variable."""
    data = f'<s><add connectionstring="x" physicalpath="{spelling}"/></s>'.encode()
    (site,) = read_generated(data, str, "D:")
    assert site.physical_path == r"D:\inetpub\wwwroot\site"


def test_a_broken_file_is_refused() -> None:
    """A file that is not well-formed is refused."""
    with pytest.raises(ConfigRefused):
        read_generated(SITEDB[:50], str)
