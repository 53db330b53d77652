"""The ways into a node: which logon methods its listener offers, over http or https, and how strictly."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DEFAULT", "Method", "Ways"]

Method = Literal["negotiate", "kerberos", "credssp", "basic", "certificate"]


class Ways(BaseModel):
    """The listener of a node.

    Attributes:
        scheme: over `http` a message that is not encrypted gets status 500 (AllowUnencrypted is false).
        offers: the logon methods. `kerberos` needs the keytab that KRB5_KTNAME names in the environment of the lab.
        strict_binding: a logon over https without the right channel binding is refused (CbtHardeningLevel Strict).
        tls_1_0: the listener speaks nothing newer than TLS 1.0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: Literal["https", "http"] = "https"
    offers: Annotated[tuple[Method, ...], Field(min_length=1)] = ("negotiate", "basic")
    strict_binding: bool = False
    tls_1_0: bool = False


DEFAULT = Ways()
