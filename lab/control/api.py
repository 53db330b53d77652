"""The lab's control: a small HTTP interface on loopback that shows nodes and sets or clears their faults.

Every request carries `Authorization: Bearer <token>` (from `lab.json`).

| request | does |
|---|---|
| `GET /lab` | CPU seconds and memory of the lab's process, totals |
| `GET /nodes`, `GET /nodes/S1` | counters, service history, current faults |
| `PUT /nodes/S1/faults` | sets exactly these faults (`lab.machine.faults.Faults`, JSON); `{}` clears all |
| `PATCH /nodes/S1/faults` | changes only the named faults |
| `GET /nodes/S1/operations` | the latest operations of the agent and messages of WinRM, in order |
| `POST /nodes/S1/agent` | runs a request of the agent's protocol on a simulated machine, without WinRM |
| `POST /nodes/S1/configurator` | runs the Security Configurator on the node |
"""

import hmac
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import web
from pydantic import ValidationError

from lab.agent.session import Agent
from lab.control.mistakes import no_such_node, sentence
from lab.control.running import Lab
from lab.machine.errors import Refusal, Slug
from lab.machine.faults import Faults
from lab.node import Node
from lab.product.site import run_configurator

__all__ = ["control_app"]

_LAB: web.AppKey[Lab] = web.AppKey("lab", Lab)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def control_app(lab: Lab, token: str) -> web.Application:
    """The application; a request without the token gets 401."""

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
    app[_LAB] = lab
    app.router.add_get("/lab", _lab)
    app.router.add_get("/nodes", _nodes)
    app.router.add_get("/nodes/{name}", _node)
    app.router.add_get("/nodes/{name}/operations", _operations)
    app.router.add_put("/nodes/{name}/faults", _put_faults)
    app.router.add_patch("/nodes/{name}/faults", _patch_faults)
    app.router.add_post("/nodes/{name}/agent", _agent)
    app.router.add_post("/nodes/{name}/configurator", _configurator)
    return app


def _named(request: web.Request) -> Node:
    lab, name = request.app[_LAB], request.match_info["name"]
    node = lab.node(name)
    if node is None:
        error = no_such_node(name, [known.machine.name for known in lab.nodes.values()])
        raise web.HTTPNotFound(text=json.dumps({"error": error}), content_type="application/json")
    return node


async def _lab(request: web.Request) -> web.Response:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    nodes = request.app[_LAB].nodes.values()
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
    return web.json_response([node.report() for node in request.app[_LAB].nodes.values()])


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
    await node.apply(Faults.model_validate_json(json.dumps(present | await request.json())))
    return web.json_response(node.report())


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
