"""What is stored about a task that has ended, while the server is away."""

import socket
from collections.abc import Iterator

import pytest
from celery import Celery, Task
from celery.app.trace import build_tracer
from celery.states import FAILURE
from redis import Redis

from workers.broker.names import CONTROL_QUEUE
from workers.broker.notes import COMPLETE
from workers.celery_app import make_app
from workers.settings import Secret, Settings


@pytest.fixture
def away() -> Iterator[Celery]:
    """An app whose server refuses every connection: its port is bound and no process listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        app = make_app(Settings(broker_url=Secret(f"redis://127.0.0.1:{taken.getsockname()[1]}/0")))
        yield app
        app.close()


def test_a_member_of_a_chord_ends_while_the_server_is_away(away: Celery) -> None:
    """Its thread continues and settles the message, although neither its success nor the failure can be counted."""

    @away.task(name="test.step", ignore_result=True)  # type: ignore[untyped-decorator] # Celery has no types
    def step() -> str:
        return "changed"

    body = away.signature("test.join")
    request = {"id": "a", "chord": body, "group": "g", "group_index": 0, "is_eager": False, "reply_to": ""}
    with pytest.warns(RuntimeWarning, match="outside body"):
        traced = build_tracer("test.step", step, app=away)("a", (), {}, request)
    assert FAILURE == traced.info.state


@pytest.fixture
def app(valkey_url: Secret, valkey: Redis) -> Iterator[Celery]:
    """An app whose server is empty."""
    del valkey
    made = make_app(Settings(broker_url=valkey_url), ["test.join"])
    yield made
    made.close()


@pytest.mark.parametrize(("complete", "members", "called"), [(True, 3, 1), (False, 3, 0), (False, 1, 1)])
def test_the_body_of_a_chord_is_called_when_its_members_say_so(
    *, complete: bool, members: int, called: int, app: Celery, valkey: Redis
) -> None:
    """By a member that knows the turn to be complete, or that is the only one; and nothing is counted in the broker."""

    @app.task(name="test.member", bind=True, shared=False, ignore_result=True)  # type: ignore[untyped-decorator] # Celery has no types
    def step(task: Task) -> None:
        COMPLETE.write(task.request.id, complete)

    body = app.signature("test.join", immutable=True)
    app.backend.apply_chord(("g", [app.AsyncResult(str(number)) for number in range(members)]), body)
    request = {"id": "a", "chord": body, "group": "g", "group_index": 0, "is_eager": False, "reply_to": ""}
    build_tracer("test.member", step, app=app)("a", (), {}, request)
    assert called == valkey.llen(CONTROL_QUEUE)
    assert not valkey.exists("esync.v1.group-g.j")
