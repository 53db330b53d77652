"""The files of the simulated product: writes a new product to a machine."""

from dataclasses import dataclass
from typing import Self

from lab.machine.binaries import program_file
from lab.machine.machine import Machine
from lab.machine.paths import WindowsPath
from lab.product import texts
from lab.product.family import Family, make_family

__all__ = [
    "DEFAULT_CONNECTION",
    "DEFAULT_SITE",
    "DEFAULT_SITE_PORT",
    "Edition",
    "Options",
    "Product",
    "connection_of",
    "install_files",
    "run_configurator",
]

DEFAULT_SITE = r"C:\inetpub\wwwroot\CMS400"
_CONNECTION = "server=SQL01;database=CMS400{database};Integrated Security=FALSE;user=cms400;pwd=Pla1n-Conn3ct-Pw"
DEFAULT_CONNECTION = _CONNECTION.format(database="Production")

DEFAULT_SITE_PORT = 8780  #: of its socket: a port that needs no privilege
_INSTALLED_DAYS_AGO = 30
_DAY = 86_400_000_000_000
_SERVICE_LIBRARIES = (
    "Ektron.ASM.AssetConfig.dll",
    "Ektron.ASM.PluginManager.dll",
    "Ektron.FileSync.Common.dll",
    "Ektron.FileSync.Framework.dll",
    "Ektron.Sync.Communication.dll",
    "Ektron.Sync.SyncServices.dll",
)
_HANDLERS = ("SyncHandler", "SyncStatusHandler", "LoadBalancingHandler", "LoadBalancingStatusHandler")
#: Their file version is the assembly's, so it does not show a missing patch (ektron-facts 1.3, the trap).
_FROZEN_VERSION = {"Ektron.FileSync.Common.dll", "Ektron.ASM.PluginManager.dll"}


@dataclass(frozen=True, slots=True)
class Edition:
    """The folders and names of a product generation (ektron-facts 1.1, 1.2)."""

    cms: str
    generation: str
    build: str
    install_build: str
    service_pack: str
    root: str

    @classmethod
    def of(cls, cms: str) -> Self:
        """The edition of a CMS version: `8.0`, `8.5` or `9.1`.

        Raises:
            ValueError: there is no such edition.
        """
        known = {
            "8.0": ("30", "8.0.1.87", "8.0.1.087SP1.03", "SP2", r"C:\Program Files\Ektron"),
            "8.5": ("40", "8.5.0.356", "8.5.0.356SP2.01", "SP2", r"C:\Program Files (x86)\Ektron"),
            "9.1": ("40", "9.1.0.184", "9.1.0.184", "", r"C:\Program Files (x86)\Ektron"),
        }
        if cms not in known:
            raise ValueError(f"the lab knows the editions {', '.join(known)}, not {cms!r}")
        return cls(cms, *known[cms])

    @property
    def service_name(self) -> str:
        """The name of the service: plural, unlike the folder."""
        return f"EktronWindowsServices{self.generation}"

    @property
    def service_display(self) -> str:
        """The display name in the list of services."""
        return f"Ektron Windows Services {self.generation[0]}.0"

    @property
    def program(self) -> str:
        """The file name of the service's program."""
        return f"Ektron.ASM.EktronServices{self.generation}.exe"

    @property
    def service_folder(self) -> WindowsPath:
        """The folder of the service."""
        return WindowsPath.of(rf"{self.root}\EktronWindowsService{self.generation}")

    @property
    def product_folder(self) -> WindowsPath:
        """The folder of the rest of the product."""
        return WindowsPath.of(rf"{self.root}\CMS400v{self.cms.replace('.', '')}")

    @property
    def configurator_folder(self) -> WindowsPath:
        """The folder of the Security Configurator and its output files."""
        return self.product_folder.below(r"Utilities\Software\SecurityConfigurator")

    @property
    def updates_config(self) -> WindowsPath:
        """The EWSUpdates copy of the service's configuration."""
        return self.product_folder.below(rf"Utilities\EWSUpdates\{self.generation[0]}.0\{self.program}.config")

    @property
    def service_config(self) -> WindowsPath:
        """The service's live configuration."""
        return self.service_folder.child(f"{self.program}.config")


@dataclass(frozen=True, slots=True)
class Options:
    """The differences between installations of an edition.

    Attributes:
        site_path: the site's folder. connection: its connection string, a secret.
        build: a build other than the edition's default. precompiled: whether the site is precompiled.
        patch: changes the bytes of the service's libraries but not their version, as a hot fix does.
        ws_path: URL of the site's web service; by default the machine's own name at port 80.
        site_port: the port of the site that clients outside the lab use.
    """

    site_path: str = DEFAULT_SITE
    connection: str = DEFAULT_CONNECTION
    build: str = ""
    precompiled: bool = False
    patch: str = ""
    ws_path: str = ""
    site_port: int = DEFAULT_SITE_PORT


@dataclass(frozen=True, slots=True)
class Product:
    """The product's files on one machine."""

    machine: Machine
    edition: Edition
    site: WindowsPath

    @property
    def service_folder(self) -> WindowsPath:
        """The folder of the service."""
        return self.edition.service_folder


