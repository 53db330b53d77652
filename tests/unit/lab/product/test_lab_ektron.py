"""The simulated product: its files, and what its service loads from them."""

import asyncio
import base64
import hashlib

import pytest
from lxml import etree

from lab.machine.machine import Machine
from lab.machine.memory_disk import MemoryDisk
from lab.machine.paths import WindowsPath
from lab.machine.services import ServiceState
from lab.product.family import Family, make_family
from lab.product.installation import Installation, install
from lab.product.service import SYNC_PORT, EktronService, Loaded
from lab.product.site import DEFAULT_CONNECTION, DEFAULT_SITE, Edition, Options, run_configurator

EDITIONS = ("8.0", "8.5", "9.1")
FAMILY = make_family()
ENTRY = b'<add key="S1_SyncClient.cer" encodedValue="'


def installed(edition: str = "8.0", name: str = "S1", options: Options | None = None) -> Installation:
    """A new installation on a new machine."""
    return install(Machine(name, MemoryDisk()), Edition.of(edition), options)


def read(installation: Installation, path: WindowsPath) -> bytes:
    """The bytes of a file of the machine."""
    return installation.machine.disk.read(path)


def xml(data: bytes) -> etree._Element:
    """A parsed file of the machine."""
    return etree.fromstring(data)


def join(installation: Installation, family: Family = FAMILY) -> None:
    """Does what a rollout does for a cluster of only this machine."""
    machine, name = installation.machine, installation.machine.name
    config = installation.edition.service_config
    for file, data in family.files(name):
        machine.disk.put(installation.service_folder.child(file), data)
    key = f'<add key="{name}_SyncClient.cer" encodedValue="{family.client.encoded}"/>'
    text = read(installation, config).decode("utf-8-sig")
    text = text.replace('"EktronSyncServer.pfx"', f'"{name}_SyncServer.pfx"')
    text = text.replace("<publickCertKeys/>", "<publickCertKeys></publickCertKeys>")
    text = text.replace("</publickCertKeys>", f"{key}</publickCertKeys>")
    text = text.replace('"LoadBalanced" value="0"', '"LoadBalanced" value="1"')
    machine.disk.put(config, text.encode())


def restart(installation: Installation) -> Loaded | None:
    """Restarts the service; returns what it loaded if it listens."""
    service = installation.service
    if service.state() is not ServiceState.STOPPED:
        service.request_stop()
    service.request_start()
    service.settle()
    assert isinstance(service.program, EktronService)
    listening = installation.machine.network.listening(installation.machine.address, SYNC_PORT)
    assert listening == (service.program.loaded is not None)
    return service.program.loaded


@pytest.mark.parametrize("edition", EDITIONS)
def test_a_new_installation_has_default_values(edition: str) -> None:
    """Not load-balanced, default certificates, no key, no encoded value."""
    fresh = installed(edition)
    asset = xml(read(fresh, fresh.site.child("AssetManagement.config")))
    web = xml(read(fresh, fresh.site.child("web.config")))
    service = xml(read(fresh, fresh.edition.service_config))
    assert ("DocumentManagerData", "0", "S1") == (asset.tag, asset.get("LoadBalanced"), asset.get("UserDomain"))
    assert {"EktronSyncClient.pfx"} == set(web.xpath("ektron.serviceModel/endPoints/add/@clientCertificate"))
    assert [""] == web.xpath("appSettings/add[@key='encodedValue']/@value")
    assert ["0"] == service.xpath("appSettings/add[@key='LoadBalanced']/@value")
    assert [1, 0] == [len(service.xpath(f"ektron.serviceModel/publickCertKeys{below}")) for below in ("", "/add")]


