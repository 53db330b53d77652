"""The Celery app's configuration."""

import json

import pytest

from workers.broker.names import nodes_queue
from workers.celery_app import CONTROL_QUEUE, NODES_QUEUE, STARTS_QUEUE, make_app, serve_site
from workers.errors import InputRefused
from workers.settings import Secret, Settings

PLANTED = "Pl4nted-Passw0rd"
URL = f"redis://:{PLANTED}@127.0.0.1:6390/0"


def test_only_json_is_used() -> None:
    """Messages, results and events contain nothing that is executed when it is read."""
    conf = make_app(Settings(broker_url=Secret(URL))).conf
    assert ["json"] * 3 == [conf.task_serializer, conf.result_serializer, conf.event_serializer]
    assert (["json"], ["json"]) == (conf.accept_content, conf.result_accept_content)


def test_a_chord_outlives_the_longest_pause() -> None:
    """The counters of a chord are kept for a week, so a run paused over a weekend still joins."""
    conf = make_app(Settings(broker_url=Secret(URL))).conf
    assert [7, 7] == [conf.result_expires.days, conf.result_chord_expires.days]


def test_lost_messages_are_delivered_again_soon() -> None:
    """A step is acknowledged at its end; that of a killed worker is delivered again after the visibility timeout."""
    conf = make_app(Settings(broker_url=Secret(URL), visibility_timeout=60)).conf
    options = conf.broker_transport_options
    assert conf.task_acks_late
    assert 1 == conf.worker_prefetch_multiplier
    assert 60 == options["visibility_timeout"]
    assert options["unacked_restore_interval"] * options["unacked_restore_throttle"] <= 5


def test_a_wait_for_messages_that_gets_no_answer_is_soon_given_up() -> None:
    """Kombu does that after twice its interval; with its default a worker with dead connections slept for a minute."""
    options = make_app(Settings(broker_url=Secret(URL))).conf.broker_transport_options
    assert 2 * options["health_check_interval"] <= 20
    assert options["socket_timeout"] <= 10


def test_control_tasks_have_their_own_queue() -> None:
    """A task whose name matches a control pattern uses the control queue, others the queue of the nodes."""
    app = make_app(Settings(broker_url=Secret(URL)), control=("esync.join*", "esync.rollout"))
    names = ["esync.join_and_verify", "esync.rollout", "esync.config_edit"]
    queues = [app.amqp.router.route({}, name)["queue"].name for name in names]
    assert [CONTROL_QUEUE, STARTS_QUEUE, NODES_QUEUE] == queues


def test_every_process_sends_to_the_queue_of_any_site() -> None:
    """It knows the queue without having it configured, and does not take from it."""
    app = make_app(Settings(broker_url=Secret(URL)))
    routed = app.amqp.router.route({"queue": nodes_queue("ams")}, "esync.config_edit")["queue"]
    assert "esync.v1.nodes.ams" == routed.name == routed.routing_key == routed.exchange.name
    assert {CONTROL_QUEUE, STARTS_QUEUE, NODES_QUEUE} == app.amqp.queues.consume_from.keys()


def test_a_worker_of_a_site_takes_from_the_queue_of_its_nodes() -> None:
    """And queries and joins, like every worker; not the steps on nodes without a site."""
    app = make_app(Settings(broker_url=Secret(URL)))
    serve_site(app, "ams")
    assert {CONTROL_QUEUE, STARTS_QUEUE, nodes_queue("ams")} == app.amqp.queues.consume_from.keys()


def test_a_misspelt_queue_is_an_error() -> None:
    """Publishing to a queue without a worker fails at once."""
    app = make_app(Settings(broker_url=Secret(URL)))
    with pytest.raises(Exception, match=r"esync\.v1\.node'"):
        app.amqp.router.route({"queue": "esync.v1.node"}, "esync.config_edit")


def test_the_password_is_masked() -> None:
    """Celery's report, its table of settings and the repr of the app mask the password of the broker."""
    app = make_app(Settings(broker_url=Secret(URL)))
    shown = [app.bugreport(), json.dumps(app.conf.table(), default=repr), repr(app), app.connection().as_uri()]
    assert "" == "".join(text for text in shown if PLANTED in text)


def test_a_missing_broker_is_reported() -> None:
    """Without a broker the error names the variable."""
    with pytest.raises(InputRefused) as caught:
        make_app(Settings())
    assert "ESYNC_BROKER_URL" in caught.value.remedy


def test_tls_is_verified_on_both_sides() -> None:
    """Broker and results require the server's certificate with rediss://."""
    app = make_app(Settings(broker_url=Secret("rediss://h:6380/0")))
    assert "ssl_cert_reqs=required" in app.conf.broker_url
    assert "ssl_cert_reqs=required" in app.conf.result_backend
