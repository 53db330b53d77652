"""The base of all facts, and facts that several parts share: files, certificates, values that exist once per node.

Some things exist once per node of the cluster (a key, a family file). Their facts hold the most common value and the
nodes that differ, so the size of the facts does not grow with the cluster.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict
from typing_extensions import override

__all__ = ["OFF", "ON", "CertificateFacts", "Fact", "FileFacts", "Spread"]


OFF = "0"  #: LoadBalanced, as after the installation (ektron-facts 2.1)
ON = "1"  #: LoadBalanced; the product compares the text, `true` does not switch it on (ektron-facts 2.1)


class Fact(BaseModel):
    """A frozen observation."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @override
    def model_post_init(self, context: object, /) -> None:
        """Forgets which fields were given: nothing asks that, and the names take two fifths of the memory of facts."""
        object.__setattr__(self, "__pydantic_fields_set__", _NOT_KEPT)


#: Pydantic changes only copies of it.
_NOT_KEPT: set[str] = set()


def folded_path(path: str) -> str:
    """A path as Windows compares it: its case and a backslash at its end do not count."""
    return path.rstrip("\\").casefold()


class FileFacts(Fact):
    """One file on the node. `problem` tells an operator why its content could not be read, `remedy` what to do."""

    path: str
    exists: bool = False
    size: int = 0
    mtime: AwareDatetime | None = None
    hash: str = ""  #: SHA-256, hex
    readonly: bool = False
    problem: str = ""
    remedy: str = ""

    @property
    def folder(self) -> str:
        """Where the file is."""
        return self.path.rpartition("\\")[0]


class Spread(Fact):
    """Values that must exist once for each node of the cluster: the most common value, and the nodes that differ."""

    common: str = ""  #: the most common value (a hash); empty when there are no values
    differing: dict[str, str] = {}  #: node -> value, where it is not the common one
    none: bool = False  #: no node has a value; `missing` does not list them then, so that facts do not grow
    missing: tuple[str, ...] = ()  #: nodes without a value, where others have one
    unexpected: tuple[str, ...] = ()  #: names of entries that are not nodes of the cluster
    duplicated: tuple[str, ...] = ()  #: nodes with several entries that differ

    @classmethod
    def of(
        cls,
        values: Mapping[str, str],
        nodes: Iterable[str],
        *,
        duplicated: Iterable[str] = (),
    ) -> Self:
        """Compares the entries that exist with the names of the nodes. Case of names does not matter.

        Args:
            values: name -> value of the existing entries, in any spelling of the names.
            nodes: the names of all nodes.
            duplicated: names that occur with several values.
        """
        if not values:
            return cls(none=any(True for _ in nodes), duplicated=tuple(sorted(duplicated)))
        expected = {name.casefold(): name for name in nodes}
        known = {name: expected.get(name.casefold()) for name in values}
        present = {node: values[name] for name, node in known.items() if node is not None}
        common = Counter(present.values()).most_common(1)[0][0] if present else ""
        return cls(
            common=common,
            differing={n: v for n, v in present.items() if v != common},
            none=not present and bool(expected),
            missing=tuple(n for n in expected.values() if n not in present) if present else (),
            unexpected=tuple(sorted(name for name, node in known.items() if node is None)),
            duplicated=tuple(sorted(duplicated)),
        )

    def absent(self, nodes: Iterable[str]) -> tuple[str, ...]:
        """The nodes without a value.

        Args:
            nodes: the names of all nodes.
        """
        return tuple(nodes) if self.none else self.missing

    def count_absent(self, nodes: int) -> int:
        """How many nodes have no value, of that many."""
        return nodes if self.none else len(self.missing)

    def value(self, node: str) -> str | None:
        """The value for a node, or None."""
        if self.none or not self.common or node in self.missing:
            return None
        return self.differing.get(node, self.common)

    def by_node(self, nodes: Iterable[str]) -> dict[str, str]:
        """The values of those nodes that have one."""
        if not self.common:
            return {}
        absent = set(self.missing)
        return {node: self.differing.get(node, self.common) for node in nodes if node not in absent}

    def present(self, nodes: Iterable[str]) -> tuple[str, ...]:
        """The names that have a value: nodes, and entries that are not nodes."""
        return (*self.by_node(nodes), *self.unexpected)

    def others(self, expected: str, nodes: Iterable[str]) -> tuple[str, ...]:
        """The nodes that have a value, but not the expected one."""
        if self.common == expected:
            return tuple(self.differing)
        excluded = {*self.missing, *(node for node, value in self.differing.items() if value == expected)}
        return tuple(node for node in nodes if node not in excluded) if self.common else ()

    def count_others(self, expected: str, nodes: int) -> int:
        """How many nodes `others` returns, of that many; the time for it does not grow with their number."""
        if self.common == expected:
            return len(self.differing)
        equal = sum(1 for value in self.differing.values() if value == expected)
        return nodes - len(self.missing) - equal if self.common else 0


class CertificateFacts(Fact):
    """The public part of a certificate."""

    thumbprint: str  #: SHA-256 of the DER, hex
    subject: str
    not_before: AwareDatetime
    not_after: AwareDatetime
    key_bits: int
    signature: str  #: hash algorithm of the signature: `md5`, `sha1`, `sha256`
