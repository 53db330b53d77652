"""Reads an Ansible inventory: hosts, groups, variables, as plain data. Bounded; runs nothing, resolves no template.

Both forms are read, INI and YAML, with `group_vars` and `host_vars` beside them. Python's `configparser` does not fit
the INI form: a line there is a host with several variables, in the syntax of a shell, and a host may have many lines.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import product
from pathlib import Path

from pipelines.cluster_file.positions import MAX_BYTES, Plain, Unreadable, parse
from workers.errors import InputRefused
from workers.host.reading import content_of

__all__ = ["MAX_HOSTS", "Inventory", "read_inventory"]

MAX_HOSTS = 5_000  #: as many as a cluster may have
_MAX_GROUPS = 1_000
_MAX_FILES = 500  #: files of variables that are read
_YAML = (".yaml", ".yml", ".json")
_VAULT = b"$ANSIBLE_VAULT"
_TAGS = re.compile(r"(?<=[:\s-]\s)!(?:vault|vault-encrypted|unsafe)\b")
_SECTION = re.compile(r"\[([^\]:]+)(?::(vars|children|hosts))?\](?:\s*[#;].*)?")
_RANGE = re.compile(r"\[(\w+):(\w+)(?::([0-9]+))?\]", re.ASCII)
_WITH_PORT = re.compile(r"([^:\[\]]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
_REMEDY = (
    "let Ansible write it as one YAML file: ansible-inventory -i INVENTORY --list --yaml --export --output hosts.yaml"
)

Vars = dict[str, Plain]


@dataclass(slots=True)
class _Group:
    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    vars: Vars = field(default_factory=dict)


@dataclass(slots=True)
class Inventory:
    """An inventory after reading.

    Attributes:
        hosts: name -> its own variables with those of its groups, the nearest first.
        groups: group -> the hosts in it, those of its children too; without `all` and `ungrouped`.
        all_vars: those of `all`.
        unread: files that are encrypted, and were left out.
    """

    hosts: dict[str, Vars]
    groups: dict[str, tuple[str, ...]]
    all_vars: Vars
    unread: tuple[str, ...]


def read_inventory(path: Path) -> Inventory:
    """Reads an inventory and the files of variables beside it.

    Raises:
        InputRefused: it is not an inventory in one of the two forms, exceeds a limit, or cannot be read.
    """
    if path.is_dir():
        raise InputRefused("the inventory is a folder", remedy=_REMEDY, file=str(path))
    content = content_of(path, MAX_BYTES, "inventory")
    if content.startswith(b"#!"):
        raise InputRefused("the inventory is a program, and esync runs none", remedy=_REMEDY, file=str(path))
    try:
        reader = _Reader()
        text = _text(content)
        reader.yaml(text) if path.suffix.lower() in _YAML else reader.ini(text)
        reader.beside(path.parent)
        return reader.inventory()
    except Unreadable as why:
        raise InputRefused(
            f"the inventory cannot be read: line {why.line}: {why.message}", remedy=_REMEDY, file=str(path)
        ) from None


class _Reader:
    """Collects groups and hosts from both forms."""

    def __init__(self) -> None:
        self.groups: dict[str, _Group] = {"all": _Group(), "ungrouped": _Group()}
        self.hosts: dict[str, Vars] = {}
        self.unread: list[str] = []

    def ini(self, text: str) -> None:
        """The INI form."""
        group, part = "ungrouped", "hosts"
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.strip()
            if not line or line[0] in "#;":
                continue
            if section := _SECTION.fullmatch(line):
                group, part = section[1].strip(), section[2] or "hosts"
                self._group(group)
                continue
            if part == "vars":
                name, _, value = line.partition("=")
                self._group(group).vars[name.strip()] = _unquoted(value.strip())
                continue
            words = _words(line, number)
            if part == "children":
                self._child(group, words[0])
            else:
                own = dict(_assigned(words[1:], number))
                for host in _expanded(words[0], number):
                    self._host(group, host, own, number)

    def yaml(self, text: str) -> None:
        """The YAML form."""
        data = _data(text)
        if not isinstance(data, dict):
            raise Unreadable("an inventory is a mapping of groups")
        for name, group in data.items():
            self._yaml_group(name, group)

    def _yaml_group(self, name: str, data: Plain) -> None:
        group = self._group(name)
        if data is None:
            return
        if not isinstance(data, dict):
            raise Unreadable(f"the group {name[:60]!r} is not a mapping with hosts, children and vars")
        group.vars |= _mapping(data.get("vars"))
        for pattern, own in _mapping(data.get("hosts")).items():
            for host in _expanded(pattern, 1):
                self._host(name, host, _mapping(own), 1)
        for child, part in _mapping(data.get("children")).items():
            self._child(name, child)
            self._yaml_group(child, part)

    def beside(self, folder: Path) -> None:
        """The variables in `group_vars` and `host_vars` of a folder, for groups and hosts that are known."""
        left = _MAX_FILES
        for kind, known in (("group_vars", list(self.groups)), ("host_vars", list(self.hosts))):
            for name in known if (folder / kind).is_dir() else ():
                for file in _variable_files(folder / kind, name):
                    left -= 1
                    if left < 0:
                        raise Unreadable(f"more than {_MAX_FILES} files of variables")
                    values = self._file(file)
                    (self.groups[name].vars if kind == "group_vars" else self.hosts[name]).update(values)

    def _file(self, file: Path) -> Vars:
        content = content_of(file, MAX_BYTES, "file of variables")
        if content.startswith(_VAULT):
            self.unread.append(str(file))
            return {}
        return _mapping(_data(_text(content))) if content.strip() else {}

    def _group(self, name: str) -> _Group:
        if len(self.groups) > _MAX_GROUPS:
            raise Unreadable(f"more than {_MAX_GROUPS:,} groups")
        return self.groups.setdefault(name, _Group())

    def _child(self, parent: str, child: str) -> None:
        self._group(child)
        children = self._group(parent).children
        if child not in children:
            children.append(child)

    def _host(self, group: str, host: str, own: Vars, line: int) -> None:
        if len(self.hosts) >= MAX_HOSTS and host not in self.hosts:
            raise Unreadable(f"more than {MAX_HOSTS:,} hosts", line)
        name, own = _port_apart(host, own)
        self.hosts.setdefault(name, {}).update(own)
        hosts = self._group(group).hosts
        if name not in hosts:
            hosts.append(name)

    def inventory(self) -> Inventory:
        """Hosts with the variables of their groups: a group's are stronger than its parents', a host's than all."""
        order = self._top_down()
        members: dict[str, frozenset[str]] = {}
        for name in reversed(order):
            below = (members[child] for child in self.groups[name].children)
            members[name] = frozenset(self.groups[name].hosts).union(*below)
        hosts: dict[str, Vars] = {}
        for host, own in self.hosts.items():
            merged = dict(self.groups["all"].vars)
            for name in order:
                if name != "all" and host in members[name]:
                    merged |= self.groups[name].vars
            hosts[host] = merged | own
        shown = [name for name in self.groups if name not in {"all", "ungrouped"} and members[name]]
        return Inventory(
            hosts=hosts,
            groups={name: tuple(host for host in self.hosts if host in members[name]) for name in shown},
            all_vars=self.groups["all"].vars,
            unread=tuple(self.unread),
        )

    def _top_down(self) -> list[str]:
        """All groups, each after its parents."""
        above: dict[str, list[str]] = {name: [] for name in self.groups}
        for name, group in self.groups.items():
            for child in group.children:
                above[child].append(name)
        try:
            return list(TopologicalSorter(above).static_order())
        except CycleError as error:
            raise Unreadable(f"the group {str(error.args[1][0])[:60]!r} contains itself") from None


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8 text") from None