@pytest.mark.parametrize(
    ("edition", "folder", "service", "contracts"),
    [
        ("8.0", r"C:\Program Files\Ektron\EktronWindowsService30", "EktronWindowsServices30", 3),
        ("8.5", r"C:\Program Files (x86)\Ektron\EktronWindowsService40", "EktronWindowsServices40", 3),
        ("9.1", r"C:\Program Files (x86)\Ektron\EktronWindowsService40", "EktronWindowsServices40", 4),
    ],
)
def test_an_edition_has_its_names_and_folders(edition: str, folder: str, service: str, contracts: int) -> None:
    """ektron-facts 1.1 and 2.3: folders, the plural of the service, the number of end points, ImagePath."""
    fresh = installed(edition)
    key = rf"HKLM\SYSTEM\CurrentControlSet\Services\{service}"
    web = xml(read(fresh, fresh.site.child("web.config")))
    assert (folder, service) == (fresh.service_folder.text, fresh.service.name)
    assert fresh.machine.value(key, "ImagePath") == f'"{folder}\\{fresh.edition.program}"'
    assert contracts == len(web.xpath("ektron.serviceModel/endPoints/add"))


@pytest.mark.parametrize("edition", EDITIONS)
def test_the_files_are_as_difficult_as_real_ones(edition: str) -> None:
    """CRLF, misleading comments, and settings in different notations."""
    fresh = installed(edition)
    for path in (
        fresh.edition.service_config,
        fresh.site.child("web.config"),
        fresh.site.child("AssetManagement.config"),
    ):
        data = read(fresh, path)
        assert data.count(b"\n") == data.count(b"\r\n")
    assert read(fresh, fresh.site.child("web.config")).startswith(b"\xef\xbb\xbf")


def test_the_connection_string_survives_xml() -> None:
    """A password with special characters reads back as it is."""
    secret = 'server=x;pwd=a&b<c>"d'
    fresh = installed(options=Options(connection=secret))
    web = xml(read(fresh, fresh.site.child("web.config")))
    assert [secret] == web.xpath("connectionStrings/add[@name='Ektron.DbConnection']/@connectionString")
    assert DEFAULT_CONNECTION != secret


def test_an_existing_installation_is_not_changed() -> None:
    """Installing again, like a restart of the lab, overwrites nothing."""
    fresh = installed()
    fresh.machine.disk.put(fresh.edition.service_config, b"changed")
    install(fresh.machine, fresh.edition)
    assert b"changed" == read(fresh, fresh.edition.service_config)


def test_the_configurator_creates_six_files_and_one_key() -> None:
    """In its folder and in the EWSUpdates copy, nowhere else (ektron-facts 3.3)."""
    fresh = installed()
    before = read(fresh, fresh.edition.service_config)
    family = run_configurator(fresh)
    files = {name for name in fresh.machine.disk.names(fresh.edition.configurator_folder) if name.startswith("S1_")}
    copy = xml(read(fresh, fresh.edition.updates_config))
    assert {name for name, _ in family.files("S1")} == files
    assert [family.client.encoded] == copy.xpath("//publickCertKeys/add[@key='S1_SyncClient.cer']/@encodedValue")
    assert before == read(fresh, fresh.edition.service_config)


def test_a_precompiled_site_has_the_marker_in_its_root() -> None:
    """Every site also has one in another folder that means nothing (ektron-facts 2.7)."""
    sites = [installed(options=Options(precompiled=flag)) for flag in (False, True)]
    root = [site.machine.disk.stat(site.site.child("PrecompiledApp.config")) is not None for site in sites]
    trap = [site.machine.disk.stat(site.site.below(r"WorkArea\webservices\PrecompiledApp.config")) for site in sites]
    assert ([False, True], True) == (root, all(trap))


def test_a_patched_library_has_the_same_version_but_other_bytes() -> None:
    """Only size and hash show the patch (ektron-facts 1.3)."""
    plain, patched = installed(), installed(options=Options(patch="hotfix"))
    path = plain.service_folder.child("Ektron.FileSync.Common.dll")
    assert read(plain, path) != read(patched, path)


@pytest.mark.parametrize("edition", EDITIONS)
def test_a_new_service_runs_without_listening(edition: str) -> None:
    """It does not have its own family yet."""
    fresh = installed(edition)
    assert restart(fresh) is None
    assert ServiceState.RUNNING is fresh.service.state()


