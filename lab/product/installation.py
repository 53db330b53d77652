"""Installs the simulated product on a machine, where `service` and `pages` run it."""

from dataclasses import dataclass

from lab.machine.machine import Machine
from lab.machine.services import Service, ServiceState
from lab.product.handlers import HANDLERS
from lab.product.loading import ServedSite
from lab.product.pages import EktronSite
from lab.product.service import EktronService, Farm
from lab.product.site import Edition, Options, Product, install_files

__all__ = ["Installation", "install"]

_SITE_PORTS = (80, 443)  #: inside the lab


@dataclass(frozen=True, slots=True)
class Installation(Product):
    """The product on a simulated machine, with its service and its site as they run there."""

    service: Service
    program: EktronService
    pages: EktronSite


def install(
    machine: Machine, edition: Edition, options: Options | None = None, farm: Farm | None = None
) -> Installation:
    """Installs the product on a simulated machine: files, registry, site and a stopped service.

    Args:
        machine: the machine.
        edition: what is installed.
        options: how it differs from others.
        farm: the databases and services that it shares with other installations.
    """
    folder = install_files(machine, edition, options).site
    program = EktronService(machine, edition.service_config, farm or Farm())
    program.site = ServedSite(folder, (options or Options()).connection)
    service = machine.install_service(
        edition.service_name,
        edition.service_display,
        f'"{edition.service_folder.child(edition.program)}"',
        program=program,
    )
    pages = EktronSite(machine, folder, program, HANDLERS, running=lambda: service.state() is ServiceState.RUNNING)
    for port in (*_SITE_PORTS, (options or Options()).site_port):
        machine.network.serve(machine.address, port, pages)
    return Installation(machine, edition, folder, service, program, pages)
