"""Logons that fail: which errors the exceptions of a logon become, by who refused what. `faults` calls this."""

from spnego.exceptions import CredentialsExpiredError, NoCredentialError
from winrm.exceptions import AuthenticationError

from workers.errors import EsyncError, InputRefused, LogonRefused, MethodRefused
from workers.records import Transport
from workers.winrm.answered import LOG, Asked, failed, log_unknown, quoted, unknown
from workers.winrm.answers import CredentialsRefused, LogonBroken, NotOffered
from workers.winrm.challenges import offered
from workers.winrm.known_answers import known

__all__ = ["logon_broken", "logon_not_possible", "logon_refused"]


def logon_refused(error: AuthenticationError, asked: Asked) -> EsyncError:
    """A logon that the node ended with HTTP status 401."""
    at, offers = asked.at, _offered(error)
    if isinstance(error, CredentialsRefused) and error.early:
        return LogonRefused(
            f"{asked} ended the NTLM logon of {at.user} after the first message, before it could judge a password"
            f"{offers}",
            remedy="the policy `Network security: Restrict NTLM: Incoming NTLM traffic` there does that: use Kerberos "
            "(`transport: kerberos`), or let the owner of the policy add an exception",
        )
    if offers and at.transport is Transport.BASIC and "basic" not in offers.lower():
        return _method_refused(f"does not offer the logon method Basic{offers}", asked)
    what = f"the user, the {at.secret.partition(':')[0]} secret"
    if at.transport is Transport.KERBEROS:
        what = f"the clocks (Kerberos allows five minutes), the name HTTP/{at.host} (setspn -L)"
    return LogonRefused(
        f"{asked} refused the logon of {at.user} with {at.transport}{offers}",
        remedy=f"check {what} and that the account is an administrator there; the reason is in the Security event log "
        "(4625); there was only one attempt, so that no account is locked",
    )


def _offered(error: AuthenticationError) -> str:
    """The methods that the node offers, as part of a sentence."""
    challenges = error.challenges if isinstance(error, CredentialsRefused) else ()
    names = offered(challenges)
    return f"; it offers {', '.join(names)}" if names else ""


def _method_refused(problem: str, asked: Asked) -> EsyncError:
    at = asked.at
    remedy = (
        f"use an offered method as `transport`, or allow {at.transport} there (winrm get winrm/config/service/auth)"
    )
    return MethodRefused(f"{asked} {problem}", remedy=remedy)


def logon_broken(error: LogonBroken, asked: Asked) -> EsyncError:
    """A logon that ended without a refusal: the method is not offered, or an answer was not valid."""
    if isinstance(error, NotOffered):
        return _method_refused(quoted(error), asked)
    row = known().of_ticket(_causes(error)) if asked.at.transport is Transport.KERBEROS else None
    if row is not None:
        return failed(row, asked, f": {quoted(_causes(error))}")
    return unknown(asked, error, quoted(error))


def logon_not_possible(error: Exception, asked: Asked) -> EsyncError:
    """A logon for which this machine cannot send anything: no package, no ticket."""
    at, causes = asked.at, _causes(error)
    row = known().of_ticket(causes) if at.transport is Transport.KERBEROS else None
    if row is not None:
        return failed(row, asked, f": {quoted(causes)}")
    problem = f"{at.node}: logon with {at.transport} is not possible from this machine: {quoted(causes)}"
    if isinstance(error, ImportError):
        return InputRefused(problem, remedy=f"install the packages for {at.transport}, or use ntlm")
    log_unknown(asked, error)
    return InputRefused(problem, remedy=f"nothing was sent; {LOG}")


def _causes(error: BaseException | None) -> str:
    """The texts of an exception and of those that caused it."""
    texts = []
    while error is not None:
        texts.append(str(error))
        if isinstance(error, CredentialsExpiredError):
            texts.append("credentials have expired")
        if isinstance(error, NoCredentialError):
            texts.append("no Kerberos credentials available")
        error = error.__cause__ or error.__context__
    return ": ".join(dict.fromkeys(filter(None, texts)))