@pytest.mark.parametrize("edition", EDITIONS)
def test_a_configured_service_reports_what_it_loaded(edition: str) -> None:
    """Flags, server certificate and client keys, as hashes."""
    node = installed(edition)
    join(node)
    loaded = restart(node)
    assert loaded
    assert ("1", "0", []) == (loaded.load_balanced, loaded.asset_load_balanced, loaded.missing_clients)
    assert hashlib.sha256(FAMILY.server.cer).hexdigest() == loaded.server_certificate
    assert {"S1_SyncClient.cer": hashlib.sha256(FAMILY.client.cer).hexdigest()} == loaded.clients


def test_nothing_is_read_again_before_the_next_start() -> None:
    """An edit without a restart is not loaded."""
    node = installed()
    restart(node)
    join(node)
    program = node.service.program
    assert isinstance(program, EktronService)
    assert program.loaded is None
    assert restart(node) is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ENTRY, ENTRY + b'AAAA"/>' + ENTRY),
        (b'encodedValue="MII', b'encodedValue="!!!'),
        (b'"S1_SyncServer.pfx"', b'"S2_SyncServer.pfx"'),
    ],
)
def test_an_invalid_section_prevents_listening(old: bytes, new: bytes) -> None:
    """A duplicate key, an invalid certificate, another machine's certificate."""
    node = installed()
    join(node)
    config = node.edition.service_config
    data = read(node, config)
    assert old in data
    node.machine.disk.put(config, data.replace(old, new, 1))
    assert restart(node) is None
    assert ServiceState.RUNNING is node.service.state()


@pytest.mark.parametrize("name", ["S1_SyncServer.pfx", "S1_SyncServer.cer"])
def test_without_its_own_server_files_it_does_not_listen(name: str) -> None:
    """Missing, or of another family."""
    node = installed()
    join(node)
    path = node.service_folder.child(name)
    node.machine.disk.put(path, dict(make_family().files("S1"))[name])
    assert restart(node) is None
    node.machine.disk.remove(path)
    assert restart(node) is None


def test_a_configuration_that_is_not_xml_ends_the_service() -> None:
    """Its process ends during the start."""
    node = installed()
    node.machine.disk.put(node.edition.service_config, b"<configuration>")
    assert restart(node) is None
    assert (ServiceState.STOPPED, 1) == (node.service.state(), node.service.count("died"))


def test_a_key_without_its_file_is_reported() -> None:
    """The service names the keys without a .pfx."""
    node = installed()
    join(node)
    node.machine.disk.remove(node.service_folder.child("S1_SyncClient.pfx"))
    loaded = restart(node)
    assert loaded
    assert ["S1_SyncClient.cer"] == loaded.missing_clients


def test_the_site_answers_if_its_configuration_is_valid() -> None:
    """200 for the web service, 404 for other pages, 500 for all pages with an invalid file."""
    node = installed()
    assert [200, 404] == [status(node, path) for path in ("/WorkArea/ServerControlWS.asmx", "/other")]
    node.machine.disk.put(node.site.child("web.config"), b"<configuration>")
    assert 500 == status(node, "/WorkArea/ServerControlWS.asmx")


def status(node: Installation, path: str) -> int:
    """The answer of its site to a GET from the machine itself."""
    page = asyncio.run(node.machine.network.get(node.machine.name, f"http://{node.machine.name}{path}", 1))
    return page.status


def test_an_unknown_edition_is_refused() -> None:
    """The message names it."""
    with pytest.raises(ValueError, match=r"8\.0, 8\.5, 9\.1"):
        Edition.of("7.6")


def test_encoded_values_are_der_in_base64() -> None:
    """One line, without PEM headers."""
    assert FAMILY.client.cer == base64.b64decode(FAMILY.client.encoded, validate=True)
    assert WindowsPath.of(DEFAULT_SITE).parts
