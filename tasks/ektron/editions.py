"""The paths of the files and the name of the Windows service, for each edition of the product.

Note the plural: the service is `EktronWindowsServices30`, its folder is `EktronWindowsService30` (ektron-facts 1.1).
"""

import re
from pathlib import PureWindowsPath

from pydantic import BaseModel, ConfigDict

from tasks.ektron.refusals import EditionUnknown
from tasks.ektron.versions import release_of

__all__ = [
    "CONFIGURATOR",
    "FACTORY_CLIENT",
    "FACTORY_SERVER",
    "SYNC_PORT",
    "Edition",
    "Layout",
    "edition_of",
    "executable_of",
    "lay_out",
]

#: What an installation names before the Security Configurator ran; the second one is inferred (ektron-facts 2.3, 3.1).
FACTORY_CLIENT, FACTORY_SERVER = "EktronSyncClient.pfx", "EktronSyncServer.pfx"
SYNC_PORT = 8732  #: for all eSync traffic; fixed by the product (ektron-facts 3.5)

CONFIGURATOR = r"Utilities\Software\SecurityConfigurator"  #: below the product's folder (ektron-facts 1.2)

_BINARIES = (  # compared between nodes by size, version and hash (ektron-facts 1.3)
    "Ektron.ASM.AssetConfig.dll",
    "Ektron.FileSync.Common.dll",
    "Ektron.FileSync.Framework.dll",
    "Ektron.Sync.Communication.dll",
    "Ektron.Sync.SyncServices.dll",
)
_SERVICE_30 = ("7.6", "8.0")  #: editions with the service 3.0 (ektron-facts 1.1)
_KNOWN = (*_SERVICE_30, "8.5", "8.6", "8.7", "9.0", "9.1", "9.2", "9.3")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Edition(_Value):
    """A generation of the product (ektron-facts 1.1, 1.2)."""

    cms: str  #: `major.minor`
    service: str  #: generation of the Windows service, `3.0` or `4.0`
    service_name: str  #: plural: EktronWindowsServices30
    service_folder_name: str  #: singular: EktronWindowsService30
    service_exe: str
    service_config_name: str
    product_folder_name: str  #: CMS400v80
    ews_subfolder: str  #: below EWSUpdates


class Layout(_Value):
    """Absolute paths of the product's files on one node."""

    site: str  #: also the web root, which contains the client files (ektron-facts 3.4)
    asset_config: str
    web_config: str
    precompiled_marker: str  #: in the site root only; the file below Workarea has no meaning (ektron-facts 2.7)
    site_binary: str
    service_folder: str
    service_config: str
    data_config: str  #: generated daily, never edited (ektron-facts 2.4)
    sitedb_config: str
    dbsync_config: str  #: batch size (ektron-facts 2.4)
    status_folder: str  #: run-time sync status, EktSyncStatus in the site root (ektron-facts 1.2)
    binaries: tuple[str, ...]  #: program files that must be equal on all nodes (ektron-facts 1.3)
    product_folder: str
    configurator_folder: str  #: where the Security Configurator writes the six files (procedure step 5)
    ews_config: str  #: the EWSUpdates copy of the service's configuration (procedure step 12)
    service_name: str
    staging_folder: str  #: `Ektron Security Certificates` (procedure, second part, step 7)
    service_key: str  #: registry key; its value ImagePath is the path of the service (ektron-facts 1.3)

    @property
    def written_folders(self) -> tuple[str, ...]:
        """The folders in which files are written (design: what is written to a node)."""
        ews = str(PureWindowsPath(self.ews_config).parent)
        return (self.site, self.service_folder, self.staging_folder, self.configurator_folder, ews)


def edition_of(text: str) -> Edition:
    """The edition of a CMS version, in every form in which the vendor writes it (ektron-facts 10).

    Raises:
        EditionUnknown: the version belongs to no known edition.
    """
    cms = release_of(text)
    if cms not in _KNOWN:
        raise EditionUnknown(f"the edition {text!r} is unknown", remedy=f"use one of {', '.join(_KNOWN)}")
    service = "3.0" if cms in _SERVICE_30 else "4.0"
    digits = service.replace(".", "")
    exe = f"Ektron.ASM.EktronServices{digits}.exe"
    return Edition(
        cms=cms,
        service=service,
        service_name=f"EktronWindowsServices{digits}",
        service_folder_name=f"EktronWindowsService{digits}",
        service_exe=exe,
        service_config_name=f"{exe}.config",
        product_folder_name=f"CMS400v{cms.replace('.', '')}",
        ews_subfolder=service,
    )


