"""All nodes of a lab in one process, and the folder with the files to reach them."""

import contextlib
import json
import os
import secrets
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from lab.config import LabConfig, NodeConfig, shipped, shipped_cluster
from lab.control.certificates import Authority
from lab.machine.folder_disk import FolderDisk
from lab.machine.paths import fold
from lab.node import Node, build_node
from lab.product.database import ADMINISTRATORS, SYNC_ADMIN, SYNC_USER, Database, Databases, Direction, User
from lab.product.service import Farm
from lab.product.site import run_configurator
from lab.winrm.sockets import LoopbackNetwork

__all__ = ["Lab", "write_private"]

#: The users of the sites, all with the password in the file `site-password`, and their roles.
_USERS = {"admin": (ADMINISTRATORS, SYNC_ADMIN), "syncuser": (SYNC_USER,), "editor": ()}


def write_private(path: Path, text: str) -> None:
    """Writes a file that only this user can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


class Lab:
    """A running lab.

    Args:
        config: its nodes.
        folder: for `ca.pem`, `password` and `site-password` (0600), `cluster.yaml` and the folder disks; kept between
            starts.
    """

    def __init__(self, config: LabConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.nodes: dict[str, Node] = {}
        self.network: LoopbackNetwork | None = None
        self.farm = Farm(Databases(prepare=self._add_users), pace=config.sync_seconds)

    @property
    def cluster_file(self) -> Path:
        """The cluster file for `esync`."""
        return self.folder / "cluster.yaml"

    async def start(self) -> None:
        """Creates the files of the folder and starts every node.

        Raises:
            ConfigRefused: an address is taken.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        authority, password = Authority(self.folder), self._password("password")
        network = self.network = LoopbackNetwork()
        if any("certificate" in (node.ways or self.config.ways).offers for node in self.config.nodes):
            write_private(self.folder / "client.pem", authority.client(self.config.user))
        for config in self.config.nodes:
            listener = authority.listener(config.address, config.name, config.ways or self.config.ways)
            node = build_node(self.config, config, self.folder, password, listener, network, self.farm)
            self.nodes[fold(config.name)] = node
        self._configure_origin()
        self._relate()
        for node in self.nodes.values():
            await node.start()
        self.cluster_file.write_text(self._cluster(), encoding="utf-8")

    async def stop(self) -> None:
        """Ends every node."""
        for node in self.nodes.values():
            await node.stop()
        if self.network:
            await self.network.end()

    def node(self, name: str) -> Node | None:
        """The node with the name, ignoring case."""
        return self.nodes.get(fold(name))

    def end_idle_shells(self) -> None:
        """Ends shells that have been idle too long; to be called periodically."""
        for node in self.nodes.values():
            node.server.shells.end_idle()

    def _password(self, name: str) -> str:
        path = self.folder / name
        if not path.exists():
            write_private(path, secrets.token_urlsafe(18) + "\n")
        return path.read_text("utf-8").strip()

    def _add_users(self, database: Database) -> None:
        password = self._password("site-password")
        database.users = {name: User(name, password, frozenset(roles)) for name, roles in _USERS.items()}

    def _relate(self) -> None:
        """Relationships of each staging pool with every other pool; the remote server is the first of that pool."""
        first: dict[str, NodeConfig] = {}
        for node in self.config.nodes:
            first.setdefault(node.pool, node)
        for local in first.values():
            for remote in first.values():
                ours, theirs = self.config.connection_of(local), self.config.connection_of(remote)
                if local.role == "staging" and ours != theirs:
                    names = {f"{word.value} {remote.pool}".lower(): word for word in Direction}
                    self.farm.databases.relate(ours, theirs, remote.name, names)

    def _configure_origin(self) -> None:
        origin = self.nodes[fold(self.config.origin)]
        folder = origin.product.edition.configurator_folder
        done = any("_SyncClient." in name for name in origin.machine.disk.names(folder))
        if self.config.configured and not done:
            run_configurator(origin.product)

    def _cluster(self) -> str:
        """The shipped text unchanged for the shipped lab, else a generated one."""
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
                "site": {"path": config.site_path, **({"database": "shared"} if config.connection else {})},
                "connection": {
                    "transport": "ntlm",
                    **({"scheme": "http"} if config.ways.scheme == "http" else {}),
                    "port": config.port_of(config.ways),
                    "user": config.user,
                    "secret": "file:password",
                    "ca_file": "ca.pem",
                },
                "policy": {"deadlines": {"settle": 1}},  # as in the shipped cluster file
                **self._syncing(),
                "nodes": [
                    {
                        "name": node.name,
                        "host": node.address,
                        "site_port": config.site_port,
                        "role": node.role,
                        "pool": node.pool,
                        **({"connection": {"scheme": node.ways.scheme}} if node.ways else {}),
                    }
                    for node in config.nodes
                ],
            },
            text,
        )
        return (
            f"# Generated by the lab for {len(config.nodes)} servers; real ones need `settle: 10`.\n{text.getvalue()}"
        )

    def _syncing(self) -> dict[str, object]:
        """What `esync sync` needs, as in the shipped cluster file; nothing without a profile."""
        profiles = [profile.name for db in self.farm.databases for _, profile in db.profiles()]
        if not profiles:
            return {}
        https = self.config.site_scheme == "https"
        return {
            "site_login": {"user": "admin", "secret": "file:site-password", **({} if https else {"over_http": True})},
            "sync": {
                "start": "http",
                "profile": profiles[0],
                **({"ca_file": "ca.pem"} if https else {}),
                "canary": {"folder": "assets"},
                "every": 0.5,
                "arrives": 10,
            },
        }

    def _is_shipped(self) -> bool:
        ours, theirs = self.config, shipped()
        same = ("edition", "origin", "site_path", "user", "port", "ways", "site_scheme", "site_port", "site_host")
        return all(getattr(ours, name) == getattr(theirs, name) for name in same) and [
            (n.name, n.address, n.role, n.pool) for n in ours.nodes
        ] == [(n.name, n.address, n.role, n.pool) for n in theirs.nodes]

    def describe(self, control: str, token: str) -> str:
        """The text of `lab.json`: how to control the lab. Private, because it contains the token."""
        value = {
            "control": control,
            "token": token,
            "pid": os.getpid(),
            "cluster": str(self.cluster_file),
            "nodes": {
                node.machine.name: {
                    "address": node.machine.address,
                    "port": node.port,
                    "site_port": node.site_port,
                    "site_scheme": node.site_scheme,
                    "disk": _drive_of(node),
                }
                for node in self.nodes.values()
            },
        }
        return json.dumps(value, indent=2) + "\n"

    def forget(self) -> None:
        """Removes `lab.json`, because the lab has ended."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "lab.json").unlink()


def _drive_of(node: Node) -> str | None:
    """The folder that is its drive C:, or None if the disk is in memory."""
    disk = node.machine.disk
    return str(disk.folder()) if isinstance(disk, FolderDisk) else None
