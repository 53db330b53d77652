"""What the configuration files have to hold: one table, for the plan and for the edit.

The plan compares facts. A step reads the files again, makes facts of their bytes with the same readers, compares those,
and edits the bytes. So a plan needs no certificate, only digests.
"""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from tasks.ektron.config.alike import Alike
from tasks.ektron.config.editors import (
    Edit,
    Editing,
    put_asset_flag,
    put_client_certificate,
    put_keys,
    put_server_certificate,
    put_setting,
    remove_keys,
)
from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.desired.target import Difference, Target
from tasks.ektron.facts.configuration import (
    NO_CERTIFICATE,
    AssetFacts,
    ConfigurationFacts,
    IncludedFile,
    ServiceConfigFacts,
    WebFacts,
)
from tasks.ektron.facts.values import FileFacts
from tasks.ektron.kept import Kept
from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.wording import named, shortened

__all__ = ["edited", "file_facts", "included_facts", "setting_differences", "unwanted_keys"]

_MODEL = "ektron.serviceModel"
_FAMILY_CERTIFICATE = "the family's certificate"


class _Value(NamedTuple):
    """One value that is not as it should be, for people. `place`: the setting or section that may be elsewhere."""

    what: str
    before: str
    after: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class _Setting:
    """Something that a configuration file has to hold.

    Attributes:
        file: the file.
        compare: the values that are not as they should be, by what the readers found in the file.
        put: puts the right value into the file; it gets the encodedValue of the family's client certificate, too.
    """

    file: ConfigFile
    compare: Callable[[ConfigurationFacts, Target], Iterable[_Value]]
    put: Callable[[Editing, Target, str], None]


def setting_differences(
    facts: ConfigurationFacts, target: Target, files: Iterable[ConfigFile] = tuple(ConfigFile)
) -> Iterator[Difference]:
    """What has to change in the configuration files: a bounded number, however many nodes there are."""
    chosen = set(files)
    for setting in _SETTINGS:
        file = file_facts(facts, setting.file)
        if setting.file in chosen and file.exists:
            for value in setting.compare(facts, target):
                path = _holder(facts, setting.file, value.place)
                what, before, after = value[:3]
                at_start = setting.file.read_at_start
                yield Difference(what=what, file=path, before=before, after=after, read_at_start=at_start)


def edited(file: ConfigFile, content: Content, target: Target, certificate: str) -> Edit:
    """A configuration file with everything it has to hold, in the file in which it is in force.

    Something is changed where `setting_differences` finds something. The edit is found once for all nodes whose files
    differ in the node's name only (`Alike`).

    Whether an edit is possible does not depend on the certificate.

    Args:
        file: which of the files.
        content: its bytes, and those of the files that it includes.
        target: what the node has to be.
        certificate: encodedValue of the family's client certificate.

    Raises:
        ConfigRefused: a section is missing, encrypted or contradicts itself, or is where esync does not write.
    """
    alike = Alike.of(content.data)
    if not (content.is_alone and alike.stands_for(target.node)):
        return _edit(file, content, target, certificate)
    any_node = replace(target, node=Alike.STAND_IN)
    what = (tuple(target.nodes), tuple(target.partners), target.is_origin, target.prune, target.retired)
    # AssetManagement.config holds no certificate: its edit is the same before the family is known.
    held = "" if file is ConfigFile.ASSET else certificate
    key = (file, hashlib.sha256(alike.data).digest(), held, what)
    try:
        edit = _EDITS.of(key, lambda: _edit(file, Content(alike.data), any_node, certificate), len(content.data))
    except ConfigRefused:
        return _edit(file, content, target, certificate)  # refuses in the words of this file
    if not edit.changed:
        return Edit(content.data, changed=False)
    return Edit(Alike(edit.data, target.node.encode()).whole, changed=True)


#: Of some hundred nodes: the check of a node makes the edits that its later step writes.
_EDITS = Kept[Hashable, Edit](entries=1000, size=16 * 2**20)


def _edit(file: ConfigFile, content: Content, target: Target, certificate: str) -> Edit:
    editing = Editing(content, file.root)
    for setting in _SETTINGS:
        if setting.file is file:
            setting.put(editing, target, certificate)
    return editing.edit()


def file_facts(facts: ConfigurationFacts, file: ConfigFile) -> FileFacts:
    """The file itself. Only the origin has an EWSUpdates copy, and not with every build."""
    part = _part(facts, file)
    return part.file if part is not None else FileFacts(path="")


def included_facts(facts: ConfigurationFacts, file: ConfigFile) -> dict[str, IncludedFile]:
    """The files that a configuration file includes, by the name that it uses."""
    part = _part(facts, file)
    return {} if part is None or isinstance(part, AssetFacts) else {one.name: one for one in part.included}


def _part(facts: ConfigurationFacts, file: ConfigFile) -> AssetFacts | ServiceConfigFacts | WebFacts | None:
    parts: dict[ConfigFile, AssetFacts | ServiceConfigFacts | WebFacts | None] = {
        ConfigFile.ASSET: facts.asset,
        ConfigFile.SERVICE: facts.service_config,
        ConfigFile.WEB: facts.web,
        ConfigFile.EWS: facts.ews,
    }
    return parts[file]


def _holder(facts: ConfigurationFacts, file: ConfigFile, place: str) -> str:
    """Path of the file in which a setting or section is in force."""
    part = _part(facts, file)
    source = "" if part is None or isinstance(part, AssetFacts) else part.elsewhere.get(place, "")
    included = included_facts(facts, file).get(source)
    return included.path if included else file_facts(facts, file).path


def _same_name(value: str, desired: str) -> bool:
    """Names of files, compared as Windows does."""
    return value.casefold() == desired.casefold()


