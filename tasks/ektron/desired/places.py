"""Which certificate files belong where, and which of them a node lacks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.ektron.certificates.family import CLIENT_KINDS, KINDS, strays
from tasks.ektron.desired.target import Difference, Target
from tasks.ektron.facts import NodeFacts, Spread
from tasks.ektron.wording import named

__all__ = ["Place", "copies", "file_differences", "places"]


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, and the certificate files that belong there.

    Attributes:
        what: the files, for people.
        folder: its path.
        nodes: the nodes whose renamed copies belong there.
        kinds: of the copies.
        seen: kind -> what is there now, per node.
        read_at_start: the service reads the files when it starts.
    """

    what: str
    folder: str
    nodes: Sequence[str]
    kinds: Sequence[str]
    seen: Mapping[str, Spread]
    read_at_start: bool = False

    @property
    def files(self) -> dict[str, str]:
        """File name -> kind."""
        return {f"{node}_{kind}": kind for node in self.nodes for kind in self.kinds}

    def missing(self, kind: str) -> int:
        """How many files of a kind are missing."""
        return len(self.seen[kind].missing) if kind in self.seen else len(self.nodes)

    def differing(self, kind: str, desired: str) -> int:
        """How many files of a kind are there with another hash than that."""
        return self.seen[kind].count_others(desired, len(self.nodes)) if kind in self.seen else 0


def places(facts: NodeFacts, target: Target) -> tuple[Place, ...]:
    """Which certificate files belong where (procedure steps 5 to 10; its second part, steps 3 to 10 and 17)."""
    own = (target.node,)
    site, staging = facts.web.file.path.rpartition("\\")[0], _staging_folder(facts)
    everywhere = "certificate files of all nodes"
    service = Place(everywhere, facts.service_folder, target.nodes, KINDS, facts.service_family, read_at_start=True)
    web_root = Place("client certificate files", site, own, CLIENT_KINDS, _of_one(facts.web_root_family, own))
    if target.is_origin:
        folder, family = facts.configurator_folder, facts.configurator_family
        return (service, web_root, Place("renamed copies", folder, target.nodes, KINDS, family))
    return (service, web_root, Place("own certificate files", staging, own, KINDS, _of_one(facts.staging_family, own)))


def copies(facts: NodeFacts, target: Target) -> Counter[str]:
    """How many certificate files of each kind have to be written."""
    counts = Counter[str]()
    for place in places(facts, target):
        for kind in place.kinds:
            counts[kind] += place.missing(kind) + place.differing(kind, target.hashes[kind])
    return counts


def file_differences(facts: NodeFacts, target: Target) -> Iterator[Difference]:
    """What has to change in the folders of certificate files: one difference a folder, however many nodes there are.

    `Ektron Security Certificates` may hold no other security files (procedure, second part, step 10).
    """
    for place in places(facts, target):
        missing = sum(place.missing(kind) for kind in place.kinds)
        differing = sum(place.differing(kind, target.hashes.get(kind, "")) for kind in place.kinds)
        if missing or differing:
            yield Difference(
                what=place.what,
                file=place.folder,
                before=f"{missing} missing, {differing} different",
                after=f"{len(place.kinds) * len(place.nodes)} files",
                read_at_start=place.read_at_start,
            )
    foreign = () if target.is_origin else strays(target.node, facts.staging_files or ())
    if foreign:
        yield Difference(
            what="security files of others", file=_staging_folder(facts), before=named(foreign), after="removed"
        )


def _staging_folder(facts: NodeFacts) -> str:
    return f"{facts.system_drive}\\Ektron Security Certificates"


def _of_one(hashes: Mapping[str, str], nodes: tuple[str, ...]) -> dict[str, Spread]:
    """Kind -> hash of one node's own files, as a folder of many nodes' files is described."""
    return {kind: Spread.of({nodes[0]: value}, nodes) for kind, value in hashes.items() if value}
