"""Editions and layouts: singular and plural names, all forms of ImagePath, explicit paths."""

import pytest

from tasks.ektron.editions import edition_of, executable_of, lay_out
from tasks.ektron.refusals import EditionUnknown

SITE = r"C:\inetpub\wwwroot\site"


@pytest.mark.parametrize(
    ("text", "cms", "service"),
    [
        ("7.6", "7.6", "3.0"),
        ("7.6.6.14", "7.6", "3.0"),
        ("8.0", "8.0", "3.0"),
        ("8.02", "8.0", "3.0"),
        ("8.00", "8.0", "3.0"),
        ("8.0.1.087SP1.03", "8.0", "3.0"),
        ("8.5", "8.5", "4.0"),
        ("8.50", "8.5", "4.0"),
        ("8.5.0.356", "8.5", "4.0"),
        ("8.61", "8.6", "4.0"),
        ("8.6.1", "8.6", "4.0"),
        ("8.7", "8.7", "4.0"),
        ("9.00", "9.0", "4.0"),
        ("9.20", "9.2", "4.0"),
        ("9.0", "9.0", "4.0"),
        ("9.10", "9.1", "4.0"),
        ("9.3", "9.3", "4.0"),
    ],
)
def test_versions_lead_to_generations(text: str, cms: str, service: str) -> None:
    """8.0 has service 3.0, 8.5 and later have 4.0, in every form of the version."""
    edition = edition_of(text)
    assert (edition.cms, edition.service) == (cms, service)


@pytest.mark.parametrize("text", ["", "7.5", "8", "8.1", "8.12", "8.500", "10.0", "nine", "80"])
def test_unknown_versions_are_refused(text: str) -> None:
    """The refusal of an unknown version lists the known ones."""
    with pytest.raises(EditionUnknown) as caught:
        edition_of(text)
    assert "7.6, 8.0, 8.5" in caught.value.remedy


def test_service_plural_folder_singular() -> None:
    """The service is named in the plural, its folder in the singular."""
    edition = edition_of("8.5")
    assert edition.service_name == "EktronWindowsServices40"
    assert edition.service_folder_name == "EktronWindowsService40"
    assert edition.service_config_name == "Ektron.ASM.EktronServices40.exe.config"
    assert edition.product_folder_name == "CMS400v85"
    assert edition.service_exe == "Ektron.ASM.EktronServices40.exe"


@pytest.mark.parametrize(
    ("image_path", "program"),
    [
        (r'"C:\Program Files (x86)\E\a.exe"', r"C:\Program Files (x86)\E\a.exe"),
        (r'"C:\Program Files\E\a.exe" -s --x "b.exe"', r"C:\Program Files\E\a.exe"),
        (r"C:\Program Files\E\a.exe", r"C:\Program Files\E\a.exe"),
        (r"C:\Program Files\E\a.exe /run b.exe", r"C:\Program Files\E\a.exe"),
        (r"  D:\E\A.EXE  ", r"D:\E\A.EXE"),
        (r"\??\C:\E\a.exe", r"C:\E\a.exe"),
        (r"%ProgramFiles(x86)%\E\a.exe", r"C:\Program Files (x86)\E\a.exe"),
        (r'"%programfiles%\E\a.exe" x', r"C:\Program Files\E\a.exe"),
        (r"%SystemDrive%\E\a.exe", r"C:\E\a.exe"),
        (r"C:\my.exe.files\a.exe -x", r"C:\my.exe.files\a.exe"),
    ],
)
def test_the_program_is_found_in_image_path(image_path: str, program: str) -> None:
    """Quotes, arguments, blanks, variables and prefixes of ImagePath are supported."""
    assert executable_of(image_path) == program


@pytest.mark.parametrize("image_path", ["", "svchost -k x", r"system32\x.sys", '"', '""', r"\\server\share\a.exe"])
def test_an_image_path_without_program_is_refused(image_path: str) -> None:
    """A path without a local program is refused, with a remedy."""
    with pytest.raises(EditionUnknown) as caught:
        executable_of(image_path)
    assert "site.service_folder" in caught.value.remedy


def test_layout_by_image_path() -> None:
    """The registration determines the service folder; the product folder is beside it."""
    exe = r"D:\Apps\Ektron\EktronWindowsService40\Ektron.ASM.EktronServices40.exe"
    layout = lay_out(edition_of("9.1"), site_path=SITE, image_path=f'"{exe}" -service')
    assert layout.service_folder == r"D:\Apps\Ektron\EktronWindowsService40"
    assert layout.service_config == exe + ".config"
    assert layout.product_folder == r"D:\Apps\Ektron\CMS400v91"
    assert layout.configurator_folder == r"D:\Apps\Ektron\CMS400v91\Utilities\Software\SecurityConfigurator"
    assert layout.ews_config == (
        r"D:\Apps\Ektron\CMS400v91\Utilities\EWSUpdates\4.0\Ektron.ASM.EktronServices40.exe.config"
    )
    assert layout.staging_folder == r"C:\Ektron Security Certificates"
    assert layout.asset_config == SITE + r"\AssetManagement.config"
    assert layout.precompiled_marker == SITE + r"\PrecompiledApp.config"
    assert layout.service_key == r"HKLM\SYSTEM\CurrentControlSet\Services\EktronWindowsServices40"
    assert len(layout.binaries) == 6


