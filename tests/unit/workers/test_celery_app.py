"""The Celery app's configuration."""

import json

import pytest

from workers.celery_app import CONTROL_QUEUE, NODES_QUEUE, STARTS_QUEUE, make_app
from workers.errors import InputRefused
from workers.settings import Secret, Settings

PLANTED = "Pl4nted-Passw0rd"
URL = f"redis://:{PLANTED}@127.0.0.1:6390/0"


def test_only_json_travels() -> None:
    """Neither messages, results nor events may hold anything that runs when it is read."""
    conf = make_app(Settings(broker_url=Secret(URL))).conf
    assert ["json"] * 3 == [conf.task_serializer, conf.result_serializer, conf.event_serializer]
    assert (["json"], ["json"]) == (conf.accept_content, conf.result_accept_content)


def test_a_chord_outlives_the_longest_pause() -> None:
    """What a chord counts with is kept for a week, so a run paused over a weekend still joins."""
    conf = make_app(Settings(broker_url=Secret(URL))).conf
    assert [7, 7] == [conf.result_expires.days, conf.result_chord_expires.days]


def test_the_lost_come_back_soon() -> None:
    """A step is acknowledged when it ends; one of a dead worker comes back at the visibility timeout, seconds later."""
    conf = make_app(Settings(broker_url=Secret(URL), visibility_timeout=60)).conf
    options = conf.broker_transport_options
    assert conf.task_acks_late
    assert 1 == conf.worker_prefetch_multiplier
    assert 60 == options["visibility_timeout"]
    assert options["unacked_restore_interval"] * options["unacked_restore_throttle"] <= 5


def test_control_tasks_have_their_own_queue() -> None:
    """A task whose name matches a control pattern goes to the control queue, all others to the nodes'."""
    app = make_app(Settings(broker_url=Secret(URL)), control=("esync.join*", "esync.rollout"))
    names = ["esync.join_and_verify", "esync.rollout", "esync.config_edit"]
    queues = [app.amqp.router.route({}, name)["queue"].name for name in names]
    assert [CONTROL_QUEUE, STARTS_QUEUE, NODES_QUEUE] == queues


def test_a_misspelt_queue_is_an_error() -> None:
    """Publishing to a queue that nobody reads fails at once."""
    app = make_app(Settings(broker_url=Secret(URL)))
    with pytest.raises(Exception, match=r"esync\.v1\.node'"):
        app.amqp.router.route({"queue": "esync.v1.node"}, "esync.config_edit")


def test_the_password_shows_nowhere() -> None:
    """Celery's own report, its table of settings and the app's repr mask the broker's password."""
    app = make_app(Settings(broker_url=Secret(URL)))
    shown = [app.bugreport(), json.dumps(app.conf.table(), default=repr), repr(app), app.connection().as_uri()]
    assert "" == "".join(text for text in shown if PLANTED in text)


def test_no_broker_is_said() -> None:
    """Without a broker the error names the variable."""
    with pytest.raises(InputRefused) as caught:
        make_app(Settings())
    assert "ESYNC_BROKER_URL" in caught.value.remedy


def test_tls_is_verified_on_both_sides() -> None:
    """Broker and results over rediss both require the server's certificate."""
    app = make_app(Settings(broker_url=Secret("rediss://h:6380/0")))
    assert "ssl_cert_reqs=required" in app.conf.broker_url
    assert "ssl_cert_reqs=required" in app.conf.result_backend
