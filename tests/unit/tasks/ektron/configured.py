"""Configuration files as bytes, and the facts that the product makes of them."""

import base64
import hashlib
from collections.abc import Mapping, Sequence

from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.desired.settings import setting_differences
from tasks.ektron.desired.target import Difference, Target
from tasks.ektron.facts import ConfigurationFacts
from tasks.observe.configuration import configuration_facts, configuration_questions
from workers.winrm.operations import Reply

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


def configuration_of(files: Mapping[ConfigFile, bytes], nodes: Sequence[str]) -> ConfigurationFacts:
    """The facts of a node with these files and no others."""
    found: dict[str, Mapping[str, object]] = {file: content(data) for file, data in files.items()}
    found |= {file.stat: {"ok": True, "exists": True, "readonly": False} for file in files}
    questions = configuration_questions(PATHS)
    answers = {name: Reply(op, found.get(name, MISSING)) for name, op in questions.items()}
    return configuration_facts(PATHS, answers, nodes, lambda text: f"digest of {len(text)} characters")


def differences_of(file: ConfigFile, data: bytes, target: Target) -> list[Difference]:
    """What the plan says of one file with these bytes."""
    return list(setting_differences(configuration_of({file: data}, target.nodes), target, [file]))