def connection_of(pool: str) -> str:
    """The connection string of a pool: each has its own database, which its servers share (ektron-facts 10)."""
    return _CONNECTION.format(database=pool.capitalize())


def install_files(machine: Machine, edition: Edition, options: Options | None = None) -> Product:
    """Writes the product's files to a machine, unless they exist."""
    options = options or Options()
    site = WindowsPath.of(options.site_path)
    if machine.disk.stat(edition.service_config) is None:
        _put_all(machine, _files(machine.name, edition, options))
        for name in ("privateassets", "uploadedimages"):
            machine.disk.make_folder(site.child(name))
    return Product(machine, edition, site)


def run_configurator(product: Product, family: Family | None = None) -> Family:
    """Does what "Generate Certificates" in the Security Configurator certainly does (ektron-facts 3.3, rows marked P).

    It writes six files to its folder, and the machine's public key to the EWSUpdates copy of the service's
    configuration. Its other effects are only inferred, so they are left to the rollout.
    """
    family = family or make_family()
    machine, edition = product.machine, product.edition
    name = machine.name
    files = {edition.configurator_folder.child(file): data for file, data in family.files(name)}
    values = _values(name, edition, Options())
    keys = {f"{name}_SyncClient.cer": family.client.encoded}
    files[edition.updates_config] = texts.service_config(values, keys)
    _put_all(machine, files)
    return family


def _values(node: str, edition: Edition, options: Options) -> texts.Values:
    return texts.Values(
        node=node,
        site_path=options.site_path,
        generation=edition.generation,
        assembly=f"{edition.generation[0]}.0.0.0",
        build=options.build or edition.build,
        install_build=edition.install_build,
        service_pack=edition.service_pack,
        cms_version=f"{edition.cms}0",
        connection=options.connection,
        fourth_endpoint=edition.cms.startswith("9."),
        ws_path=options.ws_path or f"http://{node}/WorkArea/ServerControlWS.asmx",
    )


def _put_all(machine: Machine, files: dict[WindowsPath, bytes]) -> None:
    """Writes files with a last-write time in the past."""
    stamp = machine.clock.now() - _INSTALLED_DAYS_AGO * _DAY
    disk, real_now = machine.disk, machine.disk.now
    disk.now = lambda: stamp
    try:
        for path, data in files.items():
            disk.make_folder(path.parent)
            disk.put(path, data)
    finally:
        disk.now = real_now


def _files(node: str, edition: Edition, options: Options) -> dict[WindowsPath, bytes]:
    values = _values(node, edition, options)
    return {
        WindowsPath.of(r"C:\ProgramData\Microsoft\Windows\readme.txt"): b"",
        **_site_files(WindowsPath.of(options.site_path), values, options),
        **_service_files(edition, values, options),
        edition.configurator_folder.child("SecurityConfigurator.exe"): program_file(
            "SecurityConfigurator", values.build
        ),
        edition.updates_config: texts.service_config(values),
    }


def _site_files(site: WindowsPath, values: texts.Values, options: Options) -> dict[WindowsPath, bytes]:
    files = {
        site.child("AssetManagement.config"): texts.asset_management(values),
        site.child("web.config"): texts.web_config(values),
        site.child("login.aspx"): b'<%@ Page Language="C#" %>\r\n',
        site.below(r"bin\Ektron.Cms.Common.dll"): program_file("Ektron.Cms.Common.dll", values.build),
        # A sync needs it in both folders (ektron-facts 6, row 21).
        site.below(r"assets\metaconfig.doc"): b"metaconfig\r\n",
        site.below(r"uploadedfiles\metaconfig.doc"): b"metaconfig\r\n",
        site.child("health.htm"): b"<html><title>healthy</title></html>\r\n",
        site.below(r"WorkArea\login.aspx"): b'<%@ Page Language="C#" %>\r\n',
        **{site.below(rf"WorkArea\sync\{name}.ashx"): b'<%@ WebHandler Language="C#" %>\r\n' for name in _HANDLERS},
        site.below(r"WorkArea\ServerControlWS.asmx"): b'<%@ WebService Language="C#" %>\r\n',
        site.below(r"WorkArea\webservices\ContentWS.asmx"): b'<%@ WebService Language="C#" %>\r\n',
        # Not the marker of a precompiled site: every min site has this file (ektron-facts 2.7).
        site.below(r"WorkArea\webservices\PrecompiledApp.config"): texts.precompiled(),
    }
    if options.precompiled:
        files[site.child("PrecompiledApp.config")] = texts.precompiled()
    return files


def _service_files(edition: Edition, values: texts.Values, options: Options) -> dict[WindowsPath, bytes]:
    folder = edition.service_folder
    files = {
        folder.child(edition.program): program_file(edition.program, values.build, 24_576),
        edition.service_config: texts.service_config(values),
        folder.child("sitedb.config"): texts.site_databases(values),
        folder.child("data.config"): texts.data_config(values),
    }
    for name in _SERVICE_LIBRARIES:
        version = values.assembly if name in _FROZEN_VERSION else values.build
        files[folder.child(name)] = program_file(name, version, 16_384) + options.patch.encode()
    return files
