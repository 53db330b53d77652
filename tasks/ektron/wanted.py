"""What a node still needs, from what was seen on it. Pure; after a successful run it is nothing."""

from collections.abc import Iterator, Mapping, Sequence

from tasks.ektron.certificates.family import CLIENT_KINDS, KINDS, strays
from tasks.ektron.facts import Fact, NodeFacts, ServiceConfigFacts, Spread
from tasks.ektron.wording import named

__all__ = ["RECYCLED", "Difference", "differences", "restart_reason"]


RECYCLED = "the site is recycled"  #: what touching web.config does


class Difference(Fact):
    """One thing to change on a node.

    Attributes:
        what: the setting or the files, for people.
        file: the file or folder it is in.
        before: what is there now, shortened; empty when nothing is.
        after: what will be there.
        read_at_start: the service reads it when it starts, so that a restart will be owed.
    """

    what: str
    file: str
    before: str = ""
    after: str = ""
    read_at_start: bool = True


def differences(
    facts: NodeFacts, *, nodes: Sequence[str], is_origin: bool, hashes: Mapping[str, str], thumbprint: str
) -> tuple[Difference, ...]:
    """What has to change on a node so that it is joined (design: what is written to a node).

    Args:
        facts: the node as it was seen.
        nodes: all nodes of the cluster.
        is_origin: whether this is the node whose family all carry.
        hashes: SHA-256 of the family's files, by kind.
        thumbprint: SHA-256 of the family's client certificate.
    """
    found = [*_flags(facts), *_keys(facts.service_config, nodes, thumbprint)]
    found += _names_of_certificates(facts, thumbprint)
    found += _family_files(facts, nodes, hashes)
    if is_origin:
        found += _origin_files(facts, nodes, hashes, thumbprint)
    else:
        found += _staging_files(facts, hashes)
    return (*found, *_recycling(facts, found))


def restart_reason(facts: NodeFacts, needed: Sequence[Difference]) -> str:
    """Why the service has to be started again; empty when it does not (ektron-facts 6, row 30)."""
    inputs = [difference for difference in needed if difference.read_at_start]
    if not facts.service.is_up:
        return f"the service is {facts.service.state or 'not installed'}"
    if inputs:
        more = f" and {len(inputs) - 1} more" if len(inputs) > 1 else ""
        return f"the service reads what changes when it starts: {inputs[0].what} in {_name(inputs[0].file)}{more}"
    if facts.restart_owed:
        return (
            f"owed: it started {facts.service.started}, before {facts.newest_input_path} changed {facts.newest_input}"
        )
    if facts.service.left_stopped:
        return f"{', '.join(facts.service.left_stopped)} was stopped with it and not started again"
    return ""


def _recycling(facts: NodeFacts, found: Sequence[Difference]) -> Iterator[Difference]:
    """The site reads its asset configuration only when it is recycled: web.config has to be the younger of the two.

    The section is declared restartOnExternalChanges="false" (ektron-facts 2.1).
    """
    asset, web = facts.asset.file, facts.web.file
    changes = {difference.file for difference in found}
    older = asset.mtime is not None and web.mtime is not None and web.mtime < asset.mtime
    if web.path not in changes and (older or asset.path in changes):
        yield Difference(
            what=RECYCLED, file=web.path, before="older than AssetManagement.config", after="touched",
            read_at_start=False,
        )  # fmt: skip


def _name(path: str) -> str:
    return path.rpartition("\\")[2]


def _flags(facts: NodeFacts) -> Iterator[Difference]:
    asset, config = facts.asset, facts.service_config
    if asset.load_balanced != "1":
        yield Difference(
            what="DocumentManagerData/@LoadBalanced", file=asset.file.path, before=asset.load_balanced or "", after="1"
        )
    if config.load_balanced != "1":
        yield Difference(
            what="appSettings/LoadBalanced", file=config.file.path, before=config.load_balanced or "", after="1"
        )


