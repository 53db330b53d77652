"""Observes folders that the product does not use any more, and that still hold certificate files."""

from collections.abc import Mapping

from tasks.ektron.certificates.family import node_of
from tasks.ektron.editions import Layout
from tasks.ektron.facts.generated import GeneratedFile
from tasks.ektron.facts.old_places import OldPlace
from tasks.ektron.old_places import OtherService, old_folders, other_services, product_roots
from tasks.observe.family_folder import folder_limit
from tasks.step import Work
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["certificate_files", "old_place_questions", "old_places", "services_beside"]

_FOLDER, _SERVICE = "products in ", "generation "
_EXAMPLES = 6


def old_place_questions(layout: Layout, system_drive: str) -> dict[str, Op]:
    """What is asked of the node, by name: which editions have folders there, and which services are installed."""
    folders: dict[str, Op] = {_FOLDER + root: ops.list_folder(root) for root in product_roots(system_drive)}
    services = other_services(layout.service_name)
    return folders | {_SERVICE + number: ops.service(name) for number, name in services.items()}


def old_places(
    work: Work, layout: Layout, answers: Mapping[str, Reply], sitedb: GeneratedFile | None, image_path: str
) -> tuple[OldPlace, ...]:
    """The old folders that hold certificate files. Asks the node again only where there are old folders.

    Raises:
        EsyncError: the session broke.
    """
    contents = {
        name.removeprefix(_FOLDER): [entry["name"] for entry in reply["entries"] if entry["kind"] == "folder"]
        for name, reply in answers.items()
        if name.startswith(_FOLDER) and reply.ok
    }
    found = old_folders(
        layout,
        sites=sitedb,
        earlier_sites=work.documents.earlier_sites(),
        contents=contents,
        services=_other_services(answers),
        image_path=image_path,
    )
    files = {folder: names for folder, names in certificate_files(work, tuple(found)).items() if names}
    in_use = _in_use(work, layout, tuple(files))
    return tuple(
        OldPlace(folder=folder, why=found[folder], files=len(names), examples=tuple(names[:_EXAMPLES]))
        for folder, names in files.items()
        if folder not in in_use
    )


def services_beside(layout: Layout, answers: Mapping[str, Reply]) -> tuple[str, ...]:
    """The names of services of other generations that are not stopped."""
    names = other_services(layout.service_name)
    return tuple(names[number] for number, one in _other_services(answers).items() if one.state not in {"", "stopped"})


def _other_services(answers: Mapping[str, Reply]) -> dict[str, OtherService]:
    """Generation -> that service, where it is installed."""
    return {
        name.removeprefix(_SERVICE): OtherService(reply["state"], reply["start_type"], reply["image_path"])
        for name, reply in answers.items()
        if name.startswith(_SERVICE) and reply.ok
    }


def _in_use(work: Work, layout: Layout, folders: tuple[str, ...]) -> set[str]:
    """Those that lead to a folder in use, as a junction does that was left where the site was: the files are the same.

    Copies have other change times. Where the disk keeps none, a copy that kept its modification time counts as the same
    file: an old file that stays does less harm than one in use that goes.

    Raises:
        EsyncError: the session broke.
    """
    if not folders:
        return set()
    used, limit = layout.written_folders, folder_limit(work.cluster)
    lists = [ops.list_folder(folder, change_times=True, limit=limit) for folder in (*folders, *used)]
    replies = work.session.ask(lists, deadline=work.deadline, keep_going=True, cancelled=work.cancelled)
    held = {file for reply in replies[len(folders) :] for file in _identities(reply)}
    return {folder for folder, reply in zip(folders, replies, strict=False) if held & _identities(reply)}


def _identities(reply: Reply) -> set[tuple[object, ...]]:
    """What tells each certificate file from its copies."""
    return {
        (entry["name"].casefold(), entry["size"], entry["mtime"], entry.get("ctime"))
        for entry in (reply["entries"] if reply.ok else ())
        if entry["kind"] == "file" and node_of(entry["name"])
    }


def certificate_files(work: Work, folders: tuple[str, ...]) -> dict[str, list[str]]:
    """Folder -> the names of the certificate files in it; none where there is no such folder.

    Raises:
        EsyncError: the session broke.
    """
    if not folders:
        return {}
    lists = [ops.list_folder(folder, limit=folder_limit(work.cluster)) for folder in folders]
    replies = work.session.ask(lists, deadline=work.deadline, keep_going=True, cancelled=work.cancelled)
    return dict(zip(folders, map(_certificates_in, replies), strict=True))


def _certificates_in(reply: Reply) -> list[str]:
    entries = reply["entries"] if reply.ok else ()
    return [entry["name"] for entry in entries if entry["kind"] == "file" and node_of(entry["name"])]
