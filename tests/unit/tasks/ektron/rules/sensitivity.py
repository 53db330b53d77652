"""The sensitivity matrix: in a joined cluster each fact of one node is changed, and all rules are asked.

A fact is changed in the ways that its type allows, or in those of `INSTEAD`. `QUIET` says why a fact has no finding.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache

from pydantic import BaseModel, ValidationError

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import Spread
from tasks.ektron.rules.findings import Finding, InvariantState
from tasks.ektron.rules.invariants import ALL_RULES
from tests.unit.tasks.ektron.joined import (
    FOUR,
    HASHES,
    NOW,
    STARTED,
    THUMBPRINT,
    address_of,
    broken,
    changed,
    connection,
    joined_cluster,
)
from tests.unit.tasks.ektron.rules.breakages import BREAKAGES
from tests.unit.tasks.ektron.rules.tracing import LEAVES, reads_of

__all__ = ["QUIET", "QUIET_VALUES", "Row", "findings_of", "joined_with_everything", "matrix", "reads"]

_NODES = ("S2", "S1", "P1")  #: the changed node: the first one that has the fact
_ON = {"inputs": "P1"}  #: compared with the record of the start, which only P1 has
_PARTNER = "X1"
_SHOWN = 24  #: characters of a value
_OTHER_HASH = "00" * 32
_PARTS = ("asset", "service_config", "web", "ews")
_SPREADS = ("service_config.keys", "ews.keys", "service_family", "configurator_family")

#: Facts whose plain changes are not wrong, or cannot occur alone -> wrong values.
INSTEAD: dict[str, tuple[object, ...]] = {
    "asset.user_domain": ("S1", "CORP"),
    "service.image_path": (r"D:\Ektron\Ektron.ASM.EktronServices30.exe", ""),
    "asset.storage_location": (r"\\nas\production", None),
    "client.key_bits": (1024,),
    "client.not_after": (NOW - timedelta(days=1),),
    "client.not_before": (NOW + timedelta(days=1),),
    "client.signature": ("md5",),
    "clock": (NOW + timedelta(days=9000),),
    "generated.oldest_status": (NOW - timedelta(days=3),),
    "generated.sitedb.sites.active": ("0", None),
    "newest_input": (NOW, None),
    "asked": ("modification times",),
    "ews.other_keys": ({"OLD1": THUMBPRINT}, {}),
    "newest_change": (NOW, None),
    "partner_family.common": ("",),
    "partner_family.missing": ((_PARTNER,),),
    "partner_family.none": (True,),
    "service_config.other_keys": (
        {_PARTNER: THUMBPRINT, "OLD1": THUMBPRINT},
        {_PARTNER: THUMBPRINT, "OLD1": _OTHER_HASH},
        {},
    ),
    "places.required": (False,),
    "places.writable": (False, None),
    "probes.own_addresses": (("10.0.0.99",), ()),
    "probes.ws_addresses": ((address_of("S1"),), ("192.0.2.1",), (), None),
    "probes.ws_status": (500, 403, 0, None),
    "renamed_copies": (("OLD1_SyncClient.cer",),),
    "web.asset_source": ("Other.config", "", None),
    "web.builds": ({"ek_buildNumber": "9.1.0.184"}, {"ek_buildNumber": "8.0.1.087", "ek_ServicePack": "SP2"}, {}),
    "web.encrypted": (("appSettings",),),
    "service_config.encrypted": (("ektron.serviceModel",),),
    "program_data": (r"E:\ProgramData",),
    "readiness.limits": ({"MaxMemoryPerShellMB": "150"}, {}),
    "readiness.rivals": (("Puppet (puppet)",),),
    "server.key_bits": (1024,),
    "server.not_after": (NOW - timedelta(days=1),),
    "server.not_before": (NOW + timedelta(days=1),),
    "server.signature": ("md5",),
    "other_services": (("EktronWindowsServices40",),),
    "service.started": (NOW - timedelta(days=1), None),
    "service.start_type": ("manual", "disabled", ""),
    "service.state": ("stopped",),
    "service_config.library_load_balanced": ("0", None),
    "service_config.load_bal_server_count": ("4", None),
    "service_folder": (r"E:\EktronWindowsService30",),
    "skew": (61.0, 301.0),
    "staging_files": (("S2_SyncClient.pfx", "S1_SyncClient.pfx"), None),
    "system.free": ({"C:": 1000}, {}),
    "system.language_mode": ("ConstrainedLanguage",),
    "system.powershell": ("2.0",),
    "web.connection_digest": (_OTHER_HASH, connection("P1"), None),
    "web.file.path": (r"D:\site\web.config",),
    "web.pass_through_disabled": ("true",),
    "web.workarea.overrides.setting": ("clientCertificate", "connectionString"),
    "web.workarea.overrides.value": (_OTHER_HASH, ""),
    "web.workarea.problem": ("access denied",),
    **{f"{spread}.common": (_OTHER_HASH,) for spread in _SPREADS},
    **{f"{spread}.differing": ({"P1": _OTHER_HASH},) for spread in _SPREADS},
    **{f"{spread}.missing": (("P1",),) for spread in _SPREADS},
    **{f"{spread}.unexpected": (("OLD1",),) for spread in _SPREADS},
    **{f"{spread}.duplicated": (("P1",),) for spread in _SPREADS},
}

_PATH = "names the file in messages; the layout decides it before the file is read"
_STALE = "the values in the file are compared; a saved plan is stale when this changes"
_REMEDY = "says what to do about a file that cannot be used; alone it decides nothing"
_ONE_RECORD = "one kind of record serves several files; it has no meaning in this one"
_PEOPLE = "evidence for people in reports; the product states no requirement"
_INCLUDED = "settings are read and edited where they are in force; a saved plan is stale when the file changes"
_OF_INCLUDED = ("exists", "hash", "mtime", "name", "path", "problem", "remedy", "size")
_FOUND = "part of the finding leftovers.old-places itself: a joined cluster has none"
_RECORD = "a record about another process says nothing: then change times decide"

#: Fact -> why no rule has a finding about it, and what uses it. A fact with a finding must not be here.
QUIET: dict[str, str] = {
    **{f"{part}.file.remedy": _REMEDY for part in ("asset", "ews", "service_config", "web")},
    "asked": "an older version asked for modification times only, and took them as proof",
    "binaries.size": "shown where the hash differs; a file of the same hash has the same size",
    "binaries.version": "compared with the site where the configuration has no version; a patch may keep it",
    "client.subject": "all subjects of the product are equal; `esync certs inspect` shows it",
    "client.thumbprint": "the right certificate where neither run nor origin has a family; the file itself is compared",
    "configurator_folder": "where cert_copy writes on the origin; follows from `site.product_folder`",
    "ews.file.exists": "some builds have no EWSUpdates copy, and then no update can restore old keys from it",
    "ews.install_version": "the copy is of an update that may not be installed",
    "ews.library_load_balanced": "only the keys of the copy matter: the procedure edits nothing else in it",
    "ews.load_bal_server_count": "only the keys of the copy matter: the procedure edits nothing else in it",
    "ews.load_balanced": "only the keys of the copy matter: the procedure edits nothing else in it",
    "ews.server_certificates": "only the keys of the copy matter: the procedure edits nothing else in it",
    "generated.data.path": _PATH,
    "generated.data.sites.active": _ONE_RECORD,
    "generated.data.sites.name": _ONE_RECORD,
    "generated.data.sites.physical_path": _ONE_RECORD,
    "generated.data.sites.site_path": _ONE_RECORD,
    "generated.sitedb.path": _PATH,
    "generated.sitedb.sites.name": "the entry is found by its folder; the name is free",
    "generated.status_files": "the count is shown; the age of the oldest file decides: a running sync has new ones",
    "generated.data.sites.version": _ONE_RECORD,
    "generated.sitedb.sites.version": "older versions lead to old folders: `old_places`",
    "newest_change_path": "names the changed file in the message",
    "newest_input": "programs can set modification times; they count only where there are no change times",
    "partner_family.differing": "the files of a partner may be of its own family",
    "partner_family.duplicated": "a folder has no two files of one name",
    "partner_family.unexpected": "only the names of partners are looked for",
    "ews.encrypted": "only the keys of the copy are read; keys.ewsupdates-agrees is refuted where they are not found",
    "places.nearest": "names the folder in the message, where a place cannot be made",
    "places.path": "names the place in the message",
    "places.refused": "a file that is right may be refused: the plan stops where one of them has to be replaced",
    "places.required": "a place that a rollout makes itself may be missing",
    "probes.ws_problem": "says why the site does not answer; alone it decides nothing",
    "probes.ws_url": "names the address that was asked",
    "product_folder": "the layout: where the product is, if not beside the service",
    "web.connection_problem": "says why the connection string is unknown; alone it decides nothing",
    "web.offloaded": "decides at which address the site is asked",
    "newest_input_path": "names the changed file in the message",
    "observed_at": "the time of the report, by the clock of the run store; `skew` is what follows from it",
    "origin_problem": "says why the family of the origin is incomplete; alone it decides nothing",
    "readiness.not_editable_remedy": _REMEDY,
    "readiness.limits_problem": "says why the limits are unknown; alone it decides nothing",
    "server.subject": "all subjects of the product are equal; `esync certs inspect` shows it",
    "server.thumbprint": "the file itself is compared by its hash",
    "service.dependents": "service_restart stops and starts them together with the service",
    "service.name": "follows from the edition; names the service in messages",
    "service.pid": "service_restart waits for another process",
    "system.clr": "shown where PowerShell is too old",
    "system.code_page": _PEOPLE,
    "system.edition": "shown where PowerShell is too old",
    "system.os": "shown where PowerShell is too old",
    "system_drive": "the layout: where the staging folder is",
    "web.workarea.overrides.of": "tells the endpoints apart; the file that each names is compared",
    "web.workarea.overrides.where": "names the place in the message",
    "web.ws_path": "the address that is asked; `probes.ws_status` has the answer",
    **{f"{part}.file.{fact}": _STALE for part in _PARTS for fact in ("hash", "mtime", "size")},
    **{f"{part}.file.path": _PATH for part in ("service_config", "ews")},
    **{f"{spread}.unexpected": "other_keys has the names with their keys" for spread in _SPREADS if "keys" in spread},
    **{f"old_places.{fact}": _FOUND for fact in ("examples", "files", "folder", "why")},
    **{f"start_record.{fact}": _RECORD for fact in ("pid", "service", "started")},
    **{f"{part}.elsewhere": _INCLUDED for part in _PARTS[1:]},
    **{f"{part}.included.{fact}": _INCLUDED for part in _PARTS[1:] for fact in _OF_INCLUDED},
    **{f"{spread}.duplicated": "a folder has no two files of one name" for spread in _SPREADS if "family" in spread},
}


#: Fact and value -> why no rule has a finding about this value, where others of the fact have one.
QUIET_VALUES: dict[tuple[str, str], str] = {
    ("probes.own_addresses", "10.0.0.99"): "WSPath leads to 127.0.0.1, which is this node",
    ("places.writable", "absent"): "the access list could not be read: then only the write itself can show it",
    ("service.image_path", "empty"): "the registry names no program: then only the cluster file knows the folder",
    ("web.asset_source", "absent"): "older files have no such section",
    ("inputs", "none"): "a file that cannot be read is compared with no record: then change times decide",
    ("ews.other_keys", "none"): "the copy is of an update that may not be installed",
    ("start_record.loaded", "none"): "a record without files says nothing: then change times decide",
    (
        "asset.storage_location",
        "absent",
    ): "only a folder that two pools share is wrong",
    ("asset.user_domain", "CORP"): "it may be a domain, or a machine that was renamed",
    ("generated.sitedb.sites.active", "absent"): "an absent attribute is not known to be wrong",
    ("generated.sitedb.sites.physical_path", "absent"): "an entry without a folder may be the one of this site",
    ("generated.sitedb.sites.site_path", "absent"): "an absent attribute is not known to be wrong",
    ("generated.sitedb.sites.site_path", "empty"): "another spelling of /",
    (
        "origin_family",
        "6 values",
    ): "the family of the run counts; configurator_family has the files of the folder",
    ("service_config.server_certificates", "none"): "services may name no certificate; real files have such entries",
    ("web.site_path", "empty"): "another spelling of /",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One cell of the matrix: a changed fact of one node, and the rules that are no longer proven."""

    fact: str
    node: str
    before: str
    after: str
    findings: tuple[Finding, ...]

    @property
    def why_quiet(self) -> str:
        """Why no rule has a finding; empty when nothing says so."""
        return QUIET.get(self.fact) or QUIET_VALUES.get((self.fact, self.after), "")