def _data(text: str) -> Plain:
    return parse(_TAGS.sub("", text), most=MAX_HOSTS + 100).data


def _mapping(data: Plain) -> Vars:
    return data if isinstance(data, dict) else {}


def _words(line: str, number: int) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise Unreadable(f"a quote is not closed ({error})", number) from None


def _assigned(words: list[str], number: int) -> Iterator[tuple[str, Plain]]:
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise Unreadable("behind a host only variables are allowed, as name=value", number)
        yield name, value


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _expanded(pattern: str, line: int) -> Iterator[str]:
    """The hosts of a pattern such as `web[01:04].example.net`: numbers with leading zeros, or letters."""
    parts: list[tuple[str, ...]] = []
    end, count = 0, 1
    for found in _RANGE.finditer(pattern):
        values = tuple(_range(found, line))
        count *= len(values)
        if count > MAX_HOSTS:
            raise Unreadable(f"a range of more than {MAX_HOSTS:,} hosts", line)
        parts += [(pattern[end : found.start()],), values]
        end = found.end()
    return ("".join(one) for one in product(*parts, (pattern[end:],)))


def _range(found: re.Match[str], line: int) -> Iterator[str]:
    first, last, step = found[1], found[2], int(found[3] or 1)
    if step and first.isdigit() and last.isdigit() and len(last) < 10:  # noqa: PLR2004 - far above the limit of hosts
        width = len(first) if first.startswith("0") else 0
        numbers = range(int(first), int(last) + 1, step)
        if len(numbers) > MAX_HOSTS:
            raise Unreadable(f"a range of more than {MAX_HOSTS:,} hosts", line)
        return (f"{number:0{width}}" for number in numbers)
    if step and len(first) == len(last) == 1 and first.isalpha() and last.isalpha():
        return (chr(code) for code in range(ord(first), ord(last) + 1, step))
    raise Unreadable("a range is neither of numbers nor of letters", line)


def _port_apart(host: str, own: Mapping[str, Plain]) -> tuple[str, Vars]:
    """`web1:5986` is the host web1 with a port; brackets belong around an IPv6 address only there."""
    found = _WITH_PORT.fullmatch(host)
    return (found[1].strip("[]"), {"ansible_port": found[2], **own}) if found else (host, dict(own))


def _variable_files(folder: Path, name: str) -> list[Path]:
    """The files with the variables of a group or host, in the order in which Ansible reads them."""
    if not name or "/" in name or name.startswith("."):
        return []
    whole = folder / name
    if whole.is_dir():
        return sorted(file for file in whole.rglob("*") if file.is_file() and file.suffix.lower() in ("", *_YAML))
    return [file for file in (whole, *(folder / f"{name}{ending}" for ending in _YAML)) if file.is_file()][:1]
