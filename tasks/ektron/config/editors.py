"""Edits the configuration files of the product: changes only the bytes of a value, or inserts lines.

Each function puts one value into a file; a value that is there already changes nothing. The table in
`tasks.ektron.desired.settings` says which values belong in which file. A file that cannot be edited in this way is
refused, and then nothing is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.ektron.config.sections import Collection, collection, included_files, open_config, open_section, sole_child
from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.xml.document import Element, XmlDocument
from tasks.ektron.xml.splice import New, Splicer

__all__ = [
    "Edit",
    "Editing",
    "put_asset_flag",
    "put_client_certificate",
    "put_keys",
    "put_server_certificate",
    "put_setting",
]

_NO_SERVICE_MODEL = (
    "install the eSync component again, or copy the section from the same file of another server with this build"
)


@dataclass(frozen=True, slots=True)
class Edit:
    """The edited file. Unchanged, `data` is the input itself."""

    data: bytes = field(repr=False)
    changed: bool
    warnings: tuple[str, ...] = ()  #: for people: why the edit may have no effect


class Editing:
    """An edit in progress: collects changes and warnings.

    Args:
        data: the file.
        root: name of the root element.

    Raises:
        ConfigRefused: the file is not well-formed, or is another file.
    """

    def __init__(self, data: bytes, root: str = "configuration") -> None:
        self._data = data
        self.document: XmlDocument = open_config(data, root)
        self._splicer = Splicer(self.document)
        self._changed = False
        self.warnings: list[str] = []

    def set(self, element: Element, attribute: str, value: str) -> None:
        """Gives an attribute that value."""
        if element.value(attribute) != value:
            self._splicer.set(element, attribute, value)
            self._changed = True

    def append(self, parent: Element, new: list[New]) -> None:
        """Adds elements behind the last child of a parent. Once per parent."""
        self._splicer.append(parent, new)
        self._changed = self._changed or bool(new)

    def edit(self) -> Edit:
        """The file with all changes.

        Raises:
            ConfigRefused: the edited file, read again, does not have the intended meaning.
        """
        data = self._splicer.result() if self._changed else self._data
        return Edit(data, self._changed, tuple(self.warnings))

    def section(self, name: str, remedy: str = _NO_SERVICE_MODEL) -> Element:
        """A section whose content is in this file and can be edited.

        Raises:
            ConfigRefused: it is missing, in another file, or encrypted.
        """
        return open_section(self.document, name, remedy)


def put_asset_flag(editing: Editing, value: str) -> None:
    """AssetManagement.config: the attribute LoadBalanced of the root element (procedure; ektron-facts 2.1).

    Raises:
        ConfigRefused: the attribute has another spelling.
    """
    root = editing.document.root
    if "LoadBalanced" not in root.attributes:
        similar = [name for name in root.attributes if name.casefold() == "loadbalanced"]
        if similar:
            raise ConfigRefused(
                f"the attribute is spelled {similar[0]!r}, but the product reads only LoadBalanced",
                line=editing.document.line(root),
                remedy="correct the spelling",
            )
    editing.set(root, "LoadBalanced", value)


def put_setting(editing: Editing, key: str, value: str) -> None:
    """One value of appSettings; added where it is missing. Once per file.

    Raises:
        ConfigRefused: the section is missing, in another file or encrypted, or holds the key with different values.
    """
    remedy = "check that this is the original file of the product"
    section = editing.section("appSettings", remedy)
    settings = collection(section.children)
    for file in included_files(section):
        _warn_of_override(editing, section, file, key, absent=not settings.of(key))
    _refuse_contradiction(editing.document, settings, key, "value")
    for entry in settings.of(key):
        editing.set(entry, "value", value)
    if not settings.of(key):
        editing.append(section, [New("add", {"key": key, "value": value})])


def _warn_of_override(editing: Editing, section: Element, file: str, key: str, *, absent: bool) -> None:
    """The values in a file named by `file=` win, and a key that is missing here may be there (ektron-facts 2.3)."""
    if absent:
        raise ConfigRefused(
            f"appSettings has no {key}; it may be in {file!r}, which esync does not edit",
            line=editing.document.line(section),
            remedy=f"add {key} with an empty value to appSettings here, and remove it from {file}",
        )
    editing.warnings.append(f"appSettings includes {file!r}; values in that file override the values edited here")


def put_keys(editing: Editing, keys: Mapping[str, str]) -> None:
    """Entries of publickCertKeys (sic, the k is real: ektron-facts 2.2); entries with other names are not changed.

    Args:
        editing: the service's configuration, or its EWSUpdates copy (procedure steps 12-25).
        keys: `<NODE>_SyncClient.cer` -> encodedValue, for every node (ektron-facts 3.4).

    Raises:
        ConfigRefused: the section is missing, in another file or encrypted, or holds a key with different values.
    """
    section = editing.section("ektron.serviceModel")
    holder = sole_child(editing.document, section, "publickCertKeys")
    present = collection(holder.children if holder else ())
    for key in present.entries:
        _refuse_contradiction(editing.document, present, key, "encodedValue")
    for key, value in keys.items():
        for entry in present.of(key):
            editing.set(entry, "encodedValue", value)
    new = [New("add", {"key": key, "encodedValue": value}) for key, value in keys.items() if not present.of(key)]
    if holder is None:
        editing.append(section, [New("publickCertKeys", children=new)])
    else:
        editing.append(holder, new)


def put_server_certificate(editing: Editing, name: str) -> None:
    """The service's own `<NODE>_SyncServer.pfx`, only where the attribute is present (ektron-facts 2.2).

    Raises:
        ConfigRefused: the section is missing, in another file or encrypted.
    """
    for services in editing.section("ektron.serviceModel").named("services"):
        for item in services.children:
            before = item.value("serverCertificate")
            if before is not None and before.casefold() != name.casefold():
                editing.set(item, "serverCertificate", name)


def put_client_certificate(editing: Editing, name: str) -> None:
    """The site's own `<NODE>_SyncClient.pfx`, at every endpoint of web.config (ektron-facts 2.3).

    Raises:
        ConfigRefused: the section is missing, in another file or encrypted, or has no endpoints.
    """
    holder = sole_child(editing.document, editing.section("ektron.serviceModel"), "endPoints")
    endpoints = collection(holder.children if holder else (), "contract")
    if holder is None or not endpoints.entries:
        raise ConfigRefused(
            "ektron.serviceModel has no endPoints",
            line=editing.document.line(holder) if holder else None,
            remedy=_NO_SERVICE_MODEL,
        )
    for entries in endpoints.entries.values():
        for item in entries:
            if (item.value("clientCertificate") or "").casefold() != name.casefold():
                editing.set(item, "clientCertificate", name)


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
