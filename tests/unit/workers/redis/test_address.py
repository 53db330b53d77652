"""The address of the broker: which URLs are valid, how three libraries read them, and how others are refused."""

from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.sampling import examples
from workers.celery_app import make_app
from workers.errors import InputRefused
from workers.redis.address import verified
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
        ("redis://:{}[@h/0", "not a URL"),
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
@settings(max_examples=examples(1000, 50), deadline=None)
def test_any_password_can_be_used(password: str) -> None:
    """A percent-encoded password is the same for all three libraries, whatever its characters."""
    (one, *others) = _readings(f"redis://:{quote(password, safe='')}@h:1/0")
    assert one == ("h", 1, 0, None, password)
    assert [one, one] == others


@given(st.text(max_size=30), st.sampled_from(["redis://", "rediss://", "redis://:p@", "redis://h:1/0?", ""]))
@example("[", "redis://")
@settings(max_examples=examples(5000, 200))
def test_any_text_is_read_or_refused(text: str, begin: str) -> None:
    """Any value of the variable is accepted by all libraries, or refused; there is no other error."""
    try:
        once = verified(Secret(begin + text))
    except InputRefused:
        return
    assert once == verified(once)
    connect(once)


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