def _flag(what: str, value: str | None, desired: str, place: str = "") -> Iterator[_Value]:
    if value != desired:
        yield _Value(what, shortened(value or ""), desired, place)


def _keys(config: ServiceConfigFacts | None, target: Target) -> Iterator[_Value]:
    """At most two, however many nodes there are."""
    if config is None or target.retired:
        return
    wrong = config.keys.others(target.thumbprint, target.nodes)
    if wrong:
        before = f"{len(wrong)} with another certificate ({named(wrong)})"
        yield _Value("publickCertKeys: values", before, _FAMILY_CERTIFICATE, _MODEL)
    missing = config.keys.absent(target.nodes) if config.keys_present else target.nodes
    if missing:
        before = f"{len(missing)} missing ({named(missing)})"
        yield _Value("publickCertKeys: entries", before, "one key per node", _MODEL)
    due = _partners_due(config, target)
    if due:
        before = f"{len(due)} missing or outdated ({named(due)})"
        yield _Value("publickCertKeys: partners", before, _FAMILY_CERTIFICATE, _MODEL)


def _partners_due(config: ServiceConfigFacts, target: Target) -> list[str]:
    """Partners without a key, or with the one that the nodes had so far. One with a certificate of its own keeps it."""
    ours = {config.keys.common, *config.keys.differing.values(), NO_CERTIFICATE} - {"", target.thumbprint}
    known = {name.casefold(): value for name, value in config.other_keys.items()}
    return [name for name in target.partners if known.get(name.casefold(), NO_CERTIFICATE) in ours]


def _put_keys(editing: Editing, target: Target, certificate: str) -> None:
    put_keys(editing, target.keys(certificate), target.partner_keys(certificate))


def _unwanted_keys(config: ServiceConfigFacts | None, target: Target) -> Iterator[_Value]:
    """At most one, however many there are."""
    names = unwanted_keys(config, target)
    if names:
        yield _Value("publickCertKeys: entries of other servers", f"{len(names)} ({named(names)})", "removed", _MODEL)


def _without_unwanted(editing: Editing, target: Target) -> None:
    if target.removes:
        remove_keys(editing, lambda keys: _unwanted(keys, target))


def unwanted_keys(config: ServiceConfigFacts | None, target: Target) -> tuple[str, ...]:
    """The servers whose keys have to go from a service configuration."""
    if config is None or not target.removes:
        return ()
    return _unwanted(config.keys.by_node(target.nodes) | config.other_keys, target)


def _unwanted(keys: Mapping[str, str], target: Target) -> tuple[str, ...]:
    """Which keys have to go. A node that leaves loses all with a certificate of the cluster, whatever their name."""
    names = target.unwanted(keys)
    if not target.retired:
        return names
    shared = {keys[name] for name in names} - {NO_CERTIFICATE}
    return tuple(name for name, value in keys.items() if name in names or value in shared)


def _server_certificates(facts: ConfigurationFacts, target: Target) -> Iterator[_Value]:
    for value in facts.service_config.server_certificates:
        if not _same_name(value, target.server_certificate):
            yield _Value("services/@serverCertificate", shortened(value), target.server_certificate, _MODEL)


def _endpoints(facts: ConfigurationFacts, target: Target) -> Iterator[_Value]:
    names = [endpoint.client_certificate or "" for endpoint in facts.web.endpoints]
    foreign = [name for name in names if not _same_name(name, target.client_certificate)]
    if foreign:
        what = f"endPoints/@clientCertificate ({len(foreign)} of {len(names)})"
        before = named(sorted({shortened(name) for name in foreign}))
        yield _Value(what, before, target.client_certificate, _MODEL)


def _encoded_value(facts: ConfigurationFacts, target: Target) -> Iterator[_Value]:
    if facts.web.encoded_value != target.thumbprint:
        before = "another certificate" if facts.web.encoded_value else ""
        if target.retired:
            yield _Value("appSettings/encodedValue", before and "a certificate", "empty", "encodedValue")
        else:
            yield _Value("appSettings/encodedValue", before, _FAMILY_CERTIFICATE, "encodedValue")


_SETTINGS = (
    _Setting(
        ConfigFile.ASSET,
        lambda facts, target: _flag("DocumentManagerData/@LoadBalanced", facts.asset.load_balanced, target.flag),
        lambda editing, target, _: put_asset_flag(editing, target.flag),
    ),
    _Setting(
        ConfigFile.SERVICE,
        lambda facts, target: _flag(
            "appSettings/LoadBalanced", facts.service_config.load_balanced, target.flag, "LoadBalanced"
        ),
        lambda editing, target, _: put_setting(editing, "LoadBalanced", target.flag),
    ),
    _Setting(
        ConfigFile.SERVICE,
        lambda facts, target: _keys(facts.service_config, target),
        _put_keys,
    ),
    _Setting(
        ConfigFile.SERVICE,
        lambda facts, target: _unwanted_keys(facts.service_config, target),
        lambda editing, target, _: _without_unwanted(editing, target),
    ),
    _Setting(
        ConfigFile.SERVICE,
        _server_certificates,
        lambda editing, target, _: put_server_certificate(editing, target.server_certificate),
    ),
    _Setting(
        ConfigFile.WEB,
        _encoded_value,
        lambda editing, _, certificate: put_setting(editing, "encodedValue", certificate),
    ),
    _Setting(
        ConfigFile.WEB,
        _endpoints,
        lambda editing, target, _: put_client_certificate(editing, target.client_certificate),
    ),
    _Setting(
        ConfigFile.EWS,
        lambda facts, target: _keys(facts.ews, target),
        _put_keys,
    ),
    _Setting(
        ConfigFile.EWS,
        lambda facts, target: _unwanted_keys(facts.ews, target),
        lambda editing, target, _: _without_unwanted(editing, target),
    ),
)