def executable_of(image_path: str, system_drive: str = "C:") -> str:
    r"""The program in the ImagePath of a service, without quotes and arguments.

    Supports quoted and unquoted paths with spaces, the prefix `\??\` and the variables that Windows uses there.

    Raises:
        EditionUnknown: it contains no absolute path of an .exe file.
    """
    text = image_path.strip().removeprefix("\\??\\")
    for variable, value in _variables(system_drive):
        text = re.sub(f"%{re.escape(variable)}%", value.replace("\\", r"\\"), text, flags=re.IGNORECASE)
    match = re.match(r'"([^"]+)"|(.+?\.exe)(?=\s|$)', text, re.IGNORECASE)
    program = (match[1] or match[2]).strip() if match else ""
    if not re.match(r"[A-Za-z]:\\", program):
        raise EditionUnknown(
            f"the ImagePath {image_path[:200]!r} of the service names no program",
            remedy="repair the registration of the service, or set site.service_folder in the cluster file",
        )
    return program


def lay_out(
    edition: Edition,
    *,
    site_path: str,
    system_drive: str = "C:",
    image_path: str | None = None,
    service_folder: str | None = None,
    product_folder: str | None = None,
) -> Layout:
    """All paths on one node. Priority: explicit folder, ImagePath, default.

    Args:
        edition: the edition of the product.
        site_path: absolute path of the site root.
        system_drive: such as `C:`.
        image_path: the ImagePath of the service in the registry of the node.
        service_folder: explicit, from the cluster file.
        product_folder: explicit, from the cluster file; by default a folder beside the service folder.

    Raises:
        EditionUnknown: ImagePath names another program, or the staging folder would be inside the public site.
    """
    exe = _service_exe(edition, system_drive, image_path, service_folder)
    service = exe.parent
    product = PureWindowsPath(product_folder) if product_folder else service.parent / edition.product_folder_name
    return Layout(
        **_site_files(PureWindowsPath(site_path)),
        service_folder=str(service),
        service_config=f"{exe}.config",
        data_config=str(service / "data.config"),
        sitedb_config=str(service / "sitedb.config"),
        dbsync_config=str(service / "DbSync.config"),
        binaries=(str(exe), *(str(service / name) for name in _BINARIES)),
        product_folder=str(product),
        configurator_folder=str(product / CONFIGURATOR),
        ews_config=str(product / "Utilities" / "EWSUpdates" / edition.ews_subfolder / edition.service_config_name),
        staging_folder=_staging_folder(system_drive, site_path),
        service_key=rf"HKLM\SYSTEM\CurrentControlSet\Services\{edition.service_name}",
        service_name=edition.service_name,
    )


def _site_files(site: PureWindowsPath) -> dict[str, str]:
    return {
        "site": str(site),
        "asset_config": str(site / "AssetManagement.config"),
        "web_config": str(site / "web.config"),
        "precompiled_marker": str(site / "PrecompiledApp.config"),
        "status_folder": str(site / "EktSyncStatus"),
        "site_binary": str(site / "bin" / "Ektron.Cms.Common.dll"),
    }


def _staging_folder(system_drive: str, site_path: str) -> str:
    """In the root of the system drive, and never inside the site, where the web server would serve its files."""
    staging = PureWindowsPath(f"{system_drive}\\") / "Ektron Security Certificates"
    if staging.is_relative_to(PureWindowsPath(site_path)):
        raise EditionUnknown(
            f"the folder {staging} would be below the site {site_path} and therefore public",
            remedy="move the site into its own folder",
        )
    return str(staging)


def _service_exe(
    edition: Edition,
    system_drive: str,
    image_path: str | None,
    service_folder: str | None,
) -> PureWindowsPath:
    if service_folder:
        return PureWindowsPath(service_folder) / edition.service_exe
    if not image_path:
        root = "Program Files" if edition.service == "3.0" else "Program Files (x86)"  # ektron-facts 1.2
        return (
            PureWindowsPath(f"{system_drive}\\") / root / "Ektron" / edition.service_folder_name / edition.service_exe
        )
    exe = PureWindowsPath(executable_of(image_path, system_drive))
    if exe.name.casefold() != edition.service_exe.casefold():
        raise EditionUnknown(
            f"the service {edition.service_name} runs {exe.name}, not {edition.service_exe}",
            remedy="check `edition` in the cluster file, or set site.service_folder",
        )
    return exe


def _variables(system_drive: str) -> tuple[tuple[str, str], ...]:
    return (
        ("ProgramFiles(x86)", rf"{system_drive}\Program Files (x86)"),
        ("ProgramW6432", rf"{system_drive}\Program Files"),
        ("ProgramFiles", rf"{system_drive}\Program Files"),
        ("SystemDrive", system_drive),
    )
