"""Edits of the product's configuration files that change only the bytes of the value, or insert lines.

Each editor takes a file and gives the file as it should be, with what was changed. Run on its own output it changes
nothing. What cannot be edited so is refused; then nothing is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.ektron.config.readers import ASSET_ROOT
from tasks.ektron.config.sections import Collection, collection, included_files, open_config, open_section, sole_child
from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.wording import key_names, shortened
from tasks.ektron.xml.document import Element, XmlDocument
from tasks.ektron.xml.splice import New, Splicer

__all__ = ["Edit", "Setting", "edit_asset", "edit_ews", "edit_service", "edit_web"]

KEYS = "ektron.serviceModel/publickCertKeys"  #: sic, the k is real (ektron-facts 2.2)
_NO_SERVICE_MODEL = (
    "install the product's eSync part again, or take the section from the same file of another server with this build"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One change: where in the file, and the values, shortened and never secret. An absent value is empty."""

    where: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Edit:
    """A file as it should be. Without changes `data` is the input itself."""

    data: bytes = field(repr=False)
    changes: tuple[Setting, ...] = ()
    warnings: tuple[str, ...] = ()  #: for people: what may make the edit ineffective


class _Editing:
    """One edit under way."""

    def __init__(self, data: bytes, root: str = "configuration") -> None:
        self.data = data
        self.document: XmlDocument = open_config(data, root)
        self.splicer = Splicer(self.document)
        self.changes: list[Setting] = []
        self.warnings: list[str] = []

    def set(self, element: Element, attribute: str, value: str, where: str) -> None:
        before = element.value(attribute)
        if before != value:
            self.splicer.set(element, attribute, value)
            self.changes.append(Setting(where, shortened(before or ""), shortened(value)))

    def done(self) -> Edit:
        if not self.changes:
            return Edit(self.data, warnings=tuple(self.warnings))
        return Edit(self.splicer.result(), tuple(self.changes), tuple(self.warnings))


def edit_asset(data: bytes, *, load_balanced: str = "1") -> Edit:
    """AssetManagement.config: the attribute LoadBalanced of the root (procedure; ektron-facts 2.1).

    Raises:
        ConfigRefused: not that file, or the attribute is there under another spelling.
    """
    editing = _Editing(data, ASSET_ROOT)
    root = editing.document.root
    if "LoadBalanced" not in root.attributes:
        similar = [name for name in root.attributes if name.casefold() == "loadbalanced"]
        if similar:
            raise ConfigRefused(
                f"the attribute is spelled {similar[0]!r}; the product reads only LoadBalanced",
                line=editing.document.line(root),
                remedy="correct its spelling",
            )
    editing.set(root, "LoadBalanced", load_balanced, f"{ASSET_ROOT}/@LoadBalanced")
    return editing.done()


def edit_service(
    data: bytes,
    *,
    keys: Mapping[str, str],
    server_certificate: str,
    load_balanced: str = "1",
    app_settings: Mapping[str, str] | None = None,
) -> Edit:
    """The service's configuration: flag, one key per node, own server certificate where one is named.

    Args:
        data: the file.
        keys: `<NODE>_SyncClient.cer` -> encodedValue, for every node (ektron-facts 3.4).
        server_certificate: `<NODE>_SyncServer.pfx` of this node; set only where the attribute is present (2.2).
        load_balanced: value of appSettings LoadBalanced.
        app_settings: further settings, such as LibraryLoadBalanced.

    Raises:
        ConfigRefused: a section is missing, included, encrypted or contradicts itself.
    """
    editing = _Editing(data)
    _edit_settings(editing, {"LoadBalanced": load_balanced, **(app_settings or {})})
    section = _service_model(editing)
    _edit_keys(editing, section, keys)
    for services in section.named("services"):
        for item in services.children:
            before = item.value("serverCertificate")
            if before is not None and before.casefold() != server_certificate.casefold():
                where = f"ektron.serviceModel/services/{item.value('name') or item.name}/@serverCertificate"
                editing.set(item, "serverCertificate", server_certificate, where)
    return editing.done()


def edit_ews(data: bytes, *, keys: Mapping[str, str]) -> Edit:
    """The EWSUpdates copy on the origin: the keys only (procedure steps 12-25).

    Raises:
        ConfigRefused: as `edit_service`.
    """
    editing = _Editing(data)
    _edit_keys(editing, _service_model(editing), keys)
    return editing.done()


