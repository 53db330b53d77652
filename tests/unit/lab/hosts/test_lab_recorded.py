"""A node whose programs are recorded, and then replayed."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from lab.hosts.recorded import RecordedHost
from lab.machine.condition import Condition
from lab.winrm.shells import CommandLine, Streams
from tests.sampling import examples

LINE = CommandLine("powershell.exe")


class Shouting:
    """A program that answers each piece of its input, and ends with status 3 at its end; counts its starts."""

    def __init__(self) -> None:
        self.starts = 0

    async def run(self, _: CommandLine, streams: Streams) -> int:
        """Answers in capitals."""
        self.starts += 1
        streams.write(b"ready ", "stderr")
        while piece := await streams.read():
            streams.write(piece.upper())
        return 3


async def said(host: RecordedHost, pieces: list[bytes]) -> tuple[list[bytes], int]:
    """What a program wrote after each piece of input, and its status."""
    streams = Streams()
    running = asyncio.create_task(host.run(LINE, streams))
    heard: list[bytes] = []
    for piece in [*pieces, b""]:
        streams.feed(piece, end=not piece)
        for _ in range(5):
            await asyncio.sleep(0)
        heard.append(b"".join(chunk.data for chunk in streams.output))
        streams.output.clear()
    return heard, await running


@settings(max_examples=examples(500, 25))
@given(st.lists(st.lists(st.binary(min_size=1, max_size=20), max_size=5), min_size=1, max_size=3))
def test_a_replay_answers_the_same_at_the_same_point(conversations: list[list[bytes]]) -> None:
    """Each start of a program answers as it was recorded, as often as wanted, without the program."""

    async def tried() -> None:
        condition, program = Condition(), Shouting()
        host = RecordedHost(program, condition)
        condition.conversation.begin("record")
        recorded = [await said(host, pieces) for pieces in conversations]
        for _ in range(2):
            condition.conversation.begin("play")
            assert [await said(host, pieces) for pieces in conversations] == recorded
        assert program.starts == len(conversations)

    asyncio.run(tried())


def test_a_start_that_was_not_recorded_fails() -> None:
    """Another start than those that were recorded is an error, and not a silent success."""
    condition = Condition()
    condition.conversation.begin("play")
    heard, status = asyncio.run(said(RecordedHost(Shouting(), condition), []))
    assert (1, b"this start is not in the recorded conversation\r\n") == (status, heard[0])
