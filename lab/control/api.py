"""The lab's control: a small HTTP interface on loopback that shows nodes and sets or clears their faults.

Every request carries `Authorization: Bearer <token>` (from `lab.json`).

| request | does |
|---|---|
| `GET /lab` | CPU seconds and memory of the lab's process, totals |
| `GET /nodes`, `GET /nodes/S1` | counters, service history, current faults |
| `PUT /nodes/S1/faults` | sets exactly these faults (`lab.machine.faults.Faults`, JSON); `{}` clears all |
| `PATCH /nodes/S1/faults` | changes only the named faults |
| `GET /nodes/S1/operations` | the latest operations of the agent and messages of WinRM, in order |
| `PUT /nodes/S1/conversation` | `{"mode": "record"}` records messages and programs, `play` replays these, or `off` |
| `GET /nodes/S1/conversation` | the recorded messages of the client, in order |
| `POST /nodes/S1/agent` | runs a request of the agent's protocol on a simulated machine, without WinRM |
| `POST /nodes/S1/configurator` | runs the Security Configurator on the node |
| `POST /nodes/S1/sync` | `{"profile": "upload production"}` starts this sync on the node, as another user would |
| `GET /nodes/S1/sync` | what the node's database knows of syncs: the one in progress, entries by profile and server |
"""

import hmac
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, get_args

from aiohttp import web
from pydantic import ValidationError

from lab.agent.session import Agent
from lab.control.mistakes import no_such_node, sentence
from lab.machine.conversation import Mode
from lab.machine.errors import Refusal, Slug
from lab.machine.faults import Faults
from lab.machine.paths import fold
from lab.node import Node
from lab.product.installation import Installation
from lab.product.run import SyncRefused, start_sync
from lab.product.service import LinkBroken
from lab.product.site import run_configurator

__all__ = ["control_app"]

_NODES: web.AppKey[dict[str, Node]] = web.AppKey("nodes", dict)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def control_app(nodes: dict[str, Node], token: str) -> web.Application:
    """The application for the nodes of a lab, by upper-case name; a request without the token gets 401."""

    @web.middleware
    async def authorized(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return web.json_response({"error": "the token of lab.json is required"}, status=401)
        try:
            return await handler(request)
        except ValidationError as error:
            return web.json_response({"error": sentence(error)}, status=400)
        except (Refusal, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)

    app = web.Application(middlewares=[authorized], client_max_size=64 * 1024 * 1024)
    app[_NODES] = nodes
    app.router.add_get("/lab", _lab)
    app.router.add_get("/nodes", _nodes)
    app.router.add_get("/nodes/{name}", _node)
    app.router.add_get("/nodes/{name}/operations", _operations)
    app.router.add_put("/nodes/{name}/faults", _put_faults)
    app.router.add_patch("/nodes/{name}/faults", _patch_faults)
    app.router.add_put("/nodes/{name}/conversation", _put_conversation)
    app.router.add_get("/nodes/{name}/conversation", _conversation)
    app.router.add_post("/nodes/{name}/agent", _agent)
    app.router.add_post("/nodes/{name}/configurator", _configurator)
    app.router.add_post("/nodes/{name}/sync", _start_sync)
    app.router.add_get("/nodes/{name}/sync", _syncs)
    return app


def _named(request: web.Request) -> Node:
    nodes, name = request.app[_NODES], request.match_info["name"]
    node = nodes.get(fold(name))
    if node is None:
        error = no_such_node(name, [known.machine.name for known in nodes.values()])
        raise web.HTTPNotFound(text=json.dumps({"error": error}), content_type="application/json")
    return node


async def _lab(request: web.Request) -> web.Response:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    nodes = request.app[_NODES].values()
    return web.json_response(
        {
            "cpu_seconds": time.process_time(),
            "peak_bytes": usage.ru_maxrss * unit,
            "nodes": len(nodes),
            "round_trips": sum(node.condition.counters.round_trips for node in nodes),
            "powershell_starts": sum(node.condition.counters.powershell_starts for node in nodes),
            "shells_opened": sum(node.condition.counters.shells_opened for node in nodes),
        }
    )


async def _nodes(request: web.Request) -> web.Response:
    return web.json_response([node.report() for node in request.app[_NODES].values()])


async def _node(request: web.Request) -> web.Response:
    return web.json_response(_named(request).report())


async def _operations(request: web.Request) -> web.Response:
    return web.json_response([asdict(seen) for seen in _named(request).condition.counters.latest])


async def _put_faults(request: web.Request) -> web.Response:
    node = _named(request)
    await node.apply(Faults.model_validate_json(await request.read()))
    return web.json_response(node.report())


async def _patch_faults(request: web.Request) -> web.Response:
    node = _named(request)
    present = node.condition.faults.model_dump(mode="json")
    await node.apply(Faults.model_validate_json(json.dumps(_changed(present, await request.json()))))
    return web.json_response(node.report())


def _changed(present: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    """The faults with the named ones changed; of a group such as `service`, too, only the named ones."""
    groups = {}
    for name, value in named.items():
        before = present.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            groups[name] = before | value
    return present | named | groups


async def _put_conversation(request: web.Request) -> web.Response:
    wanted = (await request.json())["mode"]
    if wanted not in get_args(Mode):
        raise Refusal(Slug.INVALID, f"mode must be one of {', '.join(get_args(Mode))}")
    _named(request).condition.conversation.begin(wanted)
    return web.json_response({"mode": wanted})


async def _conversation(request: web.Request) -> web.Response:
    return web.json_response(_named(request).condition.conversation.messages)


async def _agent(request: web.Request) -> web.Response:
    node = _named(request)
    if node.service is None:
        raise Refusal(Slug.INVALID, f"{node.machine.name} has real processes: its agent answers only over WinRM")
    agent = Agent(node.machine)
    try:
        reply = await agent.reply(await request.text())
    finally:
        agent.close()
    return web.Response(text=reply.text, content_type="application/json")


async def _configurator(request: web.Request) -> web.Response:
    node = _named(request)
    run_configurator(node.product)
    return web.json_response(node.report())


def _installed(request: web.Request) -> Installation:
    node = _named(request)
    if not isinstance(node.product, Installation):
        raise Refusal(Slug.INVALID, f"{node.machine.name} has real processes: the lab simulates no syncs there")
    return node.product


async def _start_sync(request: web.Request) -> web.Response:
    program = _installed(request).program
    wanted = (await request.json())["profile"]
    ids = {profile.name: profile.id for _, profile in program.database.profiles()}
    if wanted not in ids:
        raise Refusal(Slug.INVALID, f"no such profile: {wanted!r}; the profiles are {', '.join(ids) or 'none'}")
    try:
        start_sync(program, ids[wanted])
    except (SyncRefused, LinkBroken) as refused:
        raise Refusal(Slug.FAILED, " ".join(map(str, refused.args))) from refused
    return web.json_response({"started": wanted})


async def _syncs(request: web.Request) -> web.Response:
    database = _installed(request).program.database
    names = {profile.id: profile.name for _, profile in database.profiles()}
    status = {names[number]: [asdict(entry) for entry in entries] for number, entries in database.status.items()}
    balance = {server: [asdict(entry) for entry in entries] for server, entries in database.balance.items()}
    running = asdict(database.running) if database.running else None
    return web.json_response({"running": running, "status": status, "balance": balance})