def test_explicit_folders_win() -> None:
    """The paths in the cluster file have priority over the registration."""
    layout = lay_out(
        edition_of("8.0"),
        site_path=SITE,
        system_drive="E:",
        image_path=r"C:\x\other.exe",
        service_folder=r"F:\svc",
        product_folder=r"G:\cms",
    )
    assert layout.service_config == r"F:\svc\Ektron.ASM.EktronServices30.exe.config"
    assert layout.configurator_folder == r"G:\cms\Utilities\Software\SecurityConfigurator"
    assert layout.staging_folder == r"E:\Ektron Security Certificates"


@pytest.mark.parametrize(
    ("cms", "expected"),
    [
        ("8.0", r"C:\Program Files\Ektron\EktronWindowsService30"),
        ("8.5", r"C:\Program Files (x86)\Ektron\EktronWindowsService40"),
    ],
)
def test_without_any_hint_the_usual_place(cms: str, expected: str) -> None:
    """8.0 is in Program Files, 8.5 and later are in Program Files (x86)."""
    edition = edition_of(cms)
    assert lay_out(edition, site_path=SITE).service_folder == expected


def test_names_are_compared_without_case() -> None:
    """A registration in another case is the same program, and its spelling is kept."""
    layout = lay_out(edition_of("8.0"), site_path=SITE, image_path=r"c:\ektron\svc\EKTRON.ASM.EKTRONSERVICES30.EXE")
    assert layout.service_config == r"c:\ektron\svc\EKTRON.ASM.EKTRONSERVICES30.EXE.config"


def test_another_program_behind_the_service_is_refused() -> None:
    """A wrapper, or the program of another edition, is refused."""
    with pytest.raises(EditionUnknown, match=r"runs nssm\.exe"):
        lay_out(edition_of("8.0"), site_path=SITE, image_path=r"C:\tools\nssm.exe")


@pytest.mark.parametrize("site", ["C:\\", r"c:\ektron security certificates"])
def test_certificates_never_lie_below_the_site(site: str) -> None:
    """The procedure's warning: private keys must not be where the web server serves files."""
    with pytest.raises(EditionUnknown, match="public"):
        lay_out(edition_of("8.0"), site_path=site)


def test_every_path_of_a_layout() -> None:
    """All files and folders of a node, for the default place of edition 8.5."""
    service = r"C:\Program Files (x86)\Ektron\EktronWindowsService40"
    product = r"C:\Program Files (x86)\Ektron\CMS400v85"
    exe = rf"{service}\Ektron.ASM.EktronServices40.exe"
    layout = lay_out(edition_of("8.5"), site_path=SITE)
    assert layout.model_dump() == {
        "site": SITE,
        "asset_config": rf"{SITE}\AssetManagement.config",
        "web_config": rf"{SITE}\web.config",
        "precompiled_marker": rf"{SITE}\PrecompiledApp.config",
        "site_binary": rf"{SITE}\bin\Ektron.Cms.Common.dll",
        "status_folder": rf"{SITE}\EktSyncStatus",
        "service_folder": service,
        "service_config": f"{exe}.config",
        "data_config": rf"{service}\data.config",
        "sitedb_config": rf"{service}\sitedb.config",
        "dbsync_config": rf"{service}\DbSync.config",
        "binaries": (
            exe,
            rf"{service}\Ektron.ASM.AssetConfig.dll",
            rf"{service}\Ektron.FileSync.Common.dll",
            rf"{service}\Ektron.FileSync.Framework.dll",
            rf"{service}\Ektron.Sync.Communication.dll",
            rf"{service}\Ektron.Sync.SyncServices.dll",
        ),
        "product_folder": product,
        "configurator_folder": rf"{product}\Utilities\Software\SecurityConfigurator",
        "ews_config": rf"{product}\Utilities\EWSUpdates\4.0\Ektron.ASM.EktronServices40.exe.config",
        "service_name": "EktronWindowsServices40",
        "service_key": r"HKLM\SYSTEM\CurrentControlSet\Services\EktronWindowsServices40",
        "staging_folder": r"C:\Ektron Security Certificates",
    }
    assert layout.written_folders == (
        SITE,
        service,
        r"C:\Ektron Security Certificates",
        rf"{product}\Utilities\Software\SecurityConfigurator",
        rf"{product}\Utilities\EWSUpdates\4.0",
    )


@pytest.mark.parametrize(
    ("image_path", "program"),
    [
        (r"%ProgramW6432%\E\a.exe", r"E:\Program Files\E\a.exe"),
        (r"%PROGRAMFILES%\E\a.exe", r"E:\Program Files\E\a.exe"),
        (r"%programfiles(x86)%\E\a.exe", r"E:\Program Files (x86)\E\a.exe"),
        (r"%SystemDrive%\E\a.exe", r"E:\E\a.exe"),
    ],
)
def test_variables_are_those_of_the_system_drive(image_path: str, program: str) -> None:
    """The node's own drive, not always C."""
    assert executable_of(image_path, "E:") == program
    service = lay_out(edition_of("8.0"), site_path=SITE, system_drive="E:").service_folder
    assert service == r"E:\Program Files\Ektron\EktronWindowsService30"
