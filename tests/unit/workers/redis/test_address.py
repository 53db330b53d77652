"""The address of the broker: which URLs are valid, how three libraries read them, and how others are refused."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.sampling import examples
from workers.celery_app import make_app
from workers.errors import InputRefused
from workers.redis.address import address_of, verified
from workers.redis.connection import connect
from workers.settings import Secret, Settings

PLANTED = "Pl4nted-Passw0rd"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "it is empty"),
        ("{}", "neither redis:// nor rediss://"),
        ("amqp://:{}@h/0", "neither redis:// nor rediss://"),
        ("unix://:{}@/tmp/s", "neither redis:// nor rediss://"),
        ("redis+socket:///tmp/s", "neither redis:// nor rediss://"),
        ("redis://", "has no host"),
        ("redis:///0", "has no host"),
        ("redis://:{}@/0", "has no host"),
        ("redis://:{}@h:port/0", "the port"),
        ("redis://:{}@h:99999/0", "the port"),
        ("redis://:{}@h:0/0", "the port"),
        ("redis://:{}@h:1:2/0", "the port"),
        ("redis://:{}@h/prod", "is not the number of a database"),
        ("redis://:{}@h/-1", "is not the number of a database"),
        ("redis://:{}@h/0/1", "is not the number of a database"),
        ("redis://:{}@h/0;redis://i/0", "is not the number of a database"),
        ("redis://:{}@h/0?db=3", "the option db"),
        ("redis://:{}@h/0?socket_timeout=1", "the option socket_timeout"),
        ("redis://:{}@h/0?X{}=1", "an option"),
        ("redis://:{}@h/0?{}", "not a URL"),
        ("redis://:{}[@h/0", "must be percent-encoded"),
        ("redis://[::1/0", "not a URL"),
        ("redis://[x]/0", "not a URL"),
        ("redis://%ff:{}@h/0", "not a URL"),
        ("redis://:{}/x@h/0", "must be percent-encoded"),
        ("redis://:{}?x@h/0", "must be percent-encoded"),
        ("redis://:{}#x@h/0", "must be percent-encoded"),
        ("redis://:{} x@h/0", "a blank"),
        ("redis://:{}@h/0\n", "a blank"),
        ("redis://{}@h/0", "a user but no password"),
        ("redis://h,i/0", "the host is not a valid name"),
        ("redis://%2Ftmp%2Fs/0", "the host is not a valid name"),
        ("redis://:{}@h/0?ssl_ca_certs=/x", "requires TLS"),
        ("redis://:{}@h/0?ssl_cert_reqs=none", "turns the check of the server certificate off"),
        ("rediss://:{}@h/0?ssl_cert_reqs=none", "turns the check of the server certificate off"),
        ("rediss://:{}@h/0?ssl_cert_reqs=optional", "turns the check of the server certificate off"),
        ("rediss://:{}@h/0?ssl_cert_reqs=required&ssl_cert_reqs=none", "turns the check of the server certificate off"),
        ("rediss://:{}@h/0?ssl_check_hostname=False", "turns the check of the server certificate off"),
        ("rediss://:{}@h/0?ssl_ca_certs=", "ssl_ca_certs is empty"),
        ("rediss://:{}@h/0?ssl_ca_certs=/nowhere/ca.pem", "/nowhere/ca.pem: No such file"),
        ("rediss://:{}@h/0?ssl_ca_certs=/etc/passwd", "ssl_ca_certs is not valid PEM"),
        ("rediss://:{}@h/0?ssl_certfile=/etc/passwd", "ssl_certfile or ssl_keyfile is not valid PEM"),
        ("rediss://:{}@h/0?ssl_keyfile=/etc/passwd", "ssl_keyfile and no ssl_certfile"),
        ("sentinel://:{}@h,i/0", "does not name the server"),
        ("sentinel://:{}@h,i/0?master=", "master is empty"),
        ("sentinel://:{}@h,i/0?master=a%20b", "not a name that Sentinel accepts"),
        ("sentinel://:{}@h,i/0?master=a&sentinel_password=", "sentinel_password is empty"),
        ("sentinel://:{}@h,,i/0?master=a", "has no host"),
        ("sentinel://:{}@h,i:x/0?master=a", "the port"),
        ("sentinel://:{}@h,i/x?master=a", "is not the number of a database"),
        ("sentinel://:{}@h,i/0?master=a&ssl_ca_certs=/x", "requires TLS"),
        ("sentinels://:{}@h,i/0?master=a&ssl_cert_reqs=none", "turns the check of the server certificate off"),
        ("sentinels://:{}@h,i/0?master=a&ssl_ca_certs=/nowhere/ca.pem", "/nowhere/ca.pem: No such file"),
        ("redis://:{}@h/0?master=a", "the option master"),
    ],
)
def test_an_invalid_url_is_refused(url: str, reason: str) -> None:
    """The error has the variable, the reason and a remedy, and never the password."""
    planted = Secret(url.replace("{}", PLANTED))
    for parse in (connect, verified):
        with pytest.raises(InputRefused) as caught:
            parse(planted, "ESYNC_STORE_URL")
        assert caught.value.message.startswith("ESYNC_STORE_URL is invalid: ")
        assert reason in caught.value.message
        assert caught.value.remedy
        assert PLANTED not in f"{caught.value!r}{caught.value.remedy}{caught.value.__cause__!r}"
    with pytest.raises(InputRefused, match="ESYNC_BROKER_URL is invalid"):
        make_app(Settings.model_construct(broker_url=planted))


def _readings(url: str) -> list[tuple[object, ...]]:
    """Host, port, database, user and password as our client, kombu and Celery's result backend read them."""
    ours = connect(Secret(url)).connection_pool.connection_kwargs
    app = make_app(Settings(broker_url=Secret(url)))
    sent, results = app.connection(), app.backend.connparams
    return [
        (ours["host"], ours["port"], ours["db"], ours.get("username"), ours.get("password")),
        (sent.hostname, sent.port, int(sent.virtual_host), sent.userid, sent.password),
        tuple(results.get(name) for name in ("host", "port", "db", "username", "password")),
    ]


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("redis://h", ("h", 6379, 0, None, None)),
        ("redis://H.example:/", ("h.example", 6379, 0, None, None)),
        ("redis://:p@10.0.0.1:7000/15", ("10.0.0.1", 7000, 15, None, "p")),
        ("redis://u:p@[::1]:7000/3", ("::1", 7000, 3, "u", "p")),
        ("redis://:a@b:c;d,e%2Ff%zz@h/1", ("h", 6379, 1, None, "a@b:c;d,e/f%zz")),
    ],
)
def test_all_libraries_read_the_same(url: str, read: tuple[object, ...]) -> None:
    """Everything that one of them would guess or parse in another way is written explicitly."""
    assert [read] * 3 == _readings(url)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