def edit_web(data: bytes, *, client_certificate: str, encoded_value: str) -> Edit:
    """The site's web.config: own client certificate at every endpoint, and its encoded value (ektron-facts 2.3).

    Raises:
        ConfigRefused: a section is missing, included, encrypted or contradicts itself.
    """
    editing = _Editing(data)
    _edit_settings(editing, {"encodedValue": encoded_value})
    holder = sole_child(editing.document, _service_model(editing), "endPoints")
    endpoints = collection(holder.children if holder else (), "contract")
    if holder is None or not endpoints.entries:
        raise ConfigRefused(
            "ektron.serviceModel has no endPoints",
            line=editing.document.line(holder) if holder else None,
            remedy=_NO_SERVICE_MODEL,
        )
    for entries in endpoints.entries.values():
        for item in entries:
            if (item.value("clientCertificate") or "").casefold() != client_certificate.casefold():
                where = f"ektron.serviceModel/endPoints/{item.value('contract')}/@clientCertificate"
                editing.set(item, "clientCertificate", client_certificate, where)
    return editing.done()


def _service_model(editing: _Editing) -> Element:
    return open_section(editing.document, "ektron.serviceModel", _NO_SERVICE_MODEL)


def _edit_settings(editing: _Editing, wanted: Mapping[str, str]) -> None:
    remedy = "check that this is the product's own file, as its installer left it"
    section = open_section(editing.document, "appSettings", remedy)
    settings = collection(section.children)
    absent = {key: value for key, value in wanted.items() if not settings.of(key)}
    for file in included_files(section):
        _warn_of_override(editing, section, file, absent)
    for key, value in wanted.items():
        _refuse_contradiction(editing.document, settings, key, "value")
        for entry in settings.of(key):
            editing.set(entry, "value", value, f"appSettings/{key}")
    editing.splicer.append(section, [New("add", {"key": key, "value": value}) for key, value in absent.items()])
    editing.changes += [Setting(f"appSettings/{key}", "", shortened(value)) for key, value in absent.items()]


def _warn_of_override(editing: _Editing, section: Element, file: str, absent: Mapping[str, str]) -> None:
    """A file named by `file=` overrides: a key that is not here may well be there (ektron-facts 2.3)."""
    if absent:
        raise ConfigRefused(
            f"appSettings has no {', '.join(absent)}; it may be in {file!r}, which is not ours to edit",
            line=editing.document.line(section),
            remedy=f"add {', '.join(absent)} to appSettings here, with an empty value, and remove it from {file}",
        )
    editing.warnings.append(f"appSettings names {file!r}, whose values override those edited here")


def _edit_keys(editing: _Editing, section: Element, wanted: Mapping[str, str]) -> None:
    """Sets the wanted keys; entries of other names are left alone."""
    holder = sole_child(editing.document, section, "publickCertKeys")
    present = collection(holder.children if holder else ())
    for key in present.entries:
        _refuse_contradiction(editing.document, present, key, "encodedValue")
    wrong = [key for key, value in wanted.items() if any(e.value("encodedValue") != value for e in present.of(key))]
    absent = [key for key in wanted if not present.of(key)]
    for key in wrong:
        for entry in present.of(key):
            if entry.value("encodedValue") != wanted[key]:
                editing.splicer.set(entry, "encodedValue", wanted[key])
    new = [New("add", {"key": key, "encodedValue": wanted[key]}) for key in absent]
    if holder is None:
        editing.splicer.append(section, [New("publickCertKeys", children=new)])
    else:
        editing.splicer.append(holder, new)
    editing.changes += _key_settings(wrong, absent, holder is None)


def _key_settings(wrong: list[str], absent: list[str], no_element: bool) -> list[Setting]:  # noqa: FBT001 - one caller
    """At most two, however many nodes there are."""
    settings = []
    if wrong:
        settings.append(Setting(KEYS, f"{key_names(wrong)}: another certificate", "the family's certificate"))
    if absent or no_element:
        before = "no publickCertKeys" if no_element else f"{key_names(absent)}: missing"
        settings.append(Setting(KEYS, before, f"{key_names(absent)} added"))
    return settings


def _refuse_contradiction(document: XmlDocument, entries: Collection, key: str, attribute: str) -> None:
    same = entries.of(key)
    if len({entry.value(attribute) for entry in same}) > 1:
        lines = ", ".join(str(document.line(entry)) for entry in same)
        raise ConfigRefused(
            f"the key {same[0].value('key')!r} is there {len(same)} times with different values (lines {lines})",
            line=document.line(same[-1]),
            remedy="remove the one that is wrong; the program cannot know which",
        )