def findings_of(cluster: ClusterFacts) -> tuple[Finding, ...]:
    """The findings of all rules that are not proven."""
    findings = (rule.judge(cluster) for rule in ALL_RULES)
    return tuple(finding for finding in findings if finding.verdict is not InvariantState.PROVEN)


@cache
def matrix() -> tuple[tuple[Row, ClusterFacts], ...]:
    """Every change of every fact, with its findings and the changed cluster."""
    return tuple(row for fact in LEAVES for row in _rows(fact))


def _clusters() -> Iterable[ClusterFacts]:
    """Joined, joined without a family of the run, without a node, and all that the tests break."""
    yield from (joined_cluster(), joined_with_everything())
    no_family = replace(joined_with_everything(), family={}, family_thumbprint="")
    yield no_family
    yield replace(no_family, seen={name: facts for name, facts in no_family.seen.items() if name != "S1"})
    bare = broken("S1", lambda facts: changed(facts, client=None), no_family)
    yield bare
    yield replace(bare, family=HASHES)
    strangers = {"service_config__other_keys": {"OLD1": THUMBPRINT}}
    _, other_site, _ = BREAKAGES["another site uses another family"]
    for cluster in (no_family, bare):
        yield broken("P1", lambda facts: changed(facts, **strangers), cluster)
        yield broken("P1", other_site, cluster)
    yield broken("S1", lambda facts: changed(facts, origin_family={}), bare)
    yield from (cluster for _, cluster in matrix())
    yield from (broken(node, breakage) for node, breakage, _ in BREAKAGES.values())


