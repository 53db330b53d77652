"""The configuration of a lab: read from YAML, taken from the shipped cluster file, or generated for N nodes."""

import ipaddress
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lab.machine.errors import ConfigRefused
from lab.machine.faults import Faults
from lab.product.site import DEFAULT_SITE, DEFAULT_SITE_PORT, Edition, connection_of
from lab.winrm.ways import DEFAULT, Ways

__all__ = [
    "DEFAULT_ADDRESSES",
    "FIRST_ADDRESS",
    "LabConfig",
    "NodeConfig",
    "ProcessConfig",
    "changed",
    "generated",
    "load",
    "shipped",
    "shipped_cluster",
]

DEFAULT_ADDRESSES = "127.0.77.0/24"
FIRST_ADDRESS = 11
_HTTPS_PORT, _HTTP_PORT = 5986, 5985
_MISTAKES = 3  #: shown of one file
_SENTENCES = {
    "Value error, ": "",
    "Field required": "is missing",
    "Extra inputs are not permitted": "is not a setting here",
    "Input should be": "must be",
}

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,14}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[^\s:\\]+$", max_length=64)]
SitePath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]:\\[^/*?\"<>|\x00-\x1f]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProcessConfig(_Part):
    """A machine whose commands are real processes (`lab.hosts.process`).

    Attributes:
        runner: program and first arguments that run one command line on the machine; the line is the last argument.
        drive: the local folder that is the machine's drive C:; the product's files are installed there.
    """

    runner: Annotated[tuple[str, ...], Field(min_length=1)]
    drive: Path

    @field_validator("runner")
    @classmethod
    def _startable(cls, runner: tuple[str, ...]) -> tuple[str, ...]:
        if not shutil.which(runner[0]):
            raise ValueError(f"{runner[0]} was not found; put it on PATH, or use its full path")
        return runner

    @field_validator("drive")
    @classmethod
    def _there(cls, drive: Path) -> Path:
        if not drive.is_dir():
            raise ValueError(f"{drive} is not a folder; create the machine before the lab")
        return drive


class NodeConfig(_Part):
    """One server, simulated unless `process` is set. A field that is null has the value of the lab.

    Attributes:
        address: its own loopback address.
        password: its own password, for a node that refuses the common one.
        build: another build of the product. patch: same versions, different bytes.
        ws_path: URL of the site's web service; by default the node's own name at port 80.
        ways: the listener of this node, if it differs.
        process: makes it a machine with real processes; only faults of files and network work there.
        faults: its faults from the start.
    """

    name: Name
    address: str
    role: Literal["staging", "production"] = "staging"
    pool: Word = "staging"
    edition: str | None = None
    site_path: SitePath | None = None
    user: Word | None = None
    password: str | None = None
    disk: Literal["folder", "memory"] | None = None
    connection: str | None = None
    build: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+\.\d+$")] | None = None
    patch: str = ""
    precompiled: bool = False
    ws_path: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")] | None = None
    ways: Ways | None = None
    process: ProcessConfig | None = None
    faults: Faults = Faults()

    @field_validator("address")
    @classmethod
    def _loopback(cls, address: str) -> str:
        if not ipaddress.IPv4Address(address).is_loopback:
            raise ValueError("must be a loopback address, such as 127.0.77.11: the lab runs on this machine only")
        return address


class LabConfig(_Part):
    """A lab: its nodes and their common settings.

    Attributes:
        connection: connection string of all nodes; by default each pool has its own database.
        ways: scheme and logon methods of the listeners; with `certificate`, the lab writes `client.pem`.
        configured: whether the Security Configurator has run on the origin, so that the six files exist.
        service_seconds: time that the services of the product need to start and to stop.
        site_scheme, site_port: of the sites, for clients outside the lab; inside it they are also at ports 80 and 443.
        site_host: the only host name that the sites answer, beside the server's own; if empty, all.
        sync_seconds: time of each entry in the status of a sync.
    """

    nodes: Annotated[tuple[NodeConfig, ...], Field(min_length=1, max_length=5000)]
    origin: Name
    edition: str = "8.0"
    site_path: SitePath = DEFAULT_SITE
    user: Word = "esync"
    port: Annotated[int, Field(ge=1, le=65535)] = _HTTPS_PORT
    disk: Literal["folder", "memory"] = "folder"
    connection: str | None = None
    ways: Ways = DEFAULT
    configured: bool = True
    service_seconds: Annotated[float, Field(ge=0, le=600)] = 0.0
    site_scheme: Literal["http", "https"] = "http"
    site_port: Annotated[int, Field(ge=1, le=65535)] = DEFAULT_SITE_PORT
    site_host: str = ""
    sync_seconds: Annotated[float, Field(ge=0, le=600)] = 0.02

    @field_validator("edition")
    @classmethod
    def _known(cls, edition: str) -> str:
        Edition.of(edition)
        return edition

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for what, values in (
            ("name", [n.name.upper() for n in self.nodes]),
            ("address", [n.address for n in self.nodes]),
        ):
            if twice := sorted(value for value, count in Counter(values).items() if count > 1):
                raise ValueError(f"several nodes have the same {what}: {', '.join(twice)}")
        if self.origin.upper() not in {node.name.upper() for node in self.nodes}:
            raise ValueError(f"the origin {self.origin} is not one of the nodes")
        return self

    def connection_of(self, node: NodeConfig) -> str:
        """The connection string of a node, a secret; by default that of its pool."""
        return node.connection or self.connection or connection_of(node.pool)

    def port_of(self, ways: Ways) -> int:
        """The port of a listener: that of the lab, which is 5985 instead of 5986 over http."""
        return _HTTP_PORT if ways.scheme == "http" and self.port == _HTTPS_PORT else self.port


def load(path: Path) -> LabConfig:
    """Reads the YAML file of a lab.

    Raises:
        ConfigRefused: the file cannot be read or is invalid; the message has every error.
    """
    try:
        data = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except (OSError, UnicodeError, YAMLError) as error:
        raise ConfigRefused(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return _validated(data, str(path))


def _validated(data: object, source: str) -> LabConfig:
    try:
        return LabConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigRefused(f"{source}: {_told(error)}") from error


def _told(error: ValidationError) -> str:
    """The first mistakes, each with its place; the others are counted."""
    wrong = [_mistake(".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()]
    more = f"; and {len(wrong) - _MISTAKES} more" if len(wrong) > _MISTAKES else ""
    return "; ".join(wrong[:_MISTAKES]) + more


def _mistake(place: str, said: str) -> str:
    for theirs, ours in _SENTENCES.items():
        said = said.replace(theirs, ours)
    return f"{place}: {said}" if place else said


def changed(config: LabConfig, options: Mapping[str, str]) -> LabConfig:
    """A lab with other settings, each under the name of its option.

    Raises:
        ConfigRefused: a setting is invalid; the message names the option and what is allowed.
    """
    return _validated(config.model_dump() | dict(options), f"option {', '.join(f'--{name}' for name in options)}")


def shipped_cluster() -> str:
    """The text of the shipped cluster file, which is the example in the README."""
    return (files("lab") / "cluster.yaml").read_text("utf-8")


def shipped() -> LabConfig:
    """The lab for the shipped cluster file."""
    cluster: dict[str, Any] = YAML(typ="safe", pure=True).load(shipped_cluster())
    return _validated(
        {
            "edition": cluster["edition"],
            "origin": cluster["origin"],
            "site_path": cluster["site"]["path"],
            "user": cluster["connection"]["user"],
            "port": cluster["connection"].get("port", _HTTPS_PORT),
            "nodes": [
                {"name": n["name"], "address": n["host"], "role": n["role"], "pool": n["pool"]}
                for n in cluster["nodes"]
            ],
        },
        "the shipped cluster file",
    )


def generated(count: int, addresses: str = DEFAULT_ADDRESSES) -> LabConfig:
    """A lab of N nodes, half staging and half production, with addresses from the start of one range.

    Raises:
        ConfigRefused: the range is invalid, or not a loopback range.
    """
    try:
        network = ipaddress.IPv4Network(addresses, strict=False)
    except ValueError as error:
        raise ConfigRefused(f"--address: {error}; use a range such as {DEFAULT_ADDRESSES}") from error
    staging = max(1, count // 2)
    width = len(str(count))
    nodes = []
    for index, address in enumerate(islice(_hosts(network), count)):
        role, number = ("staging", index + 1) if index < staging else ("production", index + 1 - staging)
        name = f"{role[0].upper()}{number:0{width}}"
        nodes.append({"name": name, "address": address, "role": role, "pool": role})
    return _validated({"origin": nodes[0]["name"] if nodes else "S1", "nodes": nodes}, f"--nodes {count}")


def _hosts(network: ipaddress.IPv4Network) -> Iterator[str]:
    """Addresses from the eleventh of the range, also beyond its end, except those that end in 0 or 255."""
    number = int(network.network_address) + FIRST_ADDRESS
    while True:
        if number % 256 not in {0, 255}:
            yield str(ipaddress.IPv4Address(number))
        number += 1
