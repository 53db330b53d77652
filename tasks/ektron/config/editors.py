"""Edits the configuration files of the product: changes only the bytes of a value, inserts lines, or removes lines.

Each function puts one value into a file; a value that is there already changes nothing. The table in
`tasks.ektron.desired.settings` says which values belong in which file. A file that cannot be edited in this way is
refused, and then nothing is written.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from tasks.ektron.certificates.family import key_owner, thumbprint
from tasks.ektron.config.sections import Collection, Configuration, Content, Part, Section, collection
from tasks.ektron.facts.configuration import NO_CERTIFICATE
from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.xml.document import Element
from tasks.ektron.xml.splice import New, Splicer

__all__ = [
    "Edit",
    "Editing",
    "put_asset_flag",
    "put_client_certificate",
    "put_keys",
    "put_server_certificate",
    "put_setting",
    "remove_keys",
]

#: A server that only presents the site has no eSync sections (ektron-facts 2.3).
NO_NODE = (
    "if this server only presents the site and does not sync, remove it from `nodes` in the cluster file; otherwise "
    "install the eSync component again, or copy the section from the same file of another server with this build"
)
_NO_SERVICE_MODEL = (
    "install the eSync component again, or copy the section from the same file of another server with this build"
)


@dataclass(frozen=True, slots=True)
class Edit:
    """The edited file, and the files included by it that are edited. Unchanged, `data` is the input itself."""

    data: bytes = field(repr=False)
    changed: bool  #: whether the file itself is changed
    included: Mapping[str, bytes] = field(default_factory=dict, repr=False)  #: name -> bytes, of those that are changed


class Editing:
    """An edit in progress: collects changes.

    Args:
        content: the file, with those that it includes.
        root: name of the root element.

    Raises:
        ConfigRefused: the file is not well-formed, or is another file.
    """

    def __init__(self, content: Content, root: str = "configuration") -> None:
        self._content = content
        self.configuration = Configuration(content, root)
        self._splicers: dict[str, Splicer] = {}

    def set(self, part: Part, element: Element, attribute: str, value: str) -> None:
        """Gives an attribute of an element in that part a value.

        Raises:
            ConfigRefused: the value is in a file in which esync does not write.
        """
        if element.value(attribute) != value:
            self._splicer(part).set(element, attribute, value)

    def append(self, part: Part, parent: Element, new: list[New]) -> None:
        """Adds elements behind the last child of a parent in that part. Once per parent.

        Raises:
            ConfigRefused: it is in a file in which esync does not write.
        """
        if new:
            self._splicer(part).append(parent, new)

    def remove(self, part: Part, element: Element) -> None:
        """Removes an element in that part.

        Raises:
            ConfigRefused: it is in a file in which esync does not write.
        """
        self._splicer(part).remove(element)

    def edit(self) -> Edit:
        """The files with all changes.

        Raises:
            ConfigRefused: an edited file, read again, does not have the intended meaning.
        """
        edited = {source: splicer.result() for source, splicer in self._splicers.items()}
        data = edited.pop("", None)
        return Edit(self._content.data if data is None else data, data is not None, edited)

    def section(self, name: str, remedy: str = _NO_SERVICE_MODEL) -> Section:
        """A section whose content can be edited.

        Raises:
            ConfigRefused: it is missing, encrypted, or in a file that is missing or cannot be used.
        """
        return self.configuration.opened(name, remedy)

    def _splicer(self, part: Part) -> Splicer:
        if part.source in self._content.outside:
            raise ConfigRefused(
                f"the value in force is in {part.source!r}; esync does not write outside the folder of the file that "
                "includes it",
                remedy="set the value there manually, or move the file below that folder",
            )
        if part.source not in self._splicers:
            self._splicers[part.source] = Splicer(part.document)
        return self._splicers[part.source]


def put_asset_flag(editing: Editing, value: str) -> None:
    """AssetManagement.config: the attribute LoadBalanced of the root element (procedure; ektron-facts 2.1).

    Raises:
        ConfigRefused: the attribute has another spelling.
    """
    whole = editing.configuration.whole
    if "LoadBalanced" not in whole.element.attributes:
        similar = [name for name in whole.element.attributes if name.casefold() == "loadbalanced"]
        if similar:
            raise whole.refusal(
                f"the attribute is spelled {similar[0]!r}, but the product reads only LoadBalanced",
                "correct the spelling",
            )
    editing.set(whole, whole.element, "LoadBalanced", value)


def put_setting(editing: Editing, key: str, value: str) -> None:
    """One value of appSettings, in the file in which it is in force; added where it is missing. Once per file.

    Raises:
        ConfigRefused: the section is missing or encrypted, or holds the key with different values.
    """
    part = editing.section("appSettings", "check that this is the original file of the product").part_of(key)
    settings = collection(part.element.children)
    _refuse_contradiction(part, settings, key, "value")
    for entry in settings.of(key):
        editing.set(part, entry, "value", value)
    if not settings.of(key):
        editing.append(part, part.element, [New("add", {"key": key, "value": value})])


def put_keys(editing: Editing, keys: Mapping[str, str], partners: Mapping[str, str] = MappingProxyType({})) -> None:
    """Entries of publickCertKeys (sic, the k is real: ektron-facts 2.2); entries with other names are not changed.

    Args:
        editing: the service's configuration, or its EWSUpdates copy (procedure steps 12-25).
        keys: `<NODE>_SyncClient.cer` -> encodedValue, for every node (ektron-facts 3.4).
        partners: the same for servers outside the cluster. A partner with a certificate that no node has so far keeps
            it: it has a family of its own.

    Raises:
        ConfigRefused: the section is missing or encrypted, or holds a key with different values.
    """
    (part,) = editing.section("ektron.serviceModel").parts
    holder = part.sole_child("publickCertKeys")
    present = collection(holder.children if holder else ())
    for key in present.entries:
        _refuse_contradiction(part, present, key, "encodedValue")
    for key, value in keys.items():
        for entry in present.of(key):
            editing.set(part, entry, "encodedValue", value)
    ours = {NO_CERTIFICATE, *(_certificate_of(present, key) for key in keys if present.of(key))}
    for key, value in partners.items():
        if _certificate_of(present, key) in ours - {thumbprint(value)}:
            for entry in present.of(key):
                editing.set(part, entry, "encodedValue", value)
    wanted = {**partners, **keys}
    new = [New("add", {"key": key, "encodedValue": value}) for key, value in wanted.items() if not present.of(key)]
    if holder is not None:
        editing.append(part, holder, new)
    elif new:
        editing.append(part, part.element, [New("publickCertKeys", children=new)])


def remove_keys(editing: Editing, unwanted: Callable[[Mapping[str, str]], Iterable[str]]) -> None:
    """Removes entries of publickCertKeys: with its key a server loses the right to connect (ektron-facts 3.4).

    Args:
        editing: the service's configuration, or its EWSUpdates copy.
        unwanted: which keys have to go, of server -> SHA-256 of its certificate; keys with other names are left alone.

    Raises:
        ConfigRefused: the section is missing or encrypted.
    """
    (part,) = editing.section("ektron.serviceModel").parts
    holder = part.sole_child("publickCertKeys")
    present = collection(holder.children if holder else ())
    keys = {server: key for key, entries in present.entries.items() if (server := key_owner(_name(entries)))}
    for server in unwanted({server: _certificate_of(present, key) for server, key in keys.items()}):
        for entry in present.entries[keys[server]]:
            editing.remove(part, entry)


def _name(entries: Sequence[Element]) -> str:
    return entries[-1].value("key") or ""


def _certificate_of(entries: Collection, key: str) -> str:
    return thumbprint(entries.last(key, "encodedValue") or "") or NO_CERTIFICATE


def put_server_certificate(editing: Editing, name: str) -> None:
    """The service's own `<NODE>_SyncServer.pfx`, only where the attribute is present (ektron-facts 2.2).

    Raises:
        ConfigRefused: the section is missing or encrypted.
    """
    (part,) = editing.section("ektron.serviceModel").parts
    for services in part.element.named("services"):
        for item in services.children:
            before = item.value("serverCertificate")
            if before is not None and before.casefold() != name.casefold():
                editing.set(part, item, "serverCertificate", name)


def put_client_certificate(editing: Editing, name: str) -> None:
    """The site's own `<NODE>_SyncClient.pfx`, at every endpoint of web.config (ektron-facts 2.3).

    Raises:
        ConfigRefused: the section is missing or encrypted, or has no endpoints.
    """
    (part,) = editing.section("ektron.serviceModel", NO_NODE).parts
    holder = part.sole_child("endPoints")
    endpoints = collection(holder.children if holder else (), "contract")
    if holder is None or not endpoints.entries:
        raise part.refusal("ektron.serviceModel has no endPoints", NO_NODE, holder)
    for entries in endpoints.entries.values():
        for item in entries:
            if (item.value("clientCertificate") or "").casefold() != name.casefold():
                editing.set(part, item, "clientCertificate", name)


def _refuse_contradiction(part: Part, entries: Collection, key: str, attribute: str) -> None:
    """Refuses two entries for one key with different values: the correct one is unknown."""
    same = entries.of(key)
    if len({entry.value(attribute) for entry in same}) > 1:
        lines = ", ".join(str(part.document.line(entry)) for entry in same)
        raise part.refusal(
            f"the key {same[0].value('key')!r} exists {len(same)} times with different values (lines {lines})",
            "remove the wrong entry; esync cannot know which one it is",
            same[-1],
        )
