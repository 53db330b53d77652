"""Observes the configuration files that a run edits: the questions, and the facts in the replies."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tasks.ektron.config.readers import read_asset, read_service, read_web
from tasks.ektron.config.sections import Content, included_names, included_path, is_below
from tasks.ektron.config.workarea import FOLDERS
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.facts.configuration import (
    AssetFacts,
    ConfigurationFacts,
    IncludedFile,
    ServiceConfigFacts,
    WebFacts,
)
from tasks.ektron.facts.values import Fact, FileFacts, Spread
from tasks.ektron.refusals import Refused
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = [
    "CONFIG_LIMIT",
    "configuration_facts",
    "configuration_questions",
    "contents_of",
    "included_questions",
    "usual_question",
]

CONFIG_LIMIT = 8 * 2**20  #: bytes a configuration file may have: as base64, a reply holds one of them
_USUAL = "Application.config"  #: the usual name in `file` of appSettings: asked at once (ektron-facts 2.3)
F = TypeVar("F", bound=Fact)


def configuration_questions(paths: Mapping[ConfigFile, str]) -> dict[str, Op]:
    """What is asked of the node, by name: each file's bytes, and its state."""
    reads: dict[str, Op] = {
        # Those with keys grow with the cluster.
        file: ops.read(path, limit=CONFIG_LIMIT, remembered=file in {ConfigFile.SERVICE, ConfigFile.EWS})
        for file, path in paths.items()
    }
    questions = reads | {file.stat: ops.stat(path) for file, path in paths.items()}
    site = paths[ConfigFile.WEB].rpartition("\\")[0]
    below = {_below(folder): ops.read(rf"{site}\{folder}\web.config", limit=CONFIG_LIMIT) for folder in FOLDERS}
    return questions | usual_question(paths[ConfigFile.WEB]) | below


def usual_question(web_config: str) -> dict[str, Op]:
    """What is asked of the file that web.config usually includes, before it is known whether it does."""
    return _questions(ConfigFile.WEB, web_config, _USUAL)


def included_questions(paths: Mapping[ConfigFile, str], answers: Mapping[str, Reply]) -> dict[str, Op]:
    """What has to be asked besides, because files that were read include others."""
    questions: dict[str, Op] = {}
    for file, data in _read(answers).items():
        for name in included_names(data):
            if file.includes(name) not in answers:
                questions |= _questions(file, paths[file], name)
    return questions


def contents_of(paths: Mapping[ConfigFile, str], answers: Mapping[str, Reply]) -> dict[ConfigFile, Content]:
    """The bytes of the files that could be read, with those of the files that they include."""
    return {file: _content(file, paths[file], data, answers) for file, data in _read(answers).items()}


def _below(folder: str) -> str:
    """Name of the question for the configuration file in a folder of the site."""
    return f"{ConfigFile.WEB} below {folder}"


def _questions(file: ConfigFile, config: str, name: str) -> dict[str, Op]:
    path, at_start = included_path(config, name), file.read_at_start
    stat = ops.stat(path, hashes=at_start, change_times=at_start)
    return {file.includes(name): ops.read(path, limit=CONFIG_LIMIT), file.stat_of(name): stat}


def _read(answers: Mapping[str, Reply]) -> dict[ConfigFile, bytes]:
    return {file: ops.data_of(answers[file]) for file in ConfigFile if file in answers and answers[file].ok}


def _content(file: ConfigFile, config: str, data: bytes, answers: Mapping[str, Reply]) -> Content:
    replies = {name: answers[file.includes(name)] for name in included_names(data) if file.includes(name) in answers}
    nested = {one: answers[_below(one)] for one in FOLDERS if file is ConfigFile.WEB and _below(one) in answers}
    return Content(
        data=data,
        included={name: ops.data_of(reply) for name, reply in replies.items() if reply.ok},
        unreadable={name: r.message for name, r in replies.items() if not r.ok and r.error != "not_found"},
        outside=frozenset(name for name in replies if not is_below(config, included_path(config, name))),
        below={folder: ops.data_of(reply) for folder, reply in nested.items() if reply.ok},
        unreadable_below={one: r.message for one, r in nested.items() if not r.ok and r.error != "not_found"},
    )


