"""All nodes of a lab in one process, and the folder that says how to reach them."""

import contextlib
import json
import os
import secrets
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from lab.config import LabConfig, shipped, shipped_cluster
from lab.control.certificates import Authority
from lab.machine.folder_disk import FolderDisk
from lab.machine.paths import fold
from lab.node import Node, build_node
from lab.product.site import run_configurator
from lab.winrm.sockets import LoopbackNetwork

__all__ = ["Lab", "write_private"]


def write_private(path: Path, text: str) -> None:
    """Writes a file that only we can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


class Lab:
    """A running lab.

    Args:
        config: its nodes.
        folder: gets `ca.pem`, `password` (0600), `cluster.yaml` and the folder disks; kept between starts.
    """

    def __init__(self, config: LabConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.nodes: dict[str, Node] = {}

    @property
    def cluster_file(self) -> Path:
        """What `esync` is given."""
        return self.folder / "cluster.yaml"

    async def start(self) -> None:
        """Makes the folder's files and starts every node.

        Raises:
            ConfigRefused: an address is taken.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        authority, password = Authority(self.folder), self._password()
        network = LoopbackNetwork()
        for config in self.config.nodes:
            tls = authority.context(config.address, config.name)
            node = build_node(self.config, config, self.folder, password, tls, network)
            self.nodes[fold(config.name)] = node
        self._configure_origin()
        for node in self.nodes.values():
            await node.start()
        self.cluster_file.write_text(self._cluster(), encoding="utf-8")

    async def stop(self) -> None:
        """Ends every node."""
        for node in self.nodes.values():
            await node.stop()

    def node(self, name: str) -> Node | None:
        """The node of that name; case does not count."""
        return self.nodes.get(fold(name))

    def end_idle_shells(self) -> None:
        """To be called now and then."""
        for node in self.nodes.values():
            node.server.shells.end_idle()

    def _password(self) -> str:
        path = self.folder / "password"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(18) + "\n")
        return path.read_text("utf-8").strip()

    def _configure_origin(self) -> None:
        origin = self.nodes[fold(self.config.origin)]
        folder = origin.product.edition.configurator_folder
        done = any("_SyncClient." in name for name in origin.machine.disk.names(folder))
        if self.config.configured and not done:
            run_configurator(origin.product)

    def _cluster(self) -> str:
        """The shipped text for the shipped lab, verbatim; otherwise one made up."""
        if self._is_shipped():
            return shipped_cluster()
        config = self.config
        text = StringIO()
        yaml = YAML()
        yaml.dump(
            {
                "name": "lab",
                "edition": DoubleQuotedScalarString(config.edition),
                "origin": config.origin,
                "site": {"path": config.site_path},
                "connection": {
                    "transport": "ntlm",
                    "port": config.port,
                    "user": config.user,
                    "secret": "file:password",
                    "ca_file": "ca.pem",
                },
                "nodes": [
                    {"name": node.name, "host": node.address, "role": node.role, "pool": node.pool}
                    for node in config.nodes
                ],
            },
            text,
        )
        return f"# Made by the lab for {len(config.nodes)} servers.\n{text.getvalue()}"

    def _is_shipped(self) -> bool:
        ours, theirs = self.config, shipped()
        same = ("edition", "origin", "site_path", "user", "port")
        return all(getattr(ours, name) == getattr(theirs, name) for name in same) and [
            (n.name, n.address, n.role, n.pool) for n in ours.nodes
        ] == [(n.name, n.address, n.role, n.pool) for n in theirs.nodes]

    def describe(self, control: str, token: str) -> str:
        """The text of `lab.json`: how to steer the lab. Private, because of the token."""
        value = {
            "control": control,
            "token": token,
            "pid": os.getpid(),
            "cluster": str(self.cluster_file),
            "nodes": {
                node.machine.name: {
                    "address": node.machine.address,
                    "port": node.port,
                    "disk": _drive_of(node),
                }
                for node in self.nodes.values()
            },
        }
        return json.dumps(value, indent=2) + "\n"

    def forget(self) -> None:
        """Removes `lab.json`: nobody is there any more."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "lab.json").unlink()


def _drive_of(node: Node) -> str | None:
    """The folder that is its drive C:, or None when that is in memory."""
    disk = node.machine.disk
    return str(disk.folder()) if isinstance(disk, FolderDisk) else None
