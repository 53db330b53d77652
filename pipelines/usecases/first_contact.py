"""First contact with one server: what it tells about its cluster, as the draft of a cluster file. Reads only."""

import re
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress

from pydantic import ValidationError

from pipelines.cluster_file.init import Draft, DraftNode, Value
from tasks.cluster import NODE, PARTNER, Cluster
from tasks.documents import RunDocuments
from tasks.ektron.certificates.both import EXTRA_NAMES
from tasks.ektron.certificates.family import KINDS
from tasks.ektron.config.generated import read_generated
from tasks.ektron.editions import Edition, edition_of, lay_out
from tasks.ektron.facts.generated import GeneratedSite
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.refusals import Refused
from tasks.ektron.versions import release_of
from tasks.ektron.wording import named
from tasks.fence import Fence
from tasks.observe.configuration import CONFIG_LIMIT
from tasks.observe.node import observe
from tasks.step import Work
from tasks.step_values import Purpose
from tasks.steps.registry import STEPS
from workers.errors import NodeRefused
from workers.records import Endpoint
from workers.secrets.vault import Vault, new_seal_key
from workers.settings import Secret
from workers.store.memory import MemoryStore
from workers.winrm import operations as ops
from workers.winrm.session import AgentSession, open_session

__all__ = ["draft_from"]

_NEWEST = ("9.3", "8.0")  #: one edition of each generation of the service, the newest first (ektron-facts 1.1)
_DEADLINE = 120.0  #: seconds for the logon, and for each request
_UNKNOWN_SITE = r"C:\inetpub\wwwroot"
_LISTED = 10  #: sites that a note names


def draft_from(endpoint: Endpoint, secret: Secret, connection: Mapping[str, Value], own: Mapping[str, Value]) -> Draft:
    """Logs on to a server, once, and asks what a run would ask: service, sites, keys, folders.

    Other servers are known by their keys only (ektron-facts 2.2): their addresses, roles and pools stay open.

    Args:
        endpoint: of the server.
        secret: the password.
        connection: the keys of `connection` that led there, for the file.
        own: those that are only right for this server.

    Raises:
        Unreachable, LogonRefused, NodeError, InputRefused: as `open_session`.
        NodeRefused: no service of the product is registered there.
    """
    with closing(open_session(endpoint, secret, deadline=_DEADLINE)) as session:
        edition, image_path = _service(session, endpoint.host)
        sites = _sites(session, edition, image_path)
        site = sites[0] if sites else GeneratedSite()
        edition_known = _release([site.version], edition)
        facts = _observed(session, endpoint, edition_known or edition.cms, site.physical_path or _UNKNOWN_SITE)
    edition_known = edition_known or _release((binary.version for binary in facts.binaries), edition)
    draft = _draft(facts, endpoint, sites, edition_known)
    first, *others = draft.nodes
    nodes = (first.model_copy(update={"connection": own}), *others)
    return draft.model_copy(update={"connection": connection, "nodes": nodes})


def _service(session: AgentSession, host: str) -> tuple[Edition, str]:
    """The newest generation of the service that is registered, and the path of its program."""
    editions = [edition_of(cms) for cms in _NEWEST]
    keys = [rf"HKLM\SYSTEM\CurrentControlSet\Services\{edition.service_name}" for edition in editions]
    replies = session.ask([ops.registry(key, "ImagePath") for key in keys], deadline=_DEADLINE, keep_going=True)
    for edition, reply in zip(editions, replies, strict=True):
        if reply.ok:
            return edition, str(reply["value"])
    names = " or ".join(edition.service_name for edition in editions)
    raise NodeRefused(
        f"{host}: no service {names} is registered on this server",
        remedy="name a server on which the product is installed; or write the file from answers: esync init FILE",
    )


def _sites(session: AgentSession, edition: Edition, image_path: str) -> list[GeneratedSite]:
    """The sites of sitedb.config, the active ones first; none where it cannot be read (ektron-facts 2.4)."""
    drive = session.hello().system_drive
    try:
        layout = lay_out(edition, site_path=_UNKNOWN_SITE, system_drive=drive, image_path=image_path)
        (reply,) = session.ask(
            [ops.read(layout.sitedb_config, limit=CONFIG_LIMIT)], deadline=_DEADLINE, keep_going=True
        )
        found = read_generated(ops.data_of(reply), lambda _: "") if reply.ok else ()
    except Refused:
        found = ()
    return sorted(found, key=lambda site: (site.active or "true").casefold() in {"false", "0"})


