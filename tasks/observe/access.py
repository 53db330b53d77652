"""Observes every folder and file that a rollout writes to, and the right to write there. Changes nothing."""

from collections.abc import Mapping

from tasks.ektron.desired.config_files import ConfigFile, paths_of
from tasks.ektron.editions import Layout
from tasks.ektron.facts.access import PlaceFacts
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["access_questions", "place_facts"]

_PREFIX = "access "
_CERTIFICATES = "_Sync"  #: in the name of each certificate file (ektron-facts 3.1)
_NAMES = 100  #: of refused files that are kept


def access_questions(layout: Layout, program_data: str, *, is_origin: bool, files: bool = False) -> dict[str, Op]:
    """What is asked of the node, by the name of the question.

    Args:
        layout: where the product is.
        program_data: the folder below which a rollout keeps its backups.
        is_origin: whether the node is the origin, which has more of these places.
        files: ask also for each certificate file there, of any server: before a plan.
    """
    paths = [*_required(layout, is_origin=is_origin), *_others(layout, program_data, is_origin=is_origin)]
    folders = {layout.site, layout.service_folder, _own_certificates(layout, is_origin=is_origin)} if files else set()
    return {
        _PREFIX + path: ops.access(path, containing=_CERTIFICATES if path in folders else "")
        for path in dict.fromkeys(paths)
    }


def place_facts(
    layout: Layout, program_data: str, answers: Mapping[str, Reply], *, is_origin: bool
) -> tuple[PlaceFacts, ...]:
    """The facts in the answers to `access_questions`; a place whose question failed is unknown.

    Args:
        layout: as for the questions.
        program_data: as for the questions.
        answers: by the name of the question.
        is_origin: as for the questions.
    """
    required = set(_required(layout, is_origin=is_origin))
    found = []
    for name in access_questions(layout, program_data, is_origin=is_origin):
        reply, path = answers[name], name.removeprefix(_PREFIX)
        exists = not reply.ok or bool(reply["exists"])
        writable = reply.get("writable") if reply.ok else None
        refused = reply.get("refused") if reply.ok else None
        found.append(
            PlaceFacts(
                path=path,
                exists=exists,
                writable=writable if isinstance(writable, bool) else None,
                required=path in required,
                nearest=str(reply.get("nearest") or "") if reply.ok else "",
                refused=tuple(map(str, refused[:_NAMES])) if isinstance(refused, list) else (),
            )
        )
    return tuple(found)


def _required(layout: Layout, *, is_origin: bool) -> list[str]:
    """Folders that a rollout does not make. The three configuration files are asked for by another rule."""
    return [layout.site, layout.service_folder, *([layout.configurator_folder] if is_origin else [])]


def _own_certificates(layout: Layout, *, is_origin: bool) -> str:
    return layout.configurator_folder if is_origin else layout.staging_folder


def _others(layout: Layout, program_data: str, *, is_origin: bool) -> list[str]:
    """Files that are replaced, and folders that are made; for a folder that is missing, the one that it is made in."""
    paths = paths_of(layout, is_origin=is_origin)
    ews = [paths[ConfigFile.EWS].rpartition("\\")[0]] if is_origin else [layout.staging_folder]
    return [*paths.values(), *ews, program_data]
