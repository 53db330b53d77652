"""What the configuration files have to hold: one table, for the plan and for the edit.

The plan compares facts. A step reads the files again, makes facts of their bytes with the same readers, compares those,
and edits the bytes. So a plan needs no certificate, only digests.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tasks.ektron.config.editors import (
    Edit,
    Editing,
    put_asset_flag,
    put_client_certificate,
    put_keys,
    put_server_certificate,
    put_setting,
)
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.desired.target import Difference, Target
from tasks.ektron.facts import ON, ConfigurationFacts, FileFacts, ServiceConfigFacts
from tasks.ektron.wording import named, shortened

__all__ = ["edited", "file_facts", "setting_differences"]

_FAMILY_CERTIFICATE = "the family's certificate"


class _Value(NamedTuple):
    """One value that is not as it should be, for people."""

    what: str
    before: str
    after: str


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
                yield Difference(**value._asdict(), file=file.path, read_at_start=setting.file.read_at_start)


def edited(file: ConfigFile, data: bytes, target: Target, certificate: str) -> Edit:
    """A configuration file with everything it has to hold; it is changed where `setting_differences` finds something.

    Whether an edit is possible does not depend on the certificate.

    Args:
        file: which of the files.
        data: its bytes.
        target: what the node has to be.
        certificate: encodedValue of the family's client certificate.

    Raises:
        ConfigRefused: a section is missing, included, encrypted or contradicts itself.
    """
    editing = Editing(data, file.root)
    for setting in _SETTINGS:
        if setting.file is file:
            setting.put(editing, target, certificate)
    return editing.edit()


def file_facts(facts: ConfigurationFacts, file: ConfigFile) -> FileFacts:
    """The file itself. Only the origin has an EWSUpdates copy, and not with every build."""
    parts = {
        ConfigFile.ASSET: facts.asset,
        ConfigFile.SERVICE: facts.service_config,
        ConfigFile.WEB: facts.web,
        ConfigFile.EWS: facts.ews,
    }
    part = parts[file]
    return part.file if part is not None else FileFacts(path="")


def _same_name(value: str, desired: str) -> bool:
    """Names of files, compared as Windows does."""
    return value.casefold() == desired.casefold()


def _flag(what: str, value: str | None) -> Iterator[_Value]:
    if value != ON:
        yield _Value(what, shortened(value or ""), ON)


def _keys(config: ServiceConfigFacts | None, target: Target) -> Iterator[_Value]:
    """At most two, however many nodes there are."""
    if config is None:
        return
    wrong = config.keys.others(target.thumbprint, target.nodes)
    if wrong:
        before = f"{len(wrong)} with another certificate ({named(wrong)})"
        yield _Value("publickCertKeys: values", before, _FAMILY_CERTIFICATE)
    missing = config.keys.missing if config.keys_present else target.nodes
    if missing:
        yield _Value("publickCertKeys: entries", f"{len(missing)} missing ({named(missing)})", "one key per node")


def _server_certificates(facts: ConfigurationFacts, target: Target) -> Iterator[_Value]:
    for value in facts.service_config.server_certificates:
        if not _same_name(value, target.server_certificate):
            yield _Value("services/@serverCertificate", shortened(value), target.server_certificate)


def _endpoints(facts: ConfigurationFacts, target: Target) -> Iterator[_Value]:
    names = [endpoint.client_certificate or "" for endpoint in facts.web.endpoints]
    foreign = [name for name in names if not _same_name(name, target.client_certificate)]
    if foreign:
        what = f"endPoints/@clientCertificate ({len(foreign)} of {len(names)})"
        yield _Value(what, named(sorted({shortened(name) for name in foreign})), target.client_certificate)


def _encoded_value(facts: ConfigurationFacts, target: Target) -> Iterator[_Value]:
    if facts.web.encoded_value != target.thumbprint:
        before = "another certificate" if facts.web.encoded_value else ""
        yield _Value("appSettings/encodedValue", before, _FAMILY_CERTIFICATE)


_SETTINGS = (
    _Setting(
        ConfigFile.ASSET,
        lambda facts, _: _flag("DocumentManagerData/@LoadBalanced", facts.asset.load_balanced),
        lambda editing, *_: put_asset_flag(editing, ON),
    ),
    _Setting(
        ConfigFile.SERVICE,
        lambda facts, _: _flag("appSettings/LoadBalanced", facts.service_config.load_balanced),
        lambda editing, *_: put_setting(editing, "LoadBalanced", ON),
    ),
    _Setting(
        ConfigFile.SERVICE,
        lambda facts, target: _keys(facts.service_config, target),
        lambda editing, target, certificate: put_keys(editing, target.keys(certificate)),
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
        lambda editing, target, certificate: put_keys(editing, target.keys(certificate)),
    ),
)
