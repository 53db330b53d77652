"""The login form, and the name of a canary."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.refusals import Refused
from tasks.ektron.sync.canary import canary_bytes, canary_name, run_of
from tasks.ektron.sync.login import form_of, has_password_field, leads_to_login
from tasks.ektron.sync.search import search_config

PAGE = """<html><form action="search.aspx"><input name="q"></form>
<FORM method=post ACTION="login.aspx?a=1&amp;b=2" id=f>
<input type="hidden" name="__VIEWSTATE" value="/wEP&amp;&#x3d;"><input type='hidden' name='__EVENTVALIDATION' value='v'>
<input name="ctl00$username"><INPUT TYPE=Password NAME="ctl00$password"><input name="ctl00$domainname">
<input type=submit name="ctl00$go" value="Log in"><input type=submit name="ctl00$forgot" value="Forgot">
<input type=checkbox name=stay></form>"""


def test_the_form_is_found_and_filled() -> None:
    """Hidden fields go unchanged, the first button is pressed, entities are decoded."""
    form = form_of(PAGE)
    assert "login.aspx?a=1&b=2" == form.action
    assert {
        "__VIEWSTATE": "/wEP&=",
        "__EVENTVALIDATION": "v",
        "ctl00$go": "Log in",
        "ctl00$username": "u",
        "ctl00$password": "p",
        "ctl00$domainname": "d",
    } == form.filled("u", "p", "d")
    assert "p" not in repr(form.hidden.values())


def test_a_page_without_such_a_form_is_refused() -> None:
    """And says that the site may use another way to log in."""
    with pytest.raises(Refused, match="no form"):
        form_of("<form><input name=username></form>")
    assert has_password_field(PAGE)
    assert not has_password_field("<form><input name=username></form>")


@given(st.text(alphabet=st.sampled_from("<>/=\"' finput&;#password$name"), max_size=200))
def test_any_page_is_read_or_refused(page: str) -> None:
    """A broken page is no error of ours."""
    try:
        form_of(page)
    except Refused:
        return


def test_redirects_to_a_login_page_are_recognised() -> None:
    """Whatever the case and the query."""
    assert leads_to_login("/WorkArea/Login.aspx?fromLnkPg=1")
    assert leads_to_login("https://www.example.org/cmslogin.aspx")
    assert not leads_to_login("/workarea/login.aspx.html")
    assert not leads_to_login("")


@given(st.from_regex(re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9._-]{1,32}-[0-9a-f]{6}", re.ASCII), fullmatch=True))
def test_a_canary_names_its_run(run: str) -> None:
    """In any case; its bytes are the run's own."""
    assert run == run_of(canary_name(run, "txt")) == run_of(canary_name(run, "js").upper())
    assert run.encode() in canary_bytes(run)


@pytest.mark.parametrize("name", ["esync-canary-mine.txt", "canary-20260101-101010-a-b.txt", "esync-canary-.txt", "x"])
def test_other_files_are_no_canaries(name: str) -> None:
    """They are never removed."""
    assert "" == run_of(name)


def test_the_search_tool_is_named_with_what_to_choose() -> None:
    """By edition."""
    assert "CMS400 v80 > Utilities > Search Config" in search_config("8.0", "C:\\site", ["P1"])
    assert "register it with the search server" in search_config("9.1", "C:\\site", ["P1"])
