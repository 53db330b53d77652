"""Where the site of a node answers: the node itself, with the name of the site (ektron-facts 4, 10)."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from tasks.cluster import Cluster, Node
from tasks.connection import SYSTEM
from tasks.ektron.wspath import host_of
from workers.errors import NodeRefused
from workers.sites.port import Address

__all__ = ["SitePlace", "place_of"]

_PORTS = {"http": 80, "https": 443}
_PRODUCT = "WorkArea"  #: ek_appPath as the product installs it (ektron-facts 2.3)


@dataclass(frozen=True, slots=True)
class SitePlace:
    """The address of a site, and the virtual path of the site there; it ends with a slash."""

    address: Address
    root: str

    def page(self, path: str) -> str:
        """The path of a page of the site."""
        return f"{self.root}{path}"

    def handler(self, name: str) -> str:
        """The path of a sync handler (ektron-facts 4)."""
        return self.page(f"{_PRODUCT}/sync/{name}")

    def __str__(self) -> str:
        address = self.address
        return f"{address.scheme}://{address.name} at {address.host}:{address.port}"


def place_of(cluster: Cluster, node: Node, ws_path: str | None, site_path: str | None) -> SitePlace:
    """Where the site of that node is asked.

    Args:
        cluster: its settings of a sync outweigh web.config.
        node: the node.
        ws_path: WSPath of web.config: the product itself uses its scheme and host.
        site_path: ek_sitePath of web.config, the virtual path of the site.

    Raises:
        NodeRefused: neither the cluster file nor web.config names the site.
    """
    url = str(cluster.sync.url or "") or (ws_path if host_of(ws_path) else "") or ""
    parts = urlsplit(url.strip())
    if parts.scheme not in _PORTS or not parts.hostname:
        raise NodeRefused(
            f"{node.name}: the address of the site is not known: WSPath in web.config names no host",
            remedy="set sync.url in the cluster file",
        )
    usual = _PORTS[parts.scheme]
    port = parts.port or usual
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = Address(
        node=node.name,
        host=node.host,
        port=node.site_port or port,
        scheme="https" if parts.scheme == "https" else "http",
        name=host if port == usual else f"{host}:{port}",
        ca_file="" if cluster.sync.ca_file == SYSTEM else str(cluster.sync.ca_file or ""),
    )
    folder = (site_path or "").strip().strip("/")
    return SitePlace(address, f"/{folder}/" if folder else "/")