@cache
def reads() -> dict[str, set[str]]:
    """Rule -> the facts that it asks for in these clusters."""
    return reads_of(ALL_RULES, _clusters())


@cache
def joined_with_everything() -> ClusterFacts:
    """A joined cluster in which no part of the facts is absent on all nodes: with a partner, and a record on P1."""
    cluster = replace(
        joined_cluster(), partners=(_PARTNER,), edition="8.0", hosts={name: address_of(name) for name in FOUR}
    )
    included = ({"path": r"C:\x\Application.config", "exists": True, "hash": "ab", "name": "Application.config"},)
    common = {f"{part}__included": included for part in ("service_config", "web")}
    common["places"] = ({"path": r"C:\x", "writable": True},)
    held = {kind: Spread(common=value) for kind, value in HASHES.items()}
    trusted = {"service_config__other_keys": {_PARTNER: THUMBPRINT}, "partner_family": held}
    record = {"service": "EktronWindowsServices30", "pid": 4, "started": STARTED, "loaded": {"a": "b"}}
    for name, facts in cluster.seen.items():
        more = {"ews__other_keys": {_PARTNER: THUMBPRINT}, "ews__included": included} if facts.ews else {}
        more |= {"web__workarea": {"overrides": _overrides(name)}}
        cluster = broken(name, lambda one, more=more: changed(one, **common, **trusted, **more), cluster)  # type: ignore[misc]  # the default binds the loop's value
    return broken("P1", lambda facts: changed(facts, inputs={"a": "b"}, start_record=record), cluster)