@example("[")
@example("%41;,+ ")
@settings(max_examples=examples(1000, 25), deadline=None)
def test_any_password_can_be_used(password: str) -> None:
    """A percent-encoded password is the same for all three libraries, whatever its characters."""
    (one, *others) = _readings(f"redis://:{quote(password, safe='')}@h:1/0")
    assert one == ("h", 1, 0, None, password)
    assert [one, one] == others


BEGINNINGS = ["redis://", "rediss://", "redis://:p@", "redis://h:1/0?", "sentinel://h,", "sentinel://h/0?master=m&", ""]


@given(st.text(max_size=30), st.sampled_from(BEGINNINGS))
@example("[", "redis://")
@settings(max_examples=examples(5000, 60))
def test_any_text_is_read_or_refused(text: str, begin: str) -> None:
    """Any value of the variable is accepted by all libraries, or refused; there is no other error."""
    try:
        once = verified(Secret(begin + text))
    except InputRefused:
        return
    assert once == verified(once)
    connect(once)


@pytest.mark.parametrize(
    ("url", "written", "hosts", "server"),
    [
        ("sentinel://:p@h,i:7/?master=m", "sentinel://:p@h:26379,i:7/0?master=m", [("h", 26379), ("i", 7)], "p"),
        ("sentinel://[::1],i/3?master=m.1", "sentinel://[::1]:26379,i:26379/3?master=m.1", [("::1", 26379)], None),
        (
            "sentinel://:a%2Fb@h/0?master=m&sentinel_user=u&sentinel_password=c%2Fd",
            "sentinel://:a%2Fb@h:26379/0?master=m&sentinel_user=u&sentinel_password=c%2Fd",
            [("h", 26379)],
            "a/b",
        ),
    ],
)
def test_all_libraries_ask_the_same_sentinels(
    url: str, written: str, hosts: list[tuple[str, int]], server: str | None
) -> None:
    """Host, port, name, both logons and the database are the same for our client, messages and results."""
    assert written == verified(Secret(url)).reveal()
    app = make_app(Settings(broker_url=Secret(url)))
    sentinels = app.conf.broker_transport_options["sentinels"]
    assert sentinels is app.conf.result_backend_transport_options["sentinels"]
    results: Any = app.backend.client.connection_pool
    ours: Any = connect(Secret(url)).connection_pool
    sent = sentinels.pool({"host": "h", "password": server, "db": int(app.connection().virtual_host)})
    for pool in (results, ours, sent):
        asked = [client.connection_pool.connection_kwargs for client in pool.sentinel_manager.sentinels]
        assert hosts == [(one["host"], one["port"]) for one in asked][: len(hosts)]
        assert {"c/d" if "sentinel_" in url else None} == {one["password"] for one in asked}
        kept = pool.connection_kwargs
        assert (server, int(url.partition("?")[0][-1:].replace("/", "0"))) == (kept.get("password"), kept["db"])
        assert pool.service_name == written.partition("master=")[2].partition("&")[0]