def configuration_facts(
    paths: Mapping[ConfigFile, str],
    answers: Mapping[str, Reply],
    nodes: Sequence[str],
    digest: Callable[[str], str],
) -> ConfigurationFacts:
    """The facts in the answers to `configuration_questions`.

    Args:
        paths: of the files that were asked for.
        answers: by the name of the question.
        nodes: names of all nodes of the cluster.
        digest: keyed; connection strings go into it and nowhere else.
    """
    contents = contents_of(paths, answers)

    def seen(file: ConfigFile, reader: Callable[[Content], F]) -> tuple[FileFacts, F | None]:
        return _seen(paths[file], (answers[file], answers[file.stat]), contents.get(file), reader)

    def included(file: ConfigFile) -> tuple[IncludedFile, ...]:
        return _included(file, paths[file], contents.get(file), answers)

    def service(file: ConfigFile) -> ServiceConfigFacts:
        facts, values = seen(file, read_service)
        if values is None:
            return ServiceConfigFacts(file=facts, included=included(file))
        keys = Spread.of(values.key_thumbprints, nodes, duplicated=values.duplicated_keys)
        common = values.model_dump(exclude={"key_thumbprints", "duplicated_keys"})
        others = {name: values.key_thumbprints[name] for name in keys.unexpected}
        return ServiceConfigFacts(file=facts, included=included(file), keys=keys, other_keys=others, **common)

    asset, asset_values = seen(ConfigFile.ASSET, read_asset)
    web, web_values = seen(ConfigFile.WEB, lambda content: read_web(content, digest))
    return ConfigurationFacts(
        asset=AssetFacts(file=asset, **(asset_values.model_dump() if asset_values else {})),
        service_config=service(ConfigFile.SERVICE),
        web=WebFacts(file=web, included=included(ConfigFile.WEB), **(web_values.model_dump() if web_values else {})),
        ews=service(ConfigFile.EWS) if ConfigFile.EWS in paths else None,
    )


def _seen(
    path: str, replies: tuple[Reply, Reply], content: Content | None, reader: Callable[[Content], F]
) -> tuple[FileFacts, F | None]:
    """A file, and what the reader finds in it; None when it cannot be read or understood. `replies`: read and stat."""
    read = replies[0]
    if content is None:
        remedy = ops.error_of(read, "").remedy
        return FileFacts(path=path, exists=read.error != "not_found", problem=read.message, remedy=remedy), None
    try:
        values = reader(content)
    except Refused as refusal:
        return FileFacts(problem=str(refusal), remedy=refusal.remedy, **_state(path, *replies)), None
    return FileFacts(**_state(path, *replies)), values


def _state(path: str, read: Reply, stat: Reply) -> dict[str, Any]:
    return {
        "path": path,
        "exists": True,
        "size": read["size"],
        "mtime": ops.time_of(read["mtime"]) if read["mtime"] else None,
        "hash": read["hash"],
        "readonly": stat.ok and bool(stat.get("readonly", False)),
    }


def _included(
    file: ConfigFile, config: str, content: Content | None, answers: Mapping[str, Reply]
) -> tuple[IncludedFile, ...]:
    """The files that a configuration file includes, also those that do not exist."""
    found = []
    for name in included_names(content.data) if content else ():
        path, reply = included_path(config, name), answers.get(file.includes(name))
        if reply is not None and reply.ok:
            found.append(IncludedFile(name=name, **_state(path, reply, answers[file.stat_of(name)])))
        else:
            why = "" if reply is None or reply.error == "not_found" else reply.message
            found.append(IncludedFile(name=name, path=path, exists=bool(why), problem=why))
    return tuple(found)
