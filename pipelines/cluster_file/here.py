"""What a cluster file needs on the machine that logs on: secrets that can be read, packages that are installed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.cluster_file.mistakes import Mistake, mistake_at
from pipelines.cluster_file.positions import Document, Plain
from pipelines.cluster_file.positions import Path as KeyPath
from tasks.cluster import Cluster
from tasks.connection import SYSTEM
from workers.errors import InputRefused, SecretUnavailable
from workers.records import Transport
from workers.secrets.references import References
from workers.settings import Settings
from workers.winrm.methods import missing_package

__all__ = ["Here", "found_here"]


@dataclass(frozen=True, slots=True)
class Here:
    """What a worker on this machine would miss to log on, and what its administrator should be warned about."""

    missing: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]


def found_here(path: str | Path, cluster: Cluster, document: Document, settings: Settings) -> Here:
    """Compares a cluster file with this machine. Contacts no server.

    Args:
        path: the cluster file.
        cluster: its content.
        document: the same, as written.
        settings: they name the folders that secrets may be in.
    """
    folders = (*([settings.clusters] if settings.clusters else []), *settings.secrets)
    exposed: list[Path] = []
    named = References(folders=folders, closed=(settings.state,), on_exposed=exposed.append)
    missing: set[Mistake] = set()
    warnings: set[Mistake] = set()
    values = cluster.model_dump(mode="json")  # in the document the names of files are as written: `~/password`
    for key_path in _needed(document.data):
        exposed.clear()
        at = partial(mistake_at, str(path), document.find(key_path)[0])
        if message := _problem(key_path, _at(values, key_path), cluster.folder, named):
            missing.add(at(key_path, message))
        for file in exposed:
            warnings.add(at(key_path, f"{file} can be read by other users of this machine; chmod 600 it"))
    return Here(_in_order(missing), _in_order(warnings))


def _in_order(mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    """By line, each once: the values of a merged mapping are at one place, but have several paths."""
    found = {(one.line, one.column, one.message): one for one in sorted(mistakes, key=lambda one: -len(one.path))}
    return tuple(found[key] for key in sorted(found))


def _needed(data: Plain) -> Iterator[KeyPath]:
    """Where a cluster file names what is not in it: the values of the connections, secrets, authorities, programs."""
    for path in _parts(data):
        yield from ((*path, str(key)) for key in _mapping(_at(data, path)))
    for pool in _mapping(_at(data, ("balancers",))):
        balancer = ("balancers", str(pool))
        yield from ((*balancer, "env", str(name)) for name in _mapping(_at(data, (*balancer, "env"))))
        if _at(data, (*balancer, "program")):
            yield (*balancer, "program")


def _parts(data: Plain) -> Iterator[KeyPath]:
    """Where the mappings are that may have a `secret` or a `ca_file`."""
    yield from (("connection",), ("site_login",), ("sync",))
    nodes = _at(data, ("nodes",))
    yield from (("nodes", index, "connection") for index, _ in enumerate(nodes if isinstance(nodes, list) else ()))


def _mapping(part: Plain) -> dict[Any, Any]:
    return part if isinstance(part, dict) else {}


def _at(data: Plain, path: KeyPath) -> Plain:
    """The value there; None without one."""
    for key in path:
        if isinstance(data, dict):
            data = data.get(str(key))
        else:
            data = data[key] if isinstance(data, list) and isinstance(key, int) else None
    return data


def _problem(path: KeyPath, value: Plain, folder: str, named: References) -> str:
    """Why something that a cluster file names cannot be used here, and what to do; empty when it can."""
    name, text = path[-1], str(value)
    try:
        if name == "secret" or "env" in path[:-1]:
            named.reveal(text, folder)
        elif name == "ca_file" and text != SYSTEM:
            named.authorities(text, folder)
        elif name == "program" and isinstance(value, list):
            named.program(str(value[0]), folder)
        elif name == "transport" and (package := missing_package(Transport(text))):
            return f"{text} needs a package that is not installed here: pip install '{package}'; or use ntlm"
    except (SecretUnavailable, InputRefused) as error:
        return f"{error.message}; {error.remedy}" if error.remedy else error.message
    return ""
