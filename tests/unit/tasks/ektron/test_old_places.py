"""Which folders count as old: only with evidence, because sites and services may run side by side."""

from collections.abc import Iterable

import pytest

from tasks.ektron.editions import edition_of, lay_out
from tasks.ektron.facts.generated import GeneratedFile, GeneratedSite
from tasks.ektron.old_places import OtherService, old_folders, other_services, product_roots

SITE, MOVED = r"C:\inetpub\wwwroot\site", r"D:\sites\shop"
PLAIN, X86 = product_roots("C:")
IMAGE = rf'"{X86}\EktronWindowsService40\Ektron.ASM.EktronServices40.exe"'
LAYOUT = lay_out(edition_of("9.1"), site_path=MOVED, image_path=IMAGE)
OFF = OtherService("stopped", "disabled", rf'"{PLAIN}\EktronWindowsService30\Ektron.ASM.EktronServices30.exe"')
ON = OFF._replace(state="running", start_type="auto")


def site(path: str | None, *, active: str | None = "1", version: str | None = "9.1.0.184") -> GeneratedSite:
    """An entry of sitedb.config."""
    return GeneratedSite(name="site", physical_path=path, active=active, version=version)


def listed(*sites: GeneratedSite) -> GeneratedFile:
    """The list of sites."""
    return GeneratedFile(path="sitedb.config", exists=True, sites=sites)


def old(
    *sites: GeneratedSite,
    earlier: Iterable[str] = (),
    plain: Iterable[str] = (),
    x86: Iterable[str] = ("EktronWindowsService40", "CMS400v91"),
    services: dict[str, OtherService] | None = None,
    image_path: str = IMAGE,
) -> set[str]:
    """The old folders of a server with edition 9.1."""
    contents = {PLAIN: plain, X86: x86}
    return set(
        old_folders(
            LAYOUT,
            sites=listed(*sites),
            earlier_sites=earlier,
            contents=contents,
            services=services or {},
            image_path=image_path,
        )
    )


def test_the_folder_from_which_the_service_runs_is_never_old() -> None:
    """Also where the cluster file names another one."""
    image = rf'"{PLAIN}\EktronWindowsService40\Ektron.ASM.EktronServices40.exe"'
    assert old(site(MOVED), plain=["EktronWindowsService40"]) == {rf"{PLAIN}\EktronWindowsService40"}
    assert old(site(MOVED), plain=["EktronWindowsService40"], image_path=image) == set()


def test_a_server_without_a_past_has_none() -> None:
    """The folders that are in use are not old, whatever names them."""
    assert old(site(MOVED)) == set()
    assert old(site(MOVED), earlier=[MOVED, MOVED.upper() + "\\", LAYOUT.service_folder]) == set()


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ((site(MOVED),), {SITE}),  # the site has moved
        ((site(SITE),), {SITE}),  # the list is from before the move
        ((), {SITE}),
        ((site(MOVED), site(SITE)), set()),  # two sites
        ((site(MOVED), site(SITE.upper(), active=None)), set()),
        ((site(MOVED), site(SITE, active="0")), {SITE}),
        ((site(MOVED), site(SITE, active="False")), {SITE}),
    ],
)
def test_an_earlier_place_of_the_site_is_old_unless_it_is_served(
    sites: tuple[GeneratedSite, ...], expected: set[str]
) -> None:
    """A list of sites that names both folders protects the other one; an inactive entry does not."""
    assert old(*sites, earlier=[SITE]) == expected


def test_an_inactive_site_of_the_list_is_old() -> None:
    """Also if no earlier run knows it; an active one is a site that we know nothing about."""
    assert old(site(MOVED), site(SITE, active="0")) == {SITE}
    assert old(site(MOVED), site(SITE)) == set()


@pytest.mark.parametrize("path", [r"\\server\share\site", "relative", r"C:\a\..\Windows", "C:", "", "C:\\a\nb"])
def test_only_local_folders_are_believed(path: str) -> None:
    """The list comes from the node: no share, nothing relative, nothing that leads elsewhere."""
    assert old(site(MOVED), site(path, active="0"), earlier=[path]) == set()


CONFIGURATOR_80 = rf"{PLAIN}\CMS400v80\Utilities\Software\SecurityConfigurator"
CONFIGURATOR_85 = rf"{X86}\CMS400v85\Utilities\Software\SecurityConfigurator"


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ({}, {rf"{PLAIN}\EktronWindowsService30", CONFIGURATOR_80}),
        ({"30": OFF}, {rf"{PLAIN}\EktronWindowsService30", CONFIGURATOR_80}),
        ({"30": ON}, set()),  # the other generation is in use
        ({"30": ON._replace(state="stopped")}, set()),
        ({"30": ON._replace(start_type="manual")}, set()),
        ({"30": OFF._replace(image_path=r"E:\esync\Ektron.ASM.EktronServices30.exe")}, {r"E:\esync"}),
        ({"30": OFF._replace(image_path="nonsense")}, {rf"{PLAIN}\EktronWindowsService30"}),
    ],
)
def test_another_generation_is_old_unless_its_service_is_in_use(
    services: dict[str, OtherService], expected: set[str]
) -> None:
    """After an upgrade from 8.0: the folder of its service, and that of its configurator."""
    found = old(site(MOVED), plain=["EktronWindowsService30", "CMS400v80", "Catalogs"], services=services)
    assert expected <= found
    assert bool(found) is bool(expected)


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ((site(MOVED),), {CONFIGURATOR_85}),
        ((site(MOVED), site(SITE, version="8.5.0.356")), set()),  # a site of that edition
        ((site(MOVED), site(SITE, version="8.50")), set()),
        ((site(MOVED), site(SITE, version=None)), set()),  # not known
        ((site(MOVED, version=""),), set()),
        ((), set()),
        ((site(MOVED), site(SITE, version="8.5", active="0")), {CONFIGURATOR_85, SITE}),
    ],
)
def test_an_edition_of_the_same_service_is_old_if_no_site_has_it(
    sites: tuple[GeneratedSite, ...], expected: set[str]
) -> None:
    """One service of generation 4.0 serves sites of all editions from 8.5 on (ektron-facts 1.1)."""
    assert old(*sites, x86=["EktronWindowsService40", "CMS400v85", "CMS400v91"]) == expected


def test_the_own_generation_is_not_another_one() -> None:
    """Of the three generations the two others are asked for."""
    assert other_services("ektronwindowsservices40") == {
        "20": "EktronWindowsServices20",
        "30": "EktronWindowsServices30",
    }
