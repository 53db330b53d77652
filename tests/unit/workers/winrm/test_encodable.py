"""A user or password that the logon method cannot send is refused before anything is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import InputRefused
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm.encodable import refuse_unencodable
from workers.winrm.remote import WinRMChannel

AT = Endpoint(node="S1", host="h", user="u", secret="env:X")


def at(transport: Transport, user: str = "u") -> Endpoint:
    """An endpoint."""
    return AT.model_copy(update={"transport": transport, "user": user})


@pytest.mark.parametrize("transport", [t for t in Transport if t is not Transport.CERTIFICATE])
@pytest.mark.parametrize(
    ("user", "password", "says"),
    [
        ("u\udce4", "planted", "the user cannot be sent"),
        ("u", "planted\udce4", "the password cannot be sent"),
        ("u", "planted\n", "a line end or NUL as character 8 of 8"),
        ("u\0", "planted", "a line end or NUL as character 2 of 2"),
        ("u", "planted" * 37, "of 259 characters; Windows allows 256"),
    ],
)
def test_a_text_that_no_method_can_send_is_named(transport: Transport, user: str, password: str, says: str) -> None:
    """When the channel is made: there is no connection yet. The password is not shown."""
    with pytest.raises(InputRefused, match=says) as caught:
        WinRMChannel(at(transport, user), Secret(password))
    assert "nothing was sent" in caught.value.message
    assert caught.value.remedy in {"correct `user`", "correct the secret"}
    assert "planted" not in f"{caught.value} {caught.value.remedy}"


def test_only_basic_cannot_send_a_colon_in_the_user() -> None:
    """RFC 7617; a colon in the password is allowed."""
    with pytest.raises(InputRefused, match="a colon, which ends the user in Basic"):
        refuse_unencodable(at(Transport.BASIC, "a:b"), Secret("x"))
    refuse_unencodable(at(Transport.BASIC), Secret("a:b"))
    refuse_unencodable(at(Transport.NTLM, "a:b"), Secret("x"))


def test_a_client_certificate_has_lines() -> None:
    """It is no password."""
    refuse_unencodable(at(Transport.CERTIFICATE), Secret("-----BEGIN\nx\n" * 100))


@given(st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=256))
def test_any_other_password_can_be_sent(password: str) -> None:
    """Of any language."""
    refuse_unencodable(at(Transport.BASIC), Secret(password))
