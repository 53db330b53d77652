"""Which logon methods a server offers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.winrm.challenges import offered


@pytest.mark.parametrize(
    ("challenges", "names"),
    [
        (["Negotiate", 'Basic realm="WSMAN"', "Kerberos"], ("Negotiate", "Basic", "Kerberos")),
        (['Basic realm="a, Digest", Negotiate'], ("Basic", "Negotiate")),
        (["Basic realm=x, charset=utf-8 , CredSSP"], ("Basic", "CredSSP")),
        (["Negotiate TlRMTVNTUAAC==", "NEGOTIATE"], ("Negotiate",)),
        ([' Digest qop="auth", nonce="a\\"b", Bearer'], ("Digest", "Bearer")),
        (["", " , ", "=", "?"], ()),
    ],
)
def test_each_method_is_named_once(challenges: list[str], names: tuple[str, ...]) -> None:
    """Parameters and tokens are no methods; several methods may share a header."""
    assert names == offered(challenges)


@given(st.lists(st.text(max_size=60), max_size=30))
def test_any_headers_give_a_few_short_names(challenges: list[str]) -> None:
    """They can be shown as they are."""
    names = offered(challenges)
    assert len(names) <= 20
    assert all(name.isascii() and name.isprintable() and len(name) <= 40 for name in names)
