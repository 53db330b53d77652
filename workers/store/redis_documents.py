"""Documents in Redis or Valkey: those that are much alike are packed with one of them as their basis."""

from collections.abc import Iterable

from typing_extensions import override

from workers.records import DocumentKind
from workers.redis.connection import connections_made
from workers.remembered import Remembered
from workers.secrets.seal import Seal
from workers.store.damage import damage_reported, reports_damage
from workers.store.packed import LONG, packed, unpacked
from workers.store.port import MEASURED, Documents
from workers.store.redis_commands import RedisCommands

__all__ = ["BASES", "RedisDocuments"]

BASES = 1_000_000  #: characters of the bases of documents that this process keeps: those of a hundred runs
ALIKE = frozenset({DocumentKind.OBSERVED, DocumentKind.PLANNED, DocumentKind.VERIFIED})  #: much the same for all nodes
_BASIS = "basis"  #: the kind of the documents that these are packed with, by their kind


class RedisDocuments(RedisCommands, Documents):
    """The part of the store for documents."""

    _seal: Seal
    _bases: Remembered[str]

    @override
    @reports_damage("document")
    def put(self, run_id: str, kind: str, name: str, document: str) -> None:
        keys = [self._of(run_id, "documents", kind), self._of(run_id, "index")]
        while True:
            made = connections_made(self._redis)
            sealed = self._sealed_document(run_id, kind, name, document)
            self._write(run_id, "put", keys, kind, name, int(kind not in MEASURED), sealed)
            if kind not in ALIKE or made == connections_made(self._redis):
                return  # else another server may not have the basis

    def _sealed_document(self, run_id: str, kind: str, name: str, document: str) -> str:
        basis = self._basis(run_id, kind, document) if kind in ALIKE and len(document) > LONG else ""
        return self._seal.sealed(("document", run_id, kind, name), packed(document, basis))

    def _basis(self, run_id: str, kind: str, document: str = "") -> str:
        """The basis of the documents of a kind; `document` becomes it when there is none.

        It is known as long as no connection is made: another server, or one that was restarted, may have lost it.
        """
        place = f"{connections_made(self._redis)} {run_id} {kind}"
        known = self._bases.get(place)
        if known is not None:
            return known
        key = self._of(run_id, "documents", _BASIS)
        if document:
            sealed = self._sealed_document(run_id, _BASIS, kind, document)
            text = self._write(run_id, "basis", [key, self._of(run_id, "index")], _BASIS, kind, sealed)
        else:
            text = self._ask(lambda redis: redis.hget(key, kind)) or ""
        found = self._opened_document(run_id, _BASIS, kind, text)
        return self._bases.put(place, found, len(found))

    @override
    @reports_damage("document")
    def document(self, run_id: str, kind: str, name: str) -> str | None:
        text = self._ask(lambda redis: redis.hget(self._of(run_id, "documents", kind), name))
        return None if text is None else self._opened_document(run_id, kind, name, text)

    def _opened_document(self, run_id: str, kind: str, name: str, text: str) -> str:
        with damage_reported(run_id, "document"):
            return unpacked(
                self._seal.opened(("document", run_id, kind, name), text), lambda: self._basis(run_id, kind)
            )

    @override
    def documents(self, run_id: str, kind: str) -> dict[str, str]:
        return self.documents_of(run_id, (kind,))[kind]

    @override
    @reports_damage("document")
    def documents_of(self, run_id: str, kinds: Iterable[str]) -> dict[str, dict[str, str]]:
        wanted = tuple(kinds)
        found = self._pipe(lambda pipe: [pipe.hgetall(self._of(run_id, "documents", kind)) for kind in wanted])
        return {
            kind: {name: self._opened_document(run_id, kind, name, text) for name, text in texts.items()}
            for kind, texts in zip(wanted, found, strict=True)
        }
