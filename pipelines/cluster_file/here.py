"""What a cluster file needs on the machine that logs on: secrets that can be read, packages that are installed."""

from collections.abc import Iterator
from pathlib import Path

from pipelines.cluster_file.loader import document_of
from pipelines.cluster_file.mistakes import Mistake, mistake_at
from pipelines.cluster_file.positions import Path as KeyPath
from pipelines.cluster_file.positions import Plain
from tasks.cluster import Cluster
from workers.errors import InputRefused, SecretUnavailable
from workers.records import Transport
from workers.secrets.vault import Vault
from workers.settings import Settings
from workers.store.memory import MemoryStore
from workers.winrm.methods import missing_package

__all__ = ["missing_here"]


def missing_here(path: str | Path, cluster: Cluster, settings: Settings) -> tuple[Mistake, ...]:
    """What a worker on this machine, with this environment, would miss to log on. Contacts no server.

    Args:
        path: the cluster file.
        cluster: its content, as `load_cluster` returned it.
        settings: they name the folders that secrets may be in.
    """
    folders = (*([settings.clusters] if settings.clusters else []), *settings.secrets)
    vault = Vault(MemoryStore(), None, folders=folders, closed=(settings.state,))
    document = document_of(path)
    found: dict[tuple[int, int, str], Mistake] = {}
    for key_path, value in _connection_values(document.data):
        if message := _problem(str(key_path[-1]), value, cluster.folder, vault):
            mistake = mistake_at(str(path), document.find(key_path)[0], key_path, message)
            found.setdefault((mistake.line, mistake.column, mistake.message), mistake)  # once for a merged mapping
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


def _problem(name: str, value: str, folder: str, vault: Vault) -> str:
    """Why a value of a connection cannot be used here, and what to do; empty when it can."""
    try:
        if name == "secret":
            vault.reveal(value, folder)
        elif name == "ca_file":
            vault.authorities(value, folder)
        elif name == "transport" and (package := missing_package(Transport(value))):
            return f"{value} needs a package that is not installed here: pip install '{package}'; or use ntlm"
    except (SecretUnavailable, InputRefused) as error:
        return f"{error.message}; {error.remedy}" if error.remedy else error.message
    return ""
