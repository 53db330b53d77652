"""The cluster file: YAML -> Cluster. All mistakes are reported together, each with its line, before any contact."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipelines.cluster_file.mistakes import FILL_IN, Mistake, allowed_values, did_you_mean, explain, mistake_at
from pipelines.cluster_file.names import read_as
from pipelines.cluster_file.pools import late_mistakes, pool_mistakes
from pipelines.cluster_file.positions import MAX_BYTES, Document, Mapping, Plain, Unreadable, parse
from pipelines.cluster_file.positions import Path as KeyPath
from tasks.cluster import Cluster, ClusterFile, Role, one_spelling
from tasks.connection import SYSTEM, listener_port
from tasks.policy import FILE, POOL
from workers.errors import InputRefused
from workers.host.reading import content_of, folder_of
from workers.texts import cleaned

__all__ = ["ClusterRefused", "load_cluster", "load_with_document", "read_cluster"]

_LISTED = 100  #: mistakes in a message
_NAMES = 12  #: node names in a message
_BEGINNING = 200  #: bytes of a file in which a saved plan has its mark
_PLAN = re.compile(rb'^\s*\{\s*"esync_plan"\s*:')


class ClusterRefused(InputRefused):
    """The cluster file has mistakes; `mistakes` has all of them, in the order of the file."""

    slug = "cluster_refused"

    def __init__(self, file: str, mistakes: tuple[Mistake, ...]) -> None:
        self.mistakes = mistakes
        count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "a mistake"
        lines = [str(mistake) for mistake in mistakes[:_LISTED]]
        lines += [f"... and {len(mistakes) - _LISTED} more"] if len(mistakes) > _LISTED else []
        message = "\n".join([f"{file} has {count}; no server was contacted", *lines])
        super().__init__(message, remedy="correct the file, then check it again: esync check FILE", file=file)


def load_cluster(path: str | Path) -> Cluster:
    """Reads and checks a cluster file. `ca_file` and secrets in files become absolute, relative to the file's folder.

    Secrets are not read: whether a variable is set is checked by the worker that logs on.

    Raises:
        ClusterRefused: the file has mistakes.
        InputRefused: the file does not exist, or cannot be read.
    """
    return load_with_document(path)[0]


def load_with_document(path: str | Path) -> tuple[Cluster, Document]:
    """As `load_cluster`, and the content of the file as written, with the position of each value."""
    try:
        content = content_of(Path(path), MAX_BYTES, "cluster file")
    except InputRefused as refused:
        refused.remedy = "give the path of a cluster file; `esync lab` writes one for a simulated cluster"
        refused.file = str(path)
        raise
    if _PLAN.search(content[:_BEGINNING]):
        raise InputRefused(
            "this is a saved plan, not a cluster file",
            remedy=f"apply it: esync rollout {cleaned(str(path))}",
            file=str(path),
        )
    return _read(content, cleaned(str(path)), folder_of(path))


def read_cluster(content: bytes, *, file: str, folder: Path) -> Cluster:
    """The cluster that `content` describes; `file` is for messages, `folder` for relative paths.

    Raises:
        ClusterRefused: the content has mistakes.
    """
    return _read(content, file, folder)[0]


def _read(content: bytes, file: str, folder: Path) -> tuple[Cluster, Document]:
    try:
        document = parse(_decoded(content))
        data = _mapping(document)
    except Unreadable as refusal:
        mistake = Mistake(file=file, line=refusal.line, column=refusal.column, message=refusal.message)
        raise ClusterRefused(file, (mistake,)) from None
    # A copy of the data: there, the names of files become absolute.
    return _Check(document, json.loads(json.dumps(data)), file, folder).cluster(), document


def _mapping(document: Document) -> Mapping:
    if not isinstance(document.data, dict):
        raise Unreadable("must be a mapping of keys and values")
    return document.data


def _decoded(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES // 1_000_000} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable("not UTF-8 text; save the file as UTF-8", line) from None


class _Check:
    """One pass over one file that collects mistakes."""

    def __init__(self, document: Document, data: Mapping, file: str, folder: Path) -> None:
        self.document = document
        self.data = data
        self.file = file
        self.folder = folder
        self.mistakes: list[Mistake] = []

    def cluster(self) -> Cluster:
        """The cluster, or ClusterRefused."""
        for path, key in self.document.duplicates:
            self.mistakes.append(mistake_at(self.file, key, path, "duplicate key"))
        self._files()
        cluster, errors = self._validated()
        self.mistakes.extend(explain(self.file, self.document, [error for error in errors if error["loc"]]))
        self._names()
        self._hosts()
        self._pools()
        self._labels()
        self._ways()
        for one in pool_mistakes(self.data):
            self._add(one.path, one.message, allowed=one.allowed, hint=one.hint)
        if cluster is not None:
            self._deadlines(cluster)
            for one in late_mistakes(cluster):
                self._add(one.path, one.message, allowed=one.allowed)
        self._unfilled()
        if not self.mistakes:  # the schema's errors about the whole file repeat what the three checks above report
            self.mistakes.extend(explain(self.file, self.document, errors))
        if cluster is None or self.mistakes:
            found = self.mistakes or [Mistake(file=self.file, line=1, message=_plain_words(errors))]
            raise ClusterRefused(self.file, tuple(sorted(found, key=lambda m: (m.line, m.column))))
        return cluster

    def _unfilled(self) -> None:
        """Reports what `esync init` left open, in place of what follows from it."""
        lines = [
            mistake_at(
                self.file, self.document.find(path)[0], path, "is not filled in yet", allowed=allowed_values(path)
            )
            for path in _paths_of(self.data, FILL_IN)
        ]
        places = {(mistake.line, mistake.column) for mistake in lines}
        self.mistakes = [one for one in self.mistakes if (one.line, one.column) not in places] + lines

    def _validated(self) -> tuple[Cluster | None, list[ErrorDetails]]:
        """The result of the schema. A number where text is required (`edition: 8.5`) is read as it was written."""
        try:
            return self._by_schema(), []
        except ValidationError as error:
            texts = [e["loc"] for e in error.errors(include_url=False) if e["type"] == "string_type"]
        for loc in texts:
            _replace_number(self.data, loc, self.document.text(loc))
        try:
            return self._by_schema(), []
        except ValidationError as error:
            return None, error.errors(include_url=False)

    def _by_schema(self) -> Cluster:
        # Strict in JSON mode: enums and tuples are read from text and lists, but "5986" is not a number.
        checked = ClusterFile.model_validate_json(json.dumps(self.data), strict=True)
        return Cluster.model_construct(folder=str(self.folder), **dict(checked))

    def _nodes(self) -> Iterator[tuple[int, Mapping]]:
        nodes = self.data.get("nodes")
        for index, node in enumerate(nodes if isinstance(nodes, list) else ()):
            if isinstance(node, dict):
                yield index, node

    def _add(self, path: KeyPath, message: str, *, value: str = "", allowed: str = "", hint: str = "") -> None:
        node, _ = self.document.find(path)
        self.mistakes.append(mistake_at(self.file, node, path, message, value=value, allowed=allowed, hint=hint))

    def _unique(self, key: str, of: Callable[[Mapping], str | None], message: str) -> set[str]:
        """Reports every later node with the same `of` as an earlier one, and names the first; returns all values."""
        first: dict[str, int] = {}
        for index, node in self._nodes():
            value = of(node)
            if value is None:
                continue
            if value in first:
                line = self.document.find(("nodes", first[value], key))[0].start_mark.line + 1
                self._add(("nodes", index, key), f"{message} nodes[{first[value]}] in line {line}")
            first.setdefault(value, index)
        return set(first)

    def _deadlines(self, cluster: Cluster) -> None:
        """A restart is watched within its step."""
        deadlines = cluster.policy.deadlines
        if deadlines.settle >= deadlines.step:
            given = "settle" if "settle" in deadlines.model_fields_set else "step"
            message = (
                f"settle ({deadlines.settle:g} s) is not less than step ({deadlines.step:g} s), of which it is a part"
            )
            self._add(("policy", "deadlines", given), message)

    def _names(self) -> None:
        if isinstance(name := self.data.get("name"), str) and (meaning := read_as(name)):
            self._add(("name",), f"{cleaned(name)} is what commands take for {meaning}", allowed="another name")
        names = self._unique("name", lambda node: _folded(node.get("name")), "duplicates (ignoring case) the name of")
        origin = self.data.get("origin")
        if names and isinstance(origin, str) and origin.casefold() not in names:
            written = [str(node["name"]) for _, node in self._nodes() if _folded(node.get("name")) is not None]
            distinct = list({name.casefold(): name for name in reversed(written)}.values())[::-1]
            self._add(
                ("origin",),
                "is not the name of a node",
                value=f'"{origin[:60]}"' if origin.isprintable() else "",
                allowed=", ".join(distinct[:_NAMES]) + (", ..." if len(distinct) > _NAMES else ""),
                hint=did_you_mean(origin, distinct),
            )

    def _hosts(self) -> None:
        ours = _connection(self.data)

        def address(node: Mapping) -> str | None:
            host, own = _folded(node.get("host")), _connection(node)
            port = listener_port(ours.get("scheme"), ours.get("port"), own.get("scheme"), own.get("port"))
            return host and f"{one_spelling(host)} {port}"

        self._unique("host", address, "duplicates the address (host and port) of")

    def _pools(self) -> None:
        roles: dict[str, tuple[str, int]] = {}
        for index, node in self._nodes():
            pool, role = node.get("pool"), node.get("role")
            if not isinstance(pool, str) or pool == FILL_IN or not isinstance(role, str) or role not in set(Role):
                continue
            first_role, first = roles.setdefault(pool, (role, index))
            if role != first_role:
                message = f"is {role}, but nodes[{first}] of this pool is {first_role}: a pool must have one role"
                self._add(("nodes", index, "role"), message)

    def _labels(self) -> None:
        """Reports labels in the policy that no node has: they would order and limit nothing."""
        policy = self.data.get("policy")
        if not isinstance(policy, dict):
            return
        known = sorted({POOL, *(label for _, node in self._nodes() for label in _keys(node.get("labels")))})
        order, at_most = policy.get("order"), policy.get("at_most")
        if isinstance(order, str) and order not in {FILE, *known}:
            self._unknown_label(("policy", "order"), order, [FILE, *known])
        for label in _keys(at_most):
            if label not in known:
                self._unknown_label(("policy", "at_most", label), label, known)

    def _unknown_label(self, path: KeyPath, label: str, known: list[str]) -> None:
        value = f'"{label}"' if path[-1] != label and label.isprintable() else ""
        hint = did_you_mean(label, known)
        self._add(path, "is not a label of any node", value=value, allowed=", ".join(known[:_NAMES]), hint=hint)

    def _ways(self) -> None:
        """Reports connections that would send a password or a message unencrypted, and secrets of another method."""
        ours = _connection(self.data)
        self._way(("connection",), ours, ours)
        for index, node in self._nodes():
            if own := _connection(node):
                self._way(("nodes", index, "connection"), own, {**ours, **own})

    def _way(self, path: KeyPath, own: Mapping, whole: Mapping) -> None:
        transport, kind = whole.get("transport", "ntlm"), str(whole.get("secret", "")).partition(":")[0]
        if whole.get("scheme") == "http" and transport in {"basic", "certificate"}:
            allowed = "https; or ntlm, kerberos, credssp, which encrypt every message over http"
            self._clash(path, own, ("transport", "scheme"), f"{transport} over http encrypts nothing", allowed)
        if kind in {"keytab", "tickets"} and transport != "kerberos":
            self._clash(path, own, ("secret", "transport"), f"{kind}: is for kerberos only", "env:NAME or file:PATH")

    def _clash(self, path: KeyPath, own: Mapping, keys: tuple[str, ...], message: str, allowed: str) -> None:
        """Reports a combination at the first of its keys that is written there; nowhere if none is."""
        if key := next((key for key in keys if key in own), ""):
            self._add((*path, key), message, allowed=allowed)

    def _files(self) -> None:
        """Makes the files of all connections absolute, and reports those that cannot be used."""
        self._connection_files(("connection",), _connection(self.data))
        for key in ("site_login", "sync"):
            part = self.data.get(key)
            self._connection_files((key,), part if isinstance(part, dict) else {})
        for index, node in self._nodes():
            self._connection_files(("nodes", index, "connection"), _connection(node))
        balancers = self.data.get("balancers")
        for pool, balancer in balancers.items() if isinstance(balancers, dict) else ():
            if isinstance(balancer, dict):
                self._balancer_files(("balancers", pool), balancer)

    def _balancer_files(self, path: KeyPath, balancer: Mapping) -> None:
        """The program of a balancer, and the secrets of its variables."""
        program, env = balancer.get("program"), balancer.get("env")
        if isinstance(program, list) and program and isinstance(program[0], str):
            program[0] = str(self._absolute(program[0]))
            if not os.access(program[0], os.X_OK):
                self._add((*path, "program"), "names a program that does not exist or may not be executed here")
        if isinstance(env, dict):
            for name, secret in env.items():
                if isinstance(secret, str) and secret.startswith("file:"):
                    env[name] = self._secret_file((*path, "env", name), "file", secret.removeprefix("file:"))

    def _connection_files(self, path: KeyPath, connection: Mapping) -> None:
        ca_file, secret = connection.get("ca_file"), connection.get("secret")
        if isinstance(ca_file, str) and ca_file != SYSTEM:
            file = self._absolute(ca_file)
            connection["ca_file"] = str(file)
            if message := _no_certificate(file):
                self._add((*path, "ca_file"), message)
        kind, _, named = secret.partition(":") if isinstance(secret, str) else ("", "", "")
        if kind in {"file", "keytab", "tickets"} and named:
            connection["secret"] = self._secret_file((*path, "secret"), kind, named)

    def _secret_file(self, path: KeyPath, kind: str, named: str) -> str:
        """The reference with an absolute path. Only `esync sync` needs the password of the site, and says then why."""
        file = self._absolute(named)
        if not _is_file(file) and (path[0] != "site_login" or kind != "file"):
            self._add(path, "names a file that does not exist or cannot be read")
        return f"{kind}:{file}"

    def _absolute(self, named: str) -> Path:
        try:
            return self.folder / Path(named).expanduser()
        except RuntimeError:  # `~` of a user that does not exist here
            return self.folder / named


def _paths_of(data: Plain, text: str, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Where that text is a value."""
    if data == text:
        yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from _paths_of(value, text, (*path, key))