def _keys(config: ServiceConfigFacts, nodes: Sequence[str], thumbprint: str) -> Iterator[Difference]:
    """At most two, however many nodes there are."""
    wrong = config.keys.others(thumbprint, nodes)
    if wrong:
        yield Difference(
            what="publickCertKeys: values",
            file=config.file.path,
            before=f"{len(wrong)} with another certificate ({named(wrong)})",
            after="the family's certificate",
        )
    missing = config.keys.missing if config.keys_present else tuple(nodes)
    if missing:
        yield Difference(
            what="publickCertKeys: entries",
            file=config.file.path,
            before=f"{len(missing)} missing ({named(missing)})",
            after="one key per node",
        )


def _names_of_certificates(facts: NodeFacts, thumbprint: str) -> Iterator[Difference]:
    own_server, own_client = f"{facts.node}_SyncServer.pfx", f"{facts.node}_SyncClient.pfx"
    for value in facts.service_config.server_certificates:
        if value.casefold() != own_server.casefold():
            yield Difference(
                what="services/@serverCertificate", file=facts.service_config.file.path, before=value, after=own_server
            )
    foreign = [e for e in facts.web.endpoints if (e.client_certificate or "").casefold() != own_client.casefold()]
    if foreign:
        yield Difference(
            what=f"endPoints/@clientCertificate ({len(foreign)} of {len(facts.web.endpoints)})",
            file=facts.web.file.path,
            before=named(sorted({endpoint.client_certificate or "" for endpoint in foreign})),
            after=own_client,
            read_at_start=False,
        )
    if facts.web.encoded_value != thumbprint:
        yield Difference(
            what="appSettings/encodedValue",
            file=facts.web.file.path,
            before="another certificate" if facts.web.encoded_value else "",
            after="the family's certificate",
            read_at_start=False,
        )


def _family_files(facts: NodeFacts, nodes: Sequence[str], hashes: Mapping[str, str]) -> Iterator[Difference]:
    yield from _spread_files(
        "certificate files of all nodes", facts.service_folder, facts.service_family, nodes, hashes
    )
    site = facts.web.file.path.rpartition("\\")[0]
    yield from _own_files("client certificate files", site, facts.web_root_family, CLIENT_KINDS, hashes)


def _origin_files(
    facts: NodeFacts, nodes: Sequence[str], hashes: Mapping[str, str], thumbprint: str
) -> Iterator[Difference]:
    """The configurator's folder, and the copy of the service's configuration beside it, where there is one."""
    folder = facts.configurator_folder or "the Security Configurator's folder"
    for difference in _spread_files("renamed copies", folder, facts.configurator_family, nodes, hashes):
        yield difference.model_copy(update={"read_at_start": False})
    if facts.ews is not None and facts.ews.file.exists:
        for difference in _keys(facts.ews, nodes, thumbprint):
            yield difference.model_copy(update={"read_at_start": False})


def _staging_files(facts: NodeFacts, hashes: Mapping[str, str]) -> Iterator[Difference]:
    folder = f"{facts.system_drive}\\Ektron Security Certificates"
    yield from _own_files("own certificate files", folder, facts.staging_family, KINDS, hashes)
    foreign = strays(facts.node, facts.staging_files or ())
    if foreign:
        yield Difference(
            what="security files of others", file=folder, before=named(foreign), after="removed", read_at_start=False
        )


def _spread_files(
    what: str, folder: str, family: Mapping[str, Spread], nodes: Sequence[str], hashes: Mapping[str, str]
) -> Iterator[Difference]:
    missing = differing = 0
    for kind in KINDS:
        spread = family.get(kind) or Spread(missing=tuple(nodes))
        missing += len(spread.missing)
        differing += len(spread.others(hashes.get(kind, ""), nodes))
    if missing or differing:
        yield Difference(
            what=what,
            file=folder,
            before=f"{missing} missing, {differing} different",
            after=f"{len(KINDS) * len(nodes)} files",
        )


def _own_files(
    what: str, folder: str, found: Mapping[str, str], kinds: Sequence[str], hashes: Mapping[str, str]
) -> Iterator[Difference]:
    missing = sum(1 for kind in kinds if kind not in found)
    differing = sum(1 for kind in kinds if kind in found and found[kind] != hashes.get(kind))
    if missing or differing:
        yield Difference(
            what=what,
            file=folder,
            before=f"{missing} missing, {differing} different",
            after=f"{len(kinds)} files",
            read_at_start=False,
        )
