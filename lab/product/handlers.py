"""The handlers below `WorkArea/sync/`, with their answers (ektron-facts 4.3): JSON as text, always HTTP 200.

A user who may not do something gets the literal `null` from SyncHandler; an action that does not exist gets `null`
there, and an empty body from the handlers of load balancing.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable

from lab.machine.web import Page
from lab.product.asked import Asked, Handler
from lab.product.database import (
    ADMINISTRATORS,
    ENDED,
    FAILED,
    SYNC_ADMIN,
    SYNC_USER,
    Profile,
    Relationship,
    finished,
    named,
)
from lab.product.run import SyncRefused, refresh, start_sync
from lab.product.service import EktronService, LinkBroken

__all__ = ["HANDLERS"]

_NULL = "null"


def _page(answer: object) -> Page:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    headers = (("Cache-Control", "no-cache"), ("Pragma", "no-cache"), ("Expires", "-1"))
    return Page(200, text.encode(), "text/plain; charset=utf-8", headers)


# -- SyncHandler -----------------------------------------------------------------------------------------------


async def _sync_handler(asked: Asked) -> Page:
    action = _ACTIONS.get(asked.action)
    if action is None or not asked.may(SYNC_ADMIN, SYNC_USER):
        return _page(_NULL)
    return _page(await action(asked))


async def _get_profiles(asked: Asked) -> object:
    return {"Success": True, "Relationships": [_relationship(asked, one) for one in asked.database.relationships]}


def _relationship(asked: Asked, one: Relationship) -> dict[str, object]:
    remote = asked.service.farm.services
    path = next((str(s.site.folder) for s in remote.values() if s.name == one.server and s.site), asked.site_path)
    return {
        "RelationshipId": one.id,
        "DatabaseName": named(one.remote, "database"),
        "ServerName": one.server,
        "LocalSitePath": asked.site_path,
        "RemoteSitePath": path,
        "LocalMultiSite": "",
        "Direction": one.profiles[0].direction.value if one.profiles else "",
        "Profiles": [_profile(profile) for profile in one.profiles],
    }


def _profile(profile: Profile) -> dict[str, object]:
    return {
        "ProfileId": profile.id,
        "ProfileName": profile.name,
        "Direction": profile.direction.value,
        "Items": [item.value for item in profile.items],
    }


async def _in_progress(asked: Asked) -> object:
    running = asked.database.running
    found = asked.database.profile(running.profile) if running else None
    return {
        "Success": True,
        "IsSyncInProgress": running is not None,
        "ProfileId": running.profile if running else 0,
        "ProfileName": found[1].name if found else "",
        "Messages": [],
    }


async def _sync(asked: Asked) -> object:
    """Answers when the sync has ended: the page of the product does not wait for it (ektron-facts 4.1)."""
    found = asked.database.profile(asked.number)
    answer = {"ProfileId": asked.number, "ProfileName": found[1].name if found else ""}
    if asked.problem:
        return answer | {"Success": False, "Messages": [asked.problem]}
    try:
        running = start_sync(asked.service, asked.number)
    except (SyncRefused, LinkBroken) as refused:
        return answer | {"Success": False, "Messages": [str(one) for one in refused.args]}
    await _ended(running)
    failed = [entry.message for entry in asked.database.status.get(asked.number, []) if entry.code == FAILED]
    return answer | {"Success": not failed and not running.cancelled(), "Messages": failed}


async def _ended(running: "asyncio.Task[None]") -> None:
    """Waits for a task that may end because its service does; a client that goes away does not end it."""
    await asyncio.wait([running])


async def _certificates(asked: Asked) -> object:
    loaded = asked.service.loaded
    keys = sorted(loaded.clients) if loaded else []
    return {"Success": bool(keys), "Certificates": [key.rpartition("_SyncClient")[0] for key in keys]}


async def _sites(asked: Asked) -> object:
    """The sites of this server, or of another: only those whose address is the name of the certificate (4.3)."""
    fields = asked.request.fields
    service = asked.service
    if fields.get("local", "").lower() != "true":
        try:
            service = await asked.service.call(fields.get("server", ""))
        except LinkBroken as broken:
            return {"Success": False, "Sites": [], "Messages": [str(broken)]}
        if service.name.lower() != fields.get("certificate", "").lower():
            return {"Success": True, "Sites": []}
    return {"Success": True, "Sites": [_site(service)] if service.site else []}


def _site(service: EktronService) -> dict[str, object]:
    connection = service.site.connection if service.site else ""
    return {
        "ServerName": service.name,
        "DatabaseName": named(connection, "database"),
        "DatabaseServerName": named(connection, "server"),
        "IntegratedSecurity": named(connection, "integrated security").lower() in {"true", "sspi"},
        "SitePaths": [str(service.site.folder)] if service.site else [],
    }


_ACTIONS: dict[str, Callable[[Asked], Awaitable[object]]] = {
    "getprofiles": _get_profiles,
    "issyncinprogress": _in_progress,
    "sync": _sync,
    "certificates": _certificates,
    "sites": _sites,
}


# -- status, load balancing ------------------------------------------------------------------------------------


async def _sync_status_handler(asked: Asked) -> Page:
    """Without a check of roles; complete only if the last entry is SyncEnded (ektron-facts 4.4)."""
    if asked.action != "status":
        return _page(_NULL)
    entries = asked.database.status.get(asked.number, [])
    return _page(
        {
            "Success": not any("failed" in entry.code.lower() for entry in entries),
            "IsComplete": bool(entries) and entries[-1].code == ENDED,
            "Messages": [],
            "Entries": [
                {
                    "Code": entry.code,
                    "DateCreated": asked.time(entry),
                    "Message": entry.message,
                    "Details": entry.details,
                    "Statistics": "",
                }
                for entry in entries
            ],
        }
    )


async def _balancing_handler(asked: Asked) -> Page:
    """Starts a refresh, and answers when it has ended (ektron-facts 4.1)."""
    if asked.action != "loadbalance":
        return _page("")
    if not asked.may(ADMINISTRATORS, SYNC_ADMIN) or not asked.load_balanced:
        return _page({"Success": False, "IsAuthorized": False, "Message": "You are not authorized."})
    if asked.problem:
        return _page({"Success": False, "IsAuthorized": True, "Message": asked.problem})
    try:
        await _ended(refresh(asked.service))
    except (SyncRefused, LinkBroken) as refused:
        return _page({"Success": False, "IsAuthorized": True, "Message": str(refused)})
    entries = asked.database.balance.get(asked.service.name, [])
    if not entries:
        return _page({"Success": False, "IsAuthorized": True, "Message": "There is no status."})
    failed = entries[-1].code == FAILED
    return _page({"Success": not failed, "IsAuthorized": True, "Message": entries[-1].message})


async def _balancing_status_handler(asked: Asked) -> Page:
    if asked.action != "status":
        return _page("")
    entries = asked.database.balance.get(asked.service.name, [])
    return _page(
        {
            "Success": not any("failed" in entry.code.lower() for entry in entries),
            "IsAuthorized": asked.user is not None,
            "Message": "",
            "IsComplete": finished(entries),
            "Entries": [
                {"Code": entry.code, "Message": entry.message, "Error": entry.details, "Date": asked.time(entry)}
                for entry in entries
            ],
        }
    )


#: file name, in lower case -> the handler
HANDLERS: dict[str, Handler] = {
    "synchandler.ashx": _sync_handler,
    "syncstatushandler.ashx": _sync_status_handler,
    "loadbalancinghandler.ashx": _balancing_handler,
    "loadbalancingstatushandler.ashx": _balancing_status_handler,
}
