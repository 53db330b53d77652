"""The cluster file: YAML -> Cluster. Every mistake at once, each with its line, before anybody is contacted."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipelines.cluster_file.positions import MAX_BYTES, Document, Plain, Unreadable, parse
from pipelines.cluster_file.problems import Problem, did_you_mean, explain, place
from tasks.cluster import Cluster, ClusterFile
from workers.errors import InputRefused
from workers.host.reading import content_of
from workers.texts import cleaned

__all__ = ["ClusterRefused", "load_cluster", "read_cluster"]

_LISTED = 100


class ClusterRefused(InputRefused):
    """The cluster file has mistakes; `problems` holds all of them, in the order of the file."""

    slug = "cluster_refused"

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        count = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
        lines = [str(problem) for problem in problems[:_LISTED]]
        lines += [f"... and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        message = "\n".join([f"{file} has {count}; nothing was contacted", *lines])
        super().__init__(message, remedy="correct the file; `esync check` reads it again", file=file)


def load_cluster(path: str | Path) -> Cluster:
    """Reads and checks a cluster file. `ca_file` and `file:` secrets are made absolute, from the file's folder.

    Secrets are not read: that a variable is set is the business of whoever logs on.

    Raises:
        ClusterRefused: with every problem of the file.
        InputRefused: there is no such file, or it cannot be read.
    """
    try:
        content = content_of(Path(path), MAX_BYTES, "cluster file")
    except InputRefused as refused:
        refused.remedy = "name a cluster file; `esync lab` writes one for a simulated cluster"
        refused.file = str(path)
        raise
    return read_cluster(content, file=cleaned(str(path)), folder=Path(path).resolve().parent)


def read_cluster(content: bytes, *, file: str, folder: Path) -> Cluster:
    """The cluster that `content` describes; `file` is for messages, `folder` for relative paths.

    Raises:
        ClusterRefused: with every problem.
    """
    try:
        document = parse(_decoded(content))
    except Unreadable as refusal:
        problem = Problem(file=file, line=refusal.line, column=refusal.column, message=refusal.message)
        raise ClusterRefused(file, (problem,)) from None
    if not isinstance(document.data, dict):
        problem = Problem(file=file, line=1, message="must be a mapping of keys and values")
        raise ClusterRefused(file, (problem,))
    return _Check(document, file, folder).cluster()


def _decoded(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES // 1_000_000} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable("not UTF-8 text; save the file as UTF-8", line) from None


class _Check:
    """One pass over one file, collecting problems."""

    def __init__(self, document: Document, file: str, folder: Path) -> None:
        self.document = document
        self.data = cast("dict[str, Any]", document.data)
        self.file = file
        self.folder = folder
        self.problems: list[Problem] = []

    def cluster(self) -> Cluster:
        """The cluster, or ClusterRefused."""
        for path, line, column in self.document.duplicates:
            self.problems.append(
                Problem(file=self.file, line=line, column=column, path=place(path), message="stands here twice")
            )
        self._files()
        cluster, errors = self._validated()
        self.problems.extend(explain(self.file, self.document, [error for error in errors if error["loc"]]))
        self._names()
        self._hosts()
        self._pools()
        if not self.problems:  # what the schema says of the whole file, the three above say of a line
            self.problems.extend(explain(self.file, self.document, errors))
        if cluster is None or self.problems:
            found = self.problems or [Problem(file=self.file, line=1, message=_plain_words(errors))]
            raise ClusterRefused(self.file, tuple(sorted(found, key=lambda p: (p.line, p.column))))
        return cluster

    def _validated(self) -> tuple[Cluster | None, list[ErrorDetails]]:
        """The schema's opinion. A number where text is wanted (`edition: 8.5`) is taken as it was written."""
        try:
            return self._by_schema(), []
        except ValidationError as error:
            wanted = [e["loc"] for e in error.errors(include_url=False) if e["type"] == "string_type"]
        for loc in wanted:
            _replace_number(self.data, loc, self.document.text(loc))
        try:
            return self._by_schema(), []
        except ValidationError as error:
            return None, error.errors(include_url=False)

    def _by_schema(self) -> Cluster:
        # Strict in JSON mode: enums and tuples are taken from text and lists, but "5986" is no number.
        checked = ClusterFile.model_validate_json(json.dumps(self.data), strict=True)
        return Cluster(folder=str(self.folder), **dict(checked))

    def _nodes(self) -> Iterator[tuple[int, dict[str, Any]]]:
        nodes = self.data.get("nodes")
        for index, node in enumerate(nodes if isinstance(nodes, list) else ()):
            if isinstance(node, dict):
                yield index, node

    def _add(self, path: tuple[str | int, ...], message: str, **more: str) -> None:
        mark = self.document.find(path)[0].start_mark
        self.problems.append(
            Problem(
                file=self.file,
                line=mark.line + 1,
                column=mark.column + 1,
                path=place(path),
                message=message,
                **more,
            )
        )

    def _once(self, key: str, of: Callable[[dict[str, Any]], str | None], say: str) -> dict[str, int]:
        """Complains about the second node with the same `of`, naming the first; returns value -> index."""
        first: dict[str, int] = {}
        for index, node in self._nodes():
            value = of(node)
            if value is None:
                continue
            if value in first:
                line = self.document.find(("nodes", first[value], key))[0].start_mark.line + 1
                self._add(("nodes", index, key), f"{say} nodes[{first[value]}] in line {line}")
            first.setdefault(value, index)
        return first

    def _names(self) -> None:
        names = self._once("name", lambda node: _folded(node.get("name")), "is also the name (case does not count) of")
        origin = self.data.get("origin")
        if names and isinstance(origin, str) and origin.casefold() not in names:
            written = [str(self.data["nodes"][index]["name"]) for index in names.values()]
            listed = ", ".join(written[:12]) + (", ..." if len(written) > 12 else "")  # noqa: PLR2004 - one line's worth
            self._add(
                ("origin",),
                "is none of the nodes",
                value=f'"{origin[:60]}"' if origin.isprintable() else "",
                allowed=listed,
                hint=did_you_mean(origin, written),
            )

    def _hosts(self) -> None:
        default = self._connection(self.data).get("port", 5986)

        def address(node: dict[str, Any]) -> str | None:
            host = _folded(node.get("host"))
            return host and f"{host} {self._connection(node).get('port') or default}"

        self._once("host", address, "is also the address (host and port) of")

    def _pools(self) -> None:
        roles: dict[str, tuple[str, int]] = {}
        for index, node in self._nodes():
            pool, role = node.get("pool"), node.get("role")
            if not isinstance(pool, str) or role not in {"staging", "production"}:
                continue
            first_role, first = roles.setdefault(pool, (role, index))
            if role != first_role:
                say = f"is {role}, but the pool has a {first_role} node, nodes[{first}]: a pool has one role"
                self._add(("nodes", index, "role"), say)

    def _files(self) -> None:
        """Resolves the files that connections name, and complains about those that are not there."""
        places: list[tuple[tuple[str | int, ...], dict[str, Any]]] = [(("connection",), self._connection(self.data))]
        places += [
            (("nodes", index, "connection"), own) for index, node in self._nodes() if (own := self._connection(node))
        ]
        for path, connection in places:
            self._ca_file((*path, "ca_file"), connection)
            self._secret_file((*path, "secret"), connection)

    def _ca_file(self, path: tuple[str | int, ...], connection: dict[str, Any]) -> None:
        named = connection.get("ca_file")
        if isinstance(named, str):
            file = self._resolved(named)
            connection["ca_file"] = str(file)
            if complaint := _no_certificate(file):
                self._add(path, complaint)

    def _secret_file(self, path: tuple[str | int, ...], connection: dict[str, Any]) -> None:
        named = connection.get("secret")
        if isinstance(named, str) and named.startswith("file:") and named != "file:":
            file = self._resolved(named.removeprefix("file:"))
            connection["secret"] = f"file:{file}"
            if not _is_file(file):
                self._add(path, "names a file that does not exist or cannot be read")

    def _resolved(self, named: str) -> Path:
        try:
            return self.folder / Path(named).expanduser()
        except RuntimeError:  # `~` of somebody who is not known here
            return self.folder / named

    @staticmethod
    def _connection(part: dict[str, Any]) -> dict[str, Any]:
        connection = part.get("connection")
        return connection if isinstance(connection, dict) else {}


def _folded(value: object) -> str | None:
    return str(value).casefold() if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _plain_words(errors: list[ErrorDetails]) -> str:
    return str(errors[0]["msg"]).removeprefix("Value error, ")


def _replace_number(data: Plain, loc: tuple[str | int, ...], text: str | None) -> None:
    """Puts the text as written where the schema wants text and the file has a number; leaves anything else alone."""
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
    """Why that file cannot be what node certificates are verified against; empty when it can."""
    try:
        content = content_of(file, MAX_BYTES, "CA file")
    except InputRefused:
        return f"{str(file)!r} does not exist or cannot be read"
    try:
        found = x509.load_pem_x509_certificates(content)
    except Exception:  # noqa: BLE001 - the library's errors share no parent; whatever it is, nothing can be verified by it
        found = []
    if found:
        return ""
    der = content[:1] == b"\x30"
    return f"{str(file)!r} holds no PEM certificate" + ("; it looks like DER, convert it to PEM" if der else "")
