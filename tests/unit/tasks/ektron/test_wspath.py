"""WSPath: which host it names and where the site is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.wspath import host_of, places_to_ask, without_logon

CONTENT = "Workarea/webservices/ContentWS.asmx"


@pytest.mark.parametrize(
    ("ws_path", "site", "first"),
    [
        ("http://s1/WorkArea/ServerControlWS.asmx", "/", f"http://s1/{CONTENT}"),
        ("https://S1.corp.example/WorkArea/ServerControlWS.asmx", None, f"https://S1.corp.example/{CONTENT}"),
        ("http://s1:8080/cms/WorkArea/ServerControlWS.asmx?wsdl", "/cms/", f"http://s1:8080/cms/{CONTENT}"),
        ("http://[::1]/x", "", f"http://[::1]/{CONTENT}"),
        (" http://user:pw@s1/x ", "/", f"http://s1/{CONTENT}"),
    ],
)
def test_the_page_that_every_release_has_is_asked_first(ws_path: str, site: str | None, first: str) -> None:
    """Scheme, host and port are those of WSPath, the folder that of the site; the page it names comes second."""
    places = places_to_ask(ws_path, site)
    assert places[0] == first
    assert len(places) == 2
    assert "pw" not in "".join(places)


def test_behind_a_balancer_that_ends_tls_the_other_scheme_is_asked_too() -> None:
    """The server itself then answers only over http, whatever WSPath says."""
    assert places_to_ask("https://www.site.example/x", "/", offloaded=True)[-1] == f"http://www.site.example/{CONTENT}"
    assert places_to_ask("http://[::1]:8080/x", "/", offloaded=True)[-1] == f"https://[::1]/{CONTENT}"


@pytest.mark.parametrize(
    "text", [None, "", "/x", "s1", "ftp://s1/", "file:///c:/x", "http://", "http://s1:0/", "http://[x/"]
)
def test_a_text_without_host_names_no_place(text: str | None) -> None:
    """What is no absolute http or https address is not asked."""
    assert (host_of(text), places_to_ask(text, "/")) == ("", ())


@given(st.text(max_size=80), st.text(max_size=20))
def test_any_value_gives_addresses_or_none(ws_path: str, site: str) -> None:
    """No value breaks the reader, and every place is of the two schemes."""
    for text in (ws_path, f"http://{ws_path}"):
        places = places_to_ask(text, site, offloaded=True)
        assert all(place.startswith(("http://", "https://")) for place in places)


@given(st.text(max_size=40))
def test_no_password_is_kept(password: str) -> None:
    """User and password in front of the host are dropped before the value is stored; nothing else is."""
    assert without_logon(f"http://user:{password.replace('/', '')}@s1/x@y") == "http://s1/x@y"
    assert without_logon("http://s1/x@y") == "http://s1/x@y"