def _keys(part: Plain) -> list[str]:
    return [str(key) for key in part] if isinstance(part, dict) else []


def _connection(part: Mapping) -> Mapping:
    connection = part.get("connection")
    return connection if isinstance(connection, dict) else {}


def _folded(value: object) -> str | None:
    return str(value).casefold() if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _plain_words(errors: list[ErrorDetails]) -> str:
    return str(errors[0]["msg"]).removeprefix("Value error, ")


def _replace_number(data: Plain, loc: KeyPath, text: str | None) -> None:
    """Replaces a number by its text as written, where the schema requires text; leaves anything else alone."""
    for key in loc[:-1]:
        if isinstance(data, dict) and isinstance(key, str):
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int):
            data = data[key]
    last = str(loc[-1])
    if isinstance(data, dict) and type(data.get(last)) in {int, float} and text is not None:
        data[last] = text


def _is_file(file: Path) -> bool:
    try:
        return file.is_file() and os.access(file, os.R_OK)
    except (OSError, ValueError):
        return False


def _no_certificate(file: Path) -> str:
    """Why node certificates cannot be verified against that file; empty when they can."""
    try:
        content = content_of(file, MAX_BYTES, "CA file")
    except InputRefused:
        return f"{str(file)!r} does not exist or cannot be read"
    from cryptography import x509  # noqa: PLC0415 - most cluster files need no check of certificates, and start faster

    try:
        if x509.load_pem_x509_certificates(content):
            return ""
    except Exception:  # noqa: BLE001, S110 - the library's errors have no common parent; all mean the same here
        pass
    der = content[:1] == b"\x30"
    return f"{str(file)!r} contains no PEM certificate" + ("; it looks like DER, convert it to PEM" if der else "")