def _overrides(name: str) -> tuple[dict[str, object], ...]:
    """Each of the settings that a folder may override, with the right value."""
    right = {
        "encodedValue": THUMBPRINT,
        "clientCertificate": f"{name}_SyncClient.pfx",
        "connectionString": connection(name),
    }
    return tuple({"setting": setting, "value": value, "where": "line 1"} for setting, value in right.items())


def _rows(fact: str) -> Iterator[tuple[Row, ClusterFacts]]:
    whole, parts = joined_with_everything(), fact.split(".")
    with_record = [name for name in _NODES if _has_record(whole.seen[name], parts)]
    if not with_record:
        yield Row(fact, "", "?", "no node of joined_with_everything has it", ()), whole
        return
    with_value = [name for name in with_record if _value(whole.seen[name], parts) not in (None, (), {})]
    node = _ON.get(fact) or (with_value or with_record)[0]
    before = _value(whole.seen[node], parts)
    for value in INSTEAD.get(fact, tuple(_all_changes(fact, before))):
        data = whole.seen[node].model_dump()
        _put(data, parts, value)
        try:
            after = NodeFacts.model_validate(data)
        except ValidationError:
            yield Row(fact, node, _shown(before), f"{_shown(value)} is no such value; use INSTEAD", ()), whole
            continue
        cluster = broken(node, lambda _, after=after: after, whole)  # type: ignore[misc]  # the default binds the loop's value
        yield Row(fact, node, _shown(before), _shown(value), findings_of(cluster)), cluster


