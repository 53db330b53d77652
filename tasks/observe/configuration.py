"""Observes the configuration files that a run edits: the questions, and the facts in the replies."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tasks.ektron.config.readers import read_asset, read_service, read_web
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.facts import (
    AssetFacts,
    ConfigurationFacts,
    Fact,
    FileFacts,
    ServiceConfigFacts,
    Spread,
    WebFacts,
)
from tasks.ektron.refusals import Refused
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["CONFIG_LIMIT", "configuration_facts", "configuration_questions", "contents_of"]

CONFIG_LIMIT = 16 * 2**20  #: bytes a configuration file may have
F = TypeVar("F", bound=Fact)


def configuration_questions(paths: Mapping[ConfigFile, str]) -> dict[str, Op]:
    """What is asked of the node, by name: each file's bytes, and its state."""
    reads: dict[str, Op] = {file: ops.read(path, limit=CONFIG_LIMIT) for file, path in paths.items()}
    return reads | {file.stat: ops.stat(path) for file, path in paths.items()}


def contents_of(answers: Mapping[str, Reply]) -> dict[ConfigFile, bytes]:
    """The bytes of the files that could be read."""
    return {file: ops.data_of(answers[file]) for file in ConfigFile if file in answers and answers[file].ok}


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

    def seen(file: ConfigFile, reader: Callable[[bytes], F]) -> tuple[FileFacts, F | None]:
        return _seen(paths[file], answers[file], answers[file.stat], reader)

    def service(file: ConfigFile) -> ServiceConfigFacts:
        facts, values = seen(file, read_service)
        if values is None:
            return ServiceConfigFacts(file=facts)
        keys = Spread.of(values.key_thumbprints, nodes, duplicated=values.duplicated_keys)
        common = values.model_dump(exclude={"key_thumbprints", "duplicated_keys"})
        return ServiceConfigFacts(file=facts, keys=keys, **common)

    asset, asset_values = seen(ConfigFile.ASSET, read_asset)
    web, web_values = seen(ConfigFile.WEB, lambda data: read_web(data, digest))
    return ConfigurationFacts(
        asset=AssetFacts(file=asset, **(asset_values.model_dump() if asset_values else {})),
        service_config=service(ConfigFile.SERVICE),
        web=WebFacts(file=web, **(web_values.model_dump() if web_values else {})),
        ews=service(ConfigFile.EWS) if ConfigFile.EWS in paths else None,
    )


def _seen(path: str, content: Reply, stat: Reply, reader: Callable[[bytes], F]) -> tuple[FileFacts, F | None]:
    """A file, and what the reader finds in it; None when it cannot be read or understood."""
    if not content.ok:
        return FileFacts(path=path, exists=content.error != "not_found", problem=content.message), None
    values, problem = None, ""
    try:
        values = reader(ops.data_of(content))
    except Refused as refusal:
        problem = str(refusal)
    facts = FileFacts(
        path=path,
        exists=True,
        size=content["size"],
        mtime=ops.time_of(content["mtime"]) if content["mtime"] else None,
        hash=content["hash"],
        readonly=stat.ok and bool(stat.get("readonly", False)),
        problem=problem,
    )
    return facts, values
