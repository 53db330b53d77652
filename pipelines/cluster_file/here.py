"""What a cluster file needs on the machine that logs on: secrets that can be read, packages that are installed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
    for key_path, value in _connection_values(document.data):
        exposed.clear()
        at = partial(mistake_at, str(path), document.find(key_path)[0])
        if message := _problem(str(key_path[-1]), value, cluster.folder, named):
            missing.add(at(key_path, message))
        for file in exposed:
            warnings.add(at(key_path, f"{file} can be read by other users of this machine; chmod 600 it"))
    return Here(_in_order(missing), _in_order(warnings))


def _in_order(mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    """By line, each once: the values of a merged mapping are at one place, but have several paths."""
    found = {(one.line, one.column, one.message): one for one in sorted(mistakes, key=lambda one: -len(one.path))}
    return tuple(found[key] for key in sorted(found))


def _connection_values(data: Plain) -> Iterator[tuple[KeyPath, str]]:
    """Every value of the connections in a cluster file, with its path."""
    if not isinstance(data, dict):
        return
    nodes = data.get("nodes")
    parts: list[tuple[KeyPath, Plain]] = [((), data)]
    parts += [(("nodes", index), node) for index, node in enumerate(nodes if isinstance(nodes, list) else ())]
    for path, part in parts:
        connection = part.get("connection") if isinstance(part, dict) else None
        for name, value in (connection if isinstance(connection, dict) else {}).items():
            yield (*path, "connection", name), str(value)


def _problem(name: str, value: str, folder: str, named: References) -> str:
    """Why a value of a connection cannot be used here, and what to do; empty when it can."""
    try:
        if name == "secret":
            named.reveal(value, folder)
        elif name == "ca_file" and value != SYSTEM:
            named.authorities(value, folder)
        elif name == "transport" and (package := missing_package(Transport(value))):
            return f"{value} needs a package that is not installed here: pip install '{package}'; or use ntlm"
    except (SecretUnavailable, InputRefused) as error:
        return f"{error.message}; {error.remedy}" if error.remedy else error.message
    return ""
