"""Configuration files as bytes, and the facts that the product makes of them."""

import base64
import hashlib
from collections.abc import Mapping, Sequence

from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.desired.settings import setting_differences
from tasks.ektron.desired.target import Difference, Target
from tasks.ektron.facts.configuration import ConfigurationFacts
from tasks.observe.configuration import configuration_facts, configuration_questions, included_questions
from workers.winrm.operations import Op, Reply

PATHS = {file: rf"C:\node\{file}.config" for file in ConfigFile}
MISSING: Mapping[str, object] = {"ok": False, "error": "not_found", "message": "no such file"}


def content(data: bytes) -> dict[str, object]:
    """What an agent replies to a question for a file's bytes."""
    return {
        "ok": True,
        "data": base64.b64encode(data).decode(),
        "size": len(data),
        "hash": hashlib.sha256(data).hexdigest(),
        "mtime": "2026-11-23T12:00:00Z",
    }


def configuration_of(files: Mapping[ConfigFile, Content], nodes: Sequence[str]) -> ConfigurationFacts:
    """The facts of a node with these files, those that they include, and no others."""
    there = {"ok": True, "exists": True, "readonly": False}
    found: dict[str, Mapping[str, object]] = {file: content(whole.data) for file, whole in files.items()}
    found |= dict.fromkeys((file.stat for file in files), there)
    for file, whole in files.items():
        found |= {file.includes(name): content(data) for name, data in whole.included.items()}
        found |= dict.fromkeys((file.stat_of(name) for name in whole.included), there)

    def answered(questions: Mapping[str, Op]) -> dict[str, Reply]:
        return {name: Reply(op, found.get(name, MISSING)) for name, op in questions.items()}

    answers = answered(configuration_questions(PATHS))
    answers |= answered(included_questions(PATHS, answers))
    return configuration_facts(PATHS, answers, nodes, lambda text: f"digest of {len(text)} characters")


def differences_of(file: ConfigFile, data: Content, target: Target) -> list[Difference]:
    """What the plan says of one file with these bytes."""
    return list(setting_differences(configuration_of({file: data}, target.nodes), target, [file]))
