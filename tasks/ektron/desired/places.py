"""Which certificate files belong where, and which of them a node lacks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.ektron.certificates.family import CLIENT_CER, CLIENT_KINDS, KINDS, node_of, strays
from tasks.ektron.desired.target import Difference, Target
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import Spread
from tasks.ektron.wording import counted, named

__all__ = ["OLD_FILES", "Place", "Removal", "copies", "file_differences", "places", "refused_files", "removals"]


OLD_FILES = "certificate files in a folder that is not used any more"
_LISTED = 5  #: files that are named


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

    def missing(self, kind: str) -> int:
        """How many files of a kind are missing."""
        return self.seen[kind].count_absent(len(self.nodes)) if kind in self.seen else len(self.nodes)

    def differing(self, kind: str, desired: str) -> int:
        """How many files of a kind are there with another hash than that."""
        return self.seen[kind].count_others(desired, len(self.nodes)) if kind in self.seen else 0


@dataclass(frozen=True, slots=True)
class Removal:
    """A folder, and files in it that have to go.

    Attributes:
        what: the files, for people.
        folder: its path.
        names: of the files.
        read_at_start: the service reads the files when it starts.
    """

    what: str
    folder: str
    names: Sequence[str]
    read_at_start: bool = False

    @property
    def summary(self) -> str:
        """The files, shortened: their names, or how many of which servers."""
        owners = [owner[0] if (owner := node_of(name)) else "" for name in self.names]
        if len(self.names) <= _LISTED or not all(owners):
            return named(self.names)
        return f"{len(self.names)} files of {named(list(dict.fromkeys(owners)))}"


def places(facts: NodeFacts, target: Target) -> tuple[Place, ...]:
    """Which certificate files belong where (procedure steps 5 to 10; its second part, steps 3 to 10 and 17)."""
    if target.retired:
        return ()
    own = (target.node,)
    site, staging = facts.web.file.folder, _staging_folder(facts)
    everywhere = "certificate files of all nodes"
    service = Place(everywhere, facts.service_folder, target.nodes, KINDS, facts.service_family, read_at_start=True)
    partners = _partner_place(facts, target)
    web_root = Place("client certificate files", site, own, CLIENT_KINDS, _of_one(facts.web_root_family))
    if target.is_origin:
        folder, family = facts.configurator_folder, facts.configurator_family
        return (service, *partners, web_root, Place("renamed copies", folder, target.nodes, KINDS, family))
    return (
        service,
        *partners,
        web_root,
        Place("own certificate files", staging, own, KINDS, _of_one(facts.staging_family)),
    )


def _partner_place(facts: NodeFacts, target: Target) -> tuple[Place, ...]:
    """Partners without client certificate, or with that of the nodes so far; others have a family of their own."""
    seen, nodes = facts.partner_family.get(CLIENT_CER, Spread()), facts.service_family.get(CLIENT_CER, Spread())
    ours = {nodes.common, *nodes.differing.values(), target.hashes.get(CLIENT_CER, ""), "", None}
    due = [name for name in target.partners if seen.value(name) in ours]
    if not due:
        return ()
    found = {
        kind: Spread.of({name: value for name in due if (value := spread.value(name))}, due)
        for kind, spread in facts.partner_family.items()
    }
    return (Place("certificate files of partners", facts.service_folder, due, KINDS, found, read_at_start=True),)


def copies(facts: NodeFacts, target: Target) -> Counter[str]:
    """How many certificate files of each kind have to be written."""
    counts = Counter[str]()
    for place in places(facts, target):
        for kind in place.kinds:
            counts[kind] += place.missing(kind) + place.differing(kind, target.hashes[kind])
    return counts


def file_differences(facts: NodeFacts, target: Target) -> Iterator[Difference]:
    """What has to change in the folders of certificate files: one difference a folder, however many nodes there are."""
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
    for removal in removals(facts, target):
        yield Difference(
            what=removal.what,
            file=removal.folder,
            before=removal.summary,
            after="removed",
            read_at_start=removal.read_at_start,
        )
    for old in facts.old_places if target.removes else ():
        yield Difference(what=OLD_FILES, file=old.folder, before=counted(old.files, "file"), after="removed")


def removals(facts: NodeFacts, target: Target) -> tuple[Removal, ...]:
    """Which certificate files have to go from the folders that are in use.

    `Ektron Security Certificates` may hold no other security files than those of the node (procedure, second part, step
    10). A server that left the cluster is known by its files, too; a retired node has no files of the cluster, under
    whatever name.
    """
    found = [Removal("security files of others", _staging_folder(facts), _staging_strays(facts, target))]
    families = [(facts.service_folder, facts.service_family, True)]
    if target.is_origin:
        families.append((facts.configurator_folder, facts.configurator_family, False))
    for folder, family, read_at_start in families if target.removes else ():
        names = [f"{name}_{kind}" for kind, spread in family.items() for name in _unwanted(spread, target)]
        if target.retired and read_at_start:
            known = {name.casefold() for name in names}
            names += [name for name in facts.renamed_copies if name.casefold() not in known]
        found.append(Removal("certificate files of other servers", folder, names, read_at_start))
    if target.retired:
        site = facts.web.file.folder
        own = [f"{target.node}_{kind}" for kind in facts.web_root_family]
        found.append(Removal("client certificate files", site, own))
    return tuple(removal for removal in found if removal.names)


def refused_files(facts: NodeFacts, target: Target) -> Iterator[str]:
    """Paths of certificate files that have to be replaced or removed, and that the account may not write to."""
    refused = {place.path.casefold(): {name.casefold() for name in place.refused} for place in facts.places}
    if not any(refused.values()):
        return
    due = [(place.folder, name) for place in places(facts, target) for name in _wrong(place, target)]
    due += [(removal.folder, name) for removal in removals(facts, target) for name in removal.names]
    for folder, name in due:
        if name.casefold() in refused.get(folder.casefold(), ()):
            yield f"{folder}\\{name}"


def _wrong(place: Place, target: Target) -> Iterator[str]:
    """The names of the files that exist with another content."""
    for kind in place.kinds:
        for node in place.seen[kind].others(target.hashes[kind], place.nodes) if kind in place.seen else ():
            yield f"{node}_{kind}"


def _staging_strays(facts: NodeFacts, target: Target) -> tuple[str, ...]:
    names = facts.staging_files or ()
    if target.retired:
        return tuple(name for name in names if node_of(name))
    return () if target.is_origin else strays(target.node, names)


def _unwanted(spread: Spread, target: Target) -> tuple[str, ...]:
    return target.unwanted(spread.present(target.nodes) if target.retired else spread.unexpected)


def _staging_folder(facts: NodeFacts) -> str:
    return f"{facts.system_drive}\\Ektron Security Certificates"


def _of_one(hashes: Mapping[str, str]) -> dict[str, Spread]:
    """Kind -> hash of one node's own files, as a folder of many nodes' files is described."""
    return {kind: Spread(common=value) for kind, value in hashes.items() if value}