def _release(texts: Iterable[str | None], generation: Edition) -> str:
    """The first release among version texts that has this generation of the service; empty when there is none."""
    for text in texts:
        with suppress(Refused):
            if edition_of(release_of(text)).service == generation.service:
                return release_of(text)
    return ""


def _observed(session: AgentSession, endpoint: Endpoint, edition: str, site: str) -> NodeFacts:
    """The facts of the server, as a run would observe them if it were the only one of its cluster."""
    computer = session.hello().computer
    try:
        cluster = Cluster.model_validate(
            {
                "name": "first-contact",
                "edition": edition,
                "origin": computer,
                "site": {"path": site},
                "connection": {"user": endpoint.user, "secret": endpoint.secret},
                "nodes": [{"name": computer, "host": endpoint.host, "role": "staging", "pool": "first"}],
            }
        )
    except ValidationError as error:
        wrong = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise NodeRefused(
            f"{endpoint.host}: what the server reports cannot be in a cluster file ({wrong})",
            remedy="write the file from answers: esync init FILE",
        ) from None
    store = MemoryStore()
    work = Work(
        run="first-contact",
        purpose=Purpose.EXAMINE,
        node=cluster.nodes[0],
        cluster=cluster,
        session=session,
        documents=RunDocuments(store, Vault(store, new_seal_key()), "first-contact"),
        cancelled=lambda: False,
        report_phase=lambda _: None,
        fence=Fence(store, "first-contact", computer, 0),
        steps=STEPS,
    )
    try:
        return observe(work).facts
    except Refused as refusal:
        raise NodeRefused(f"{endpoint.host}: {refusal}", remedy=refusal.remedy) from None


def _draft(facts: NodeFacts, endpoint: Endpoint, sites: list[GeneratedSite], edition: str) -> Draft:
    own = facts.node
    nodes = [DraftNode(name=own, host=endpoint.host)]
    for name in (one for one in _others(facts) if re.fullmatch(NODE, one)):
        note = f"{own} has the key of {name}: a server of this cluster, or else one for `partners`"
        nodes.append(DraftNode(name=name, notes=(note,)))
    return Draft(
        source=f"from {endpoint.host}",
        name=_word(sites[0].name if sites else None),
        edition=edition,
        origin=own if _has_configured(facts) else "",
        site_path=(sites[0].physical_path or "") if sites else "",
        product_folder=facts.product_folder,
        nodes=tuple(nodes),
        notes=tuple(_notes(facts, sites)),
    )


def _others(facts: NodeFacts) -> list[str]:
    """The names of the other keys, without those that a renewal adds."""
    own = {facts.node.upper(), *EXTRA_NAMES}
    return [name for name in facts.service_config.other_keys if name.upper() not in own]


def _has_configured(facts: NodeFacts) -> bool:
    """Whether the Security Configurator has made the family on this server; any joined server holds copies of it."""
    made = facts.configurator_family
    return bool(facts.origin_family) and all(kind in made and made[kind].value(facts.node) for kind in KINDS)


def _word(name: str | None) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name or "").strip("-")[:64]


def _notes(facts: NodeFacts, sites: list[GeneratedSite]) -> Iterable[str]:
    yield f"Product on {facts.node}: {facts.service_folder}; the service is {facts.service.state}."
    if len(sites) > 1:
        listed = ", ".join(f"{site.name} in {site.physical_path}" for site in sites[:_LISTED])
        yield f"{len(sites)} sites are served there ({listed}): a cluster file describes one of them."
    yield from _unusual(facts)
    if _has_configured(facts):
        yield f"{facts.node} has the six files of the Security Configurator, so it is the origin here."
    elif facts.origin_family:
        yield f"{facts.node} holds the family in use, as any joined server, but did not make it: another is the origin."
    elif facts.origin_problem:
        yield f"{facts.node} is probably not the origin: {facts.origin_problem.partition(';')[0]}."


def _unusual(facts: NodeFacts) -> Iterable[str]:
    """Keys of names that no node of a cluster file can have."""
    others = [name for name in _others(facts) if not re.fullmatch(NODE, name)]
    partners = [name for name in others if re.fullmatch(PARTNER, name)]
    if partners:
        yield f"{facts.node} has keys of {named(partners)}: add under `partners` those that sync with the cluster."
    if nobody := [name for name in others if name not in partners]:
        yield f"{facts.node} has keys that no server can have: {named(nobody)}."
