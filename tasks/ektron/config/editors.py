"""Edits the configuration files of the product: changes only the bytes of a value, or inserts lines.

Each editor takes a file and returns the edited file with the list of changes. Run on its own output, it changes
nothing. A file that cannot be edited in this way is refused, and then nothing is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.ektron.config.readers import ASSET_ROOT
from tasks.ektron.config.sections import Collection, collection, included_files, open_config, open_section, sole_child
from tasks.ektron.facts import ON
from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.wording import key_names, shortened
from tasks.ektron.xml.document import Element, XmlDocument
from tasks.ektron.xml.splice import New, Splicer

__all__ = ["Edit", "Setting", "edit_asset", "edit_ews", "edit_service", "edit_web"]

KEYS = "ektron.serviceModel/publickCertKeys"  #: sic, the k is real (ektron-facts 2.2)
_NO_SERVICE_MODEL = (
    "install the eSync component again, or copy the section from the same file of another server with this build"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One change: its place in the file, and both values, shortened and without secrets. An absent value is empty."""

    where: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Edit:
    """The edited file. Without changes `data` is the input itself."""

    data: bytes = field(repr=False)
    changes: tuple[Setting, ...] = ()
    warnings: tuple[str, ...] = ()  #: for people: why the edit may have no effect


class _Editing:
    """An edit in progress: collects changes and warnings."""

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


def edit_asset(data: bytes) -> Edit:
    """Edits AssetManagement.config: the attribute LoadBalanced of the root element (procedure; ektron-facts 2.1).

    Raises:
        ConfigRefused: it is another file, or the attribute has another spelling.
    """
    editing = _Editing(data, ASSET_ROOT)
    root = editing.document.root
    if "LoadBalanced" not in root.attributes:
        similar = [name for name in root.attributes if name.casefold() == "loadbalanced"]
        if similar:
            raise ConfigRefused(
                f"the attribute is spelled {similar[0]!r}, but the product reads only LoadBalanced",
                line=editing.document.line(root),
                remedy="correct the spelling",
            )
    editing.set(root, "LoadBalanced", ON, f"{ASSET_ROOT}/@LoadBalanced")
    return editing.done()


def edit_service(
    data: bytes,
    *,
    keys: Mapping[str, str],
    server_certificate: str,
    app_settings: Mapping[str, str] | None = None,
) -> Edit:
    """Edits the configuration of the service: flag, one key per node, own server certificate where one is named.

    Args:
        data: the file.
        keys: `<NODE>_SyncClient.cer` -> encodedValue, for every node (ektron-facts 3.4).
        server_certificate: `<NODE>_SyncServer.pfx` of this node; set only where the attribute exists (2.2).
        app_settings: further settings, such as LibraryLoadBalanced.

    Raises:
        ConfigRefused: a section is missing, in another file, encrypted, or contradictory.
    """
    editing = _Editing(data)
    _edit_settings(editing, {"LoadBalanced": ON, **(app_settings or {})})
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
    """Edits the EWSUpdates copy on the origin: only the keys (procedure steps 12-25).

    Raises:
        ConfigRefused: for the same reasons as in `edit_service`.
    """
    editing = _Editing(data)
    _edit_keys(editing, _service_model(editing), keys)
    return editing.done()


def edit_web(data: bytes, *, client_certificate: str, encoded_value: str) -> Edit:
    """Edits web.config of the site: own client certificate in every endpoint, and its encoded value (ektron-facts 2.3).

    Raises:
        ConfigRefused: a section is missing, in another file, encrypted, or contradictory.
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
    remedy = "check that this is the original file of the product"
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
    """The values in a file named by `file=` win, and a key that is missing here may be there (ektron-facts 2.3)."""
    if absent:
        raise ConfigRefused(
            f"appSettings has no {', '.join(absent)}; it may be in {file!r}, which esync does not edit",
            line=editing.document.line(section),
            remedy=f"add {', '.join(absent)} with an empty value to appSettings here, and remove it from {file}",
        )
    editing.warnings.append(f"appSettings includes {file!r}; values in that file override the values edited here")


def _edit_keys(editing: _Editing, section: Element, wanted: Mapping[str, str]) -> None:
    """Sets the wanted keys. Entries with other names are not changed."""
    holder = sole_child(editing.document, section, "publickCertKeys")
    present = collection(holder.children if holder else ())
    for key in present.entries:
        _refuse_contradiction(editing.document, present, key, "encodedValue")
    wrong = [key for key, value in wanted.items() if present.last(key, "encodedValue") != value and present.of(key)]
    absent = [key for key in wanted if not present.of(key)]
    for key in wrong:
        for entry in present.of(key):
            editing.splicer.set(entry, "encodedValue", wanted[key])
    new = [New("add", {"key": key, "encodedValue": wanted[key]}) for key in absent]
    if holder is None:
        editing.splicer.append(section, [New("publickCertKeys", children=new)])
    else:
        editing.splicer.append(holder, new)
    # At most two changes, for any number of nodes.
    if wrong:
        before = f"{key_names(wrong)}: another certificate"
        editing.changes.append(Setting(KEYS, before, "the family's certificate"))
    if absent or holder is None:
        before = "no publickCertKeys" if holder is None else f"{key_names(absent)}: missing"
        editing.changes.append(Setting(KEYS, before, f"{key_names(absent)} added"))


def _refuse_contradiction(document: XmlDocument, entries: Collection, key: str, attribute: str) -> None:
    """Refuses two entries for one key with different values: the correct one is unknown."""
    same = entries.of(key)
    if len({entry.value(attribute) for entry in same}) > 1:
        lines = ", ".join(str(document.line(entry)) for entry in same)
        raise ConfigRefused(
            f"the key {same[0].value('key')!r} exists {len(same)} times with different values (lines {lines})",
            line=document.line(same[-1]),
            remedy="remove the wrong entry; esync cannot know which one it is",
        )