def _inside(value: object) -> object:
    """The first of several records: facts about one of them are changed in it."""
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel | dict):
        return value[0]
    return value


def _step(place: object, part: str) -> object:
    """One step into facts, or into their dump; a mapping from nodes or kinds to records is entered at its first one."""
    place = _inside(place)
    if isinstance(place, BaseModel):
        return getattr(place, part)
    if isinstance(place, dict):
        return place[part] if part in place else _step(next(iter(place.values())), part)
    raise LookupError(part)


def _has_record(facts: NodeFacts, parts: list[str]) -> bool:
    try:
        _value(facts, parts)
    except (LookupError, StopIteration):
        return False
    return True


def _value(facts: NodeFacts, parts: list[str]) -> object:
    place: object = facts
    for part in parts:
        place = _step(place, part)
    return place


def _put(data: dict[str, object], parts: list[str], value: object) -> None:
    place: object = data
    for part in parts[:-1]:
        place = _step(place, part)
    place = _inside(place)
    while isinstance(place, dict) and parts[-1] not in place:
        place = next(iter(place.values()))
    assert isinstance(place, dict)
    place[parts[-1]] = value


def _all_changes(fact: str, value: object) -> Iterator[object]:
    """Other values of the same type; None where the fact may be absent."""
    yield from (other for other in _changes(value) if other != value)
    if value is not None and LEAVES[fact]:
        yield None


def _changes(value: object) -> Iterator[object]:
    """Other values of the same type."""
    match value:
        case bool():
            yield not value
        case int() | float():
            yield value + 1000
        case datetime():
            yield value + timedelta(days=1)
        case str():
            yield f"{value}x"
            yield ""
        case tuple():
            yield (*value, "OTHER")
            if value:
                yield ()
        case dict():
            yield from _changed_mappings(value)
        case _:
            yield "x"


def _changed_mappings(value: Mapping[str, object]) -> Iterator[object]:
    yield {} if value else {"OTHER": "x"}
    for name, one in list(value.items())[:1]:
        yield {**value, name: next(_changes(one))}


def _shown(value: object) -> str:
    """A value in the table: short, and the same in every run."""
    if value in (None, "", (), {}):
        return {type(None): "absent", str: "empty"}.get(type(value), "none")
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, tuple | dict):
        names = [f"{name} {_shown(value[name])}" if isinstance(value, dict) else _shown(name) for name in value]
        return names[0] if len(names) == 1 else f"{len(names)} values"
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
