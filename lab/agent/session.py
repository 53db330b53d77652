"""The agent process on a simulated machine: requests in, replies out (docs/agent-protocol.md)."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from lab.agent.files import FILE_OPERATIONS
from lab.agent.guard import Guard
from lab.agent.messages import Fields, Request, Result, Unreadable, encode_reply, failure
from lab.agent.system import SYSTEM_OPERATIONS, WAITING_OPERATIONS
from lab.machine.errors import Refusal, Slug
from lab.machine.machine import Machine

__all__ = ["Agent", "Reply", "Watch"]


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one line. After the `last` one the agent ends."""

    text: str
    last: bool = False


class Watch(Protocol):
    """Is called before and after each operation; may raise to end the agent there."""

    async def before(self, agent: "Agent", fields: Fields) -> None:
        """Called before an operation."""

    async def after(self, agent: "Agent", fields: Fields) -> None:
        """Called after an operation and before its reply."""


class Agent:
    """One PowerShell process that runs the agent.

    Args:
        machine: the machine that it runs on.
        watch: is called for each operation; may raise to end the process between two operations.
    """

    def __init__(self, machine: Machine, watch: Watch | None = None) -> None:
        self.machine = machine
        self.pid = machine.new_pid()
        self._watch = watch
        machine.processes.add(self.pid)

    def close(self) -> None:
        """Ends the process."""
        self.machine.processes.discard(self.pid)

    def answer(self, line: str) -> str:
        """The reply to one request line, without a line end. For callers without an event loop."""
        return asyncio.run(self.reply(line)).text

    async def reply(self, line: str) -> Reply:
        """The reply to one request line."""
        try:
            request = Request.of(line)
        except Unreadable as error:
            return Reply(encode_reply(error.id, [failure(Refusal(Slug.INVALID, error.message))]))
        results = [] if request.stop else await self._results(request)
        return Reply(encode_reply(request.id, results, compress=request.gzip), last=request.stop)

    async def _results(self, request: Request) -> list[Result]:
        try:
            guard = Guard.of(request.fields)
        except Refusal as refusal:
            return [failure(refusal)]
        results: list[Result] = []
        for fields in request.ops:
            results.append(await self._watched(fields, guard))
            if not results[-1]["ok"] and not request.keep_going:
                break
        if all(result["ok"] for result in results):
            results += [await self._watched(fields, guard) for fields in request.look]
        return results

    async def _watched(self, fields: Fields, guard: Guard) -> Result:
        if self._watch:
            await self._watch.before(self, fields)
        result = await self._result(fields, guard)
        if self._watch:
            await self._watch.after(self, fields)
        return result

    async def _result(self, fields: Fields, guard: Guard) -> Result:
        try:
            return {"ok": True, **await self._guarded(fields, guard)}
        except Refusal as refusal:
            return failure(refusal, fields.place())

    async def _guarded(self, fields: Fields, guard: Guard) -> Result:
        fence = await guard.admit(self.machine, fields)
        if fence is None:
            return await self._do(fields)
        self.machine.disk.lock(fence)
        try:
            return await self._do(fields)
        finally:
            self.machine.disk.unlock(fence)

    async def _do(self, fields: Fields) -> Result:
        if operation := FILE_OPERATIONS.get(fields.op) or SYSTEM_OPERATIONS.get(fields.op):
            return operation(self.machine, fields)
        if waiting_operation := WAITING_OPERATIONS.get(fields.op):
            return await waiting_operation(self.machine, fields)
        raise Refusal(Slug.INVALID, f"there is no operation {fields.op}")
