"""One node of the lab: a machine with the product, its WinRM server and its faults."""

import asyncio
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lab.agent.messages import as_time
from lab.config import LabConfig, NodeConfig
from lab.hosts.process import ProcessHost
from lab.hosts.recorded import RecordedHost
from lab.hosts.simulated import Console
from lab.machine.condition import Condition
from lab.machine.disk import Disk
from lab.machine.errors import Refusal, Slug
from lab.machine.faults import Faults, Later
from lab.machine.folder_disk import FolderDisk
from lab.machine.machine import Machine, Quotas, SystemFacts
from lab.machine.memory_disk import MemoryDisk
from lab.machine.paths import WindowsPath
from lab.machine.services import Service, StartType
from lab.product.installation import Installation, install
from lab.product.login import LOGIN_SECONDS
from lab.product.service import Farm
from lab.product.site import Edition, Options, Product, install_files
from lab.winrm.logon import Account
from lab.winrm.server import WinrmServer
from lab.winrm.shells import Host
from lab.winrm.sockets import LoopbackNetwork

__all__ = ["Node", "build_node"]

_UNLIMITED = 10**12


@dataclass
class Node:
    """A complete node, created by `build_node`. It answers after `start`.

    Attributes:
        product: the product on it; on a machine with real processes only its files.
        service: the simulated service; None on a machine with real processes, which may have its own.
        site_port, site_scheme: of its site.
    """

    config: NodeConfig
    machine: Machine
    network: LoopbackNetwork
    product: Product
    service: Service | None
    account: Account
    server: WinrmServer
    condition: Condition
    tls: ssl.SSLContext
    port: int
    site_port: int
    site_scheme: Literal["http", "https"] = "http"
    _timers: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Starts the node: the faults of the configuration, the services, then WinRM.

        Raises:
            ConfigRefused: its address is in use.
            Refusal: a fault names a missing file.
        """
        self.condition.begin = self.begin
        await self.apply(self.config.faults)
        if isinstance(self.product, Installation):
            self.product.program.reached = lambda code: self.condition.reached("Sync", code)
            self.network.publish(
                self.machine.address, self.site_port, self.tls if self.site_scheme == "https" else None
            )
        if self.service and self.service.start_type is StartType.AUTO:
            self.service.request_start()

    async def stop(self) -> None:
        """Ends everything on the node."""
        self._forget_timers()
        self.server.shells.end_all()
        await self.server.shells.ended()
        await self.server.close()
        await self.server.closed()
        self.network.close(self.machine.address, self.site_port)
        if self.service:
            self.service.die()
        self.account.close()

    async def apply(self, faults: Faults) -> None:
        """Sets exactly these faults.

        Raises:
            Refusal: a fault names a missing file, or is not possible on this kind of machine; nothing was changed.
        """
        if self.service is None and (impossible := faults.of_simulated_machines()):
            why = f"{self.machine.name} has real processes, which cannot have the faults {', '.join(impossible)}"
            raise Refusal(Slug.INVALID, why)
        readonly = [self._existing(text) for text in faults.readonly]
        self._forget_timers()
        was = self.condition.faults
        self.condition.set(faults)
        await self._hold(was, readonly)

    async def begin(self, later: Later) -> None:
        """Applies the faults of a moment that has been reached, for its duration.

        Raises:
            Refusal: a fault names a missing file.
        """
        was = self.condition.faults
        await self._change(was.with_those_of(later.faults), later.faults.model_fields_set)
        if later.seconds is None:
            return
        ending = asyncio.create_task(self._ended(was, later, later.seconds))
        self._timers.add(ending)
        ending.add_done_callback(self._timers.discard)

    async def _ended(self, was: Faults, later: Later, seconds: float) -> None:
        await asyncio.sleep(seconds)
        healthy = {name: getattr(was, name) for name in later.faults.model_fields_set}
        await self._change(self.condition.faults.model_copy(update=healthy), healthy.keys())

    def _forget_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()

    async def _change(self, faults: Faults, names: Iterable[str]) -> None:
        readonly = [self._existing(text) for text in faults.readonly]
        was = self.condition.faults
        self.condition.change(faults, frozenset(names))
        await self._hold(was, readonly)

    async def _hold(self, was: Faults, readonly: list[WindowsPath]) -> None:
        """Applies the current faults to machine, service and network."""
        faults = self.condition.faults
        self._apply_to_files(was, readonly, [WindowsPath.of(text) for text in faults.locked])
        self.machine.clock.skew = faults.clock_skew
        self.machine.disk.keeps_change_times = not faults.no_change_times
        self.machine.disk.free = _UNLIMITED if faults.disk_free is None else faults.disk_free
        quota = faults.shell_quota
        self.machine.quotas.shells_per_user = Quotas().shells_per_user if quota is None else quota
        envelope = faults.envelope_kilobytes
        self.machine.quotas.envelope_bytes = Quotas().envelope_bytes if envelope is None else envelope * 1024
        page = faults.code_page or SystemFacts().code_page
        self.machine.facts = replace(self.machine.facts, code_page=page)
        self._apply_to_service(faults)
        if isinstance(self.product, Installation):
            _apply_to_site(self.product, was, faults)
        self._apply_to_network(faults)
        self._apply_to_power(was, faults)
        if faults.unreachable:
            await self.server.close()
        else:
            await self.server.open(self.port, self.tls)

    def _apply_to_power(self, was: Faults, faults: Faults) -> None:
        if faults.power_cut and not was.power_cut:
            self.server.shells.end_all()
            if self.service:
                self.service.die()
        if was.power_cut and not faults.power_cut and self.service and self.service.start_type is StartType.AUTO:
            with suppress(Refusal):
                self.service.request_start()

    def _existing(self, text: str) -> WindowsPath:
        path = WindowsPath.of(text)
        self.machine.disk.check_file(path)
        return path

    def _apply_to_files(self, was: Faults, readonly: list[WindowsPath], locked: list[WindowsPath]) -> None:
        disk = self.machine.disk
        for text in was.readonly:
            path = WindowsPath.of(text)
            if disk.stat(path):
                disk.set_readonly(path, readonly=False)
        for text in was.locked:
            disk.unlock(WindowsPath.of(text))
        for path in readonly:
            disk.set_readonly(path)
        for path in locked:
            disk.lock(path)
        disk.denied = frozenset(map(WindowsPath.of, self.condition.faults.denied))

    def _apply_to_service(self, faults: Faults) -> None:
        service, wrong = self.service, faults.service
        if service is None:
            return
        service.start_seconds, service.stop_seconds = wrong.start_seconds, wrong.stop_seconds
        service.never_stops, service.never_starts = wrong.never_stops, wrong.never_starts
        service.dies_on_start, service.dies_after = wrong.dies_on_start, wrong.dies_after
        service.never_listens, service.start_error = wrong.never_listens, wrong.start_error
        service.start_type = StartType.DISABLED if wrong.disabled else StartType.AUTO

    def _apply_to_network(self, faults: Faults) -> None:
        self.network.set_away(self.machine.address, away=faults.away or faults.power_cut)
        name = self.machine.name
        kept = {pair for pair in self.network.cut if pair[0] != name}
        self.network.cut = kept | {(name, other) for other in faults.cut}

    def report(self) -> dict[str, object]:
        """Its counters and state, for JSON; contains no secret."""
        counters = self.condition.counters
        return {
            "name": self.machine.name,
            "address": self.machine.address,
            "faults": self.condition.faults.model_dump(mode="json", exclude_defaults=True),
            "begun": self.condition.begun,
            "logons_tried": counters.logons_tried,
            "logons_refused": counters.logons_refused,
            "round_trips": counters.round_trips,
            "shells_opened": counters.shells_opened,
            "shells_open": len(self.server.shells),
            "powershell_starts": counters.powershell_starts,
            "bytes_received": counters.bytes_received,
            "bytes_sent": counters.bytes_sent,
            "actions": dict(counters.actions),
            "operations": dict(counters.operations),
            "service": _service_report(self.service) if self.service else None,
        }


def _apply_to_site(product: Installation, was: Faults, faults: Faults) -> None:
    pages, wrong = product.pages, faults.site
    pages.down, pages.no_roles, pages.catch_all = wrong.down, wrong.no_roles, wrong.catch_all
    pages.logins.seconds = LOGIN_SECONDS if wrong.login_seconds is None else wrong.login_seconds
    if wrong.logged_out and not was.site.logged_out:
        pages.logins.forget()
    product.program.suffer(faults.sync)


def _service_report(service: Service) -> dict[str, object]:
    return {
        "state": service.state().value,
        "started": as_time(service.started) if service.started else None,
        "starts": service.count("start"),
        "stops": service.count("stop"),
        "deaths": service.count("died"),
        "history": [[what, as_time(when)] for what, when in service.history],
    }


def build_node(
    lab: LabConfig,
    config: NodeConfig,
    folder: Path,
    password: str,
    listener: tuple[ssl.SSLContext, bytes],
    network: LoopbackNetwork,
    farm: Farm,
) -> Node:
    """Creates a node on its disk; existing files stay.

    Args:
        lab: the common settings.
        config: this node.
        folder: the folder of the lab; a node with a folder disk has `<folder>/<name>/C`.
        password: the common password.
        listener: a TLS context with a certificate for its address, and that certificate (DER).
        network: the network of the lab.
        farm: what the installations of the lab share.
    """
    machine = Machine(config.name, _disk(lab, config, folder), address=config.address, network=network)
    product, service = _product(machine, Edition.of(config.edition or lab.edition), lab, config, farm)
    condition = Condition()
    account = Account(config.user or lab.user, config.password or password, config.name)
    tls, certificate = listener
    ways = config.ways or lab.ways
    host = _host(machine, config, condition)
    return Node(
        config=config,
        machine=machine,
        network=network,
        product=product,
        service=service,
        account=account,
        server=WinrmServer(machine, host, account, condition, ways, certificate=certificate),
        condition=condition,
        tls=tls,
        port=lab.port_of(ways),
        site_port=lab.site_port,
        site_scheme=lab.site_scheme,
    )


def _product(
    machine: Machine, edition: Edition, lab: LabConfig, config: NodeConfig, farm: Farm
) -> tuple[Product, Service | None]:
    options = _options(lab, config)
    if config.process:
        return install_files(machine, edition, options), None
    installed = install(machine, edition, options, farm)
    installed.pages.hosts = frozenset({lab.site_host.lower(), config.name.lower()}) if lab.site_host else frozenset()
    return installed, installed.service


def _host(machine: Machine, config: NodeConfig, condition: Condition) -> Host:
    if config.process:
        return ProcessHost(config.process.runner, condition)
    return RecordedHost(Console(machine, condition), condition)


def _disk(lab: LabConfig, config: NodeConfig, folder: Path) -> Disk:
    if config.process:
        return FolderDisk(folder / config.name, drive_c=config.process.drive)
    if (config.disk or lab.disk) == "memory":
        return MemoryDisk()
    return FolderDisk(folder / config.name)


def _options(lab: LabConfig, config: NodeConfig) -> Options:
    return Options(
        site_path=config.site_path or lab.site_path,
        connection=lab.connection_of(config),
        build=config.build or "",
        precompiled=config.precompiled,
        patch=config.patch,
        ws_path=config.ws_path or f"{lab.site_scheme}://{config.name}/WorkArea/ServerControlWS.asmx",
        site_port=lab.site_port,
    )
