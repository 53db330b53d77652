"""Asks a node: named questions, and the files that its configuration files include, which only their content names."""

from collections.abc import Mapping

from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile
from tasks.observe.configuration import CONFIG_LIMIT, contents_of, included_questions
from tasks.step import Work
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["answers_to", "content_of", "with_included"]


def answers_to(work: Work, questions: Mapping[str, Op]) -> dict[str, Reply]:
    """The answers to named questions, from one exchange; a question that fails does not stop the others.

    Raises:
        EsyncError: the session broke.
    """
    replies = work.session.ask(
        list(questions.values()), deadline=work.deadline, keep_going=True, cancelled=work.cancelled
    )
    return dict(zip(questions, replies, strict=True))


def with_included(work: Work, paths: Mapping[ConfigFile, str], answers: Mapping[str, Reply]) -> dict[str, Reply]:
    """The answers, and those about the included files: one more exchange, where a file names an unusual one.

    Raises:
        EsyncError: the session broke.
    """
    more = included_questions(paths, answers)
    return {**answers, **(answers_to(work, more) if more else {})}


def content_of(work: Work, file: ConfigFile, path: str) -> tuple[Content, Mapping[str, Reply]]:
    """One configuration file of the node with those that it includes, and the replies by the name of the question.

    Raises:
        EsyncError: the session broke, or the file cannot be read.
    """
    answers = answers_to(work, {file: ops.read(path, limit=CONFIG_LIMIT)})
    ops.data_of(answers[file])
    answers = with_included(work, {file: path}, answers)
    return contents_of({file: path}, answers)[file], answers
