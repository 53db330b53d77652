"""Writes a cluster as an Ansible inventory, which `esync init --inventory` reads again. Secrets become lookups."""

import io
import re
from collections.abc import Collection, Mapping
from itertools import count

from ruamel.yaml import YAML

from pipelines.cluster_file.ansible import (
    CERTIFICATE,
    CERTIFICATE_KEY,
    CLUSTER,
    CONNECTION,
    LOOKUPS,
    POOL,
    ROLE,
    TRUSTED,
    VALIDATION,
)
from tasks.cluster import Cluster, Node
from workers.records import Endpoint, Transport

__all__ = ["ansible_inventory"]

_WIDTH = 4096  #: columns: no line is folded
_ABOUT = ("name", "edition", "origin", "site", "partners")  #: what only esync needs
#: key of a `connection` -> Ansible's variable
_NAMES = {
    "transport": "ansible_winrm_transport",
    "scheme": "ansible_winrm_scheme",
    "port": "ansible_port",
    "user": "ansible_user",
    "ca_file": TRUSTED,
    "realm": "ansible_winrm_realm",
}


def ansible_inventory(cluster: Cluster, pins_file: str = "", pinned: Collection[str] = ()) -> str:
    """The inventory: a group for each pool, the connection as variables, and what else esync needs in `esync_cluster`.

    The policy of the runs is left out. What Ansible has no variable for, such as a fingerprint, is in
    `esync_connection`. Ansible verifies certificates as esync does.

    Args:
        cluster: the cluster.
        pins_file: path of a PEM file with certificates.
        pinned: nodes with a fingerprint whose certificate is in that file: Ansible trusts it.
    """
    about = cluster.model_dump(mode="json", exclude_defaults=True, include=set(_ABOUT))
    connections = {
        name: _variables(cluster.endpoint(name), pins_file if name in pinned else "") for name in cluster.node_names
    }
    plain = next((node.name for node in cluster.nodes if not _own(node)), "")
    shared = connections[plain] if plain else {}
    everything = {"ansible_connection": "winrm", **shared, CLUSTER: about}
    text = io.StringIO()
    writer = YAML()
    writer.width = _WIDTH
    writer.dump({"all": {"vars": everything, "children": _groups(cluster, connections, shared)}}, text)
    return text.getvalue()


def _groups(
    cluster: Cluster, connections: Mapping[str, Mapping[str, object]], shared: Mapping[str, object]
) -> dict[str, object]:
    found: dict[str, object] = {}
    for pool, name in _group_names(cluster).items():
        nodes = [node for node in cluster.nodes if node.pool == pool]
        about = {POOL: pool, ROLE: str(nodes[0].role)}
        found[name] = {
            "vars": about,
            "hosts": {node.name: _host(node, connections[node.name], shared) for node in nodes},
        }
    return found


def _host(node: Node, whole: Mapping[str, object], shared: Mapping[str, object]) -> dict[str, object]:
    """Only the address, or the whole connection where it differs: what is empty there replaces what is shared."""
    own = {**dict.fromkeys(shared, ""), **whole} if _own(node) else {}
    return {"ansible_host": node.host, **own}


def _own(node: Node) -> dict[str, object]:
    return node.connection.model_dump(exclude_none=True)


def _group_names(cluster: Cluster) -> dict[str, str]:
    """Pool -> a name that Ansible accepts for a group, and that no node and no other group has."""
    taken = {"all", "ungrouped", *(name.casefold() for name in cluster.node_names)}
    names: dict[str, str] = {}
    for pool in dict.fromkeys(node.pool for node in cluster.nodes):
        base = re.sub(r"[^A-Za-z0-9_]", "_", pool)
        base = f"pool_{base}" if base[0].isdigit() else base
        numbered = (base if number == 1 else f"{base}_{number}" for number in count(1))
        names[pool] = next(name for name in numbered if name.casefold() not in taken)
        taken.add(names[pool].casefold())
    return names


def _variables(endpoint: Endpoint, pins_file: str) -> dict[str, object]:
    """Ansible's variables for a connection, and ours for what Ansible has none for."""
    given = endpoint.model_dump(mode="json", exclude_defaults=True, exclude={"node", "host", "connect_timeout"})
    given |= {
        "transport": str(endpoint.transport),
        "port": endpoint.port,
        "scheme": endpoint.scheme,
    }
    found = {_NAMES[key]: given.pop(key) for key in list(given) if key in _NAMES}
    kind, _, name = endpoint.secret.partition(":")
    if kind == "file" and endpoint.transport is Transport.CERTIFICATE:
        found |= {CERTIFICATE: name, CERTIFICATE_KEY: name}
    elif kind in LOOKUPS:
        found["ansible_password"] = LOOKUPS[kind].format(name.replace("\\", "\\\\").replace("'", "\\'"))
    if kind in LOOKUPS:
        del given["secret"]
    found[VALIDATION] = "validate"
    if pins_file:  # a fingerprint counts instead of the authorities
        given["ca_file"] = endpoint.ca_file or ""
        found[TRUSTED] = pins_file
    return {**found, CONNECTION: given} if given else found