def test_a_password_of_the_sentinels_is_masked() -> None:
    """Neither password is in Celery's report, in its table of settings or in the repr of anything."""
    url = Secret(f"sentinel://:{PLANTED}@h,i/0?master=m&sentinel_password={PLANTED}-2")
    app = make_app(Settings(broker_url=url))
    shown = [app.bugreport(), repr(app.conf.table()), repr(address_of(url)), app.connection().as_uri()]
    shown += [repr(app.conf.broker_transport_options), app.backend.as_uri(), repr(connect(url))]
    assert "" == "".join(text for text in shown if PLANTED in text)


def test_files_of_two_pairs_are_refused(tmp_path: Path) -> None:
    """A client certificate with the key of another one is reported before any connection."""
    pairs = [trustme.CA().issue_cert("esync") for _ in range(2)]
    pairs[0].cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    pairs[1].private_key_pem.write_to_path(tmp_path / "key.pem")
    with pytest.raises(InputRefused, match="ssl_keyfile is not the key of ssl_certfile"):
        verified(Secret(f"rediss://h/0?ssl_certfile={tmp_path}/cert.pem&ssl_keyfile={tmp_path}/key.pem"))


def test_tls_is_always_verified(tmp_path: Path) -> None:
    """With rediss:// the certificate is required explicitly; the certificate files are kept."""
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(authority)
    url = verified(Secret(f"rediss://:p%40ss@h:6380/2?ssl_ca_certs={authority}")).reveal()
    assert f"rediss://:p%40ss@h:6380/2?ssl_ca_certs={quote(str(authority), safe='')}&ssl_cert_reqs=required" == url
    pool = connect(Secret(url)).connection_pool
    assert ("required", str(authority), "p@ss") == tuple(
        pool.connection_kwargs[name] for name in ("ssl_cert_reqs", "ssl_ca_certs", "password")
    )
