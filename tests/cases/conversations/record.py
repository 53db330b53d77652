"""Records what pypsrp and the lab's http listener send each other: one file for each way of NTLM.

    python tests/cases/conversations/record.py

A file has the account, each request and answer as it was on the wire, the key of the logon as pypsrp computed it, and
the messages as pypsrp had them before it encrypted and after it decrypted them.
"""

import asyncio
import json
import logging
import socket
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from pypsrp.encryption import WinRMEncryption
from pypsrp.exceptions import WSManFaultError
from pypsrp.shell import Process, SignalCode, WinRS
from pypsrp.wsman import WSMan

from lab.config import LabConfig, NodeConfig
from lab.control.running import Lab, write_private
from lab.winrm.ways import Ways

FOLDER = Path(__file__).parent
ADDRESS, PORT, HOST = "127.0.77.240", 5985, "S1"
PASSWORD = "a password for tests"
LARGE = 3_000  #: bytes of input
Auth = Literal["ntlm", "negotiate"]


class Heard(WinRMEncryption):
    """The encryption of pypsrp, which notes each message as it is before and after."""

    messages: list[tuple[str, str]] = []  # noqa: RUF012 - of the one client of a recording
    key = b""

    def wrap_message(self, message: bytes) -> tuple[str, bytes]:
        """Encrypts."""
        Heard.key = self.context.session_key
        Heard.messages.append(("request", message.decode()))
        return super().wrap_message(message)

    def unwrap_message(self, message: bytes, boundary: str) -> bytes:
        """Decrypts."""
        plain = super().unwrap_message(message, boundary)
        Heard.messages.append(("answer", plain.decode()))
        return plain


def talk(port: int, auth: Auth) -> None:
    """What pypsrp says: a shell, a command, large input, its output, a fault, the end."""
    client = WSMan(
        "127.0.0.1",
        port=port,
        username="esync",
        password=PASSWORD,
        ssl=False,
        auth=auth,
        encryption="always",
        no_proxy=True,
    )
    with client, WinRS(client) as shell:
        process = Process(shell, "hostname")
        process.invoke()
        assert process.stdout.strip() == HOST.encode()
        reading = Process(shell, "powershell", ["-NoProfile", "-EncodedCommand", "AAAA"])
        reading.begin_invoke()
        reading.send(b"x" * LARGE)
        reading.signal(SignalCode.TERMINATE)
        shell.close()
        try:
            Process(shell, "hostname").invoke()
        except WSManFaultError:
            return
    raise AssertionError("a closed shell has run a command")


async def recorded(auth: Auth, folder: Path) -> dict[str, Any]:
    """One conversation, through a relay that keeps the bytes."""
    write_private(folder / "password", PASSWORD)
    ways = Ways(scheme="http", offers=("negotiate",))
    node = NodeConfig(name=HOST, address=ADDRESS, disk="memory")
    running = Lab(LabConfig(nodes=(node,), origin=HOST, ways=ways, port=PORT), folder)
    await running.start()
    sent, received = bytearray(), bytearray()

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, kept: bytearray) -> None:
        while data := await source.read(2**16):
            kept += data
            target.write(data)
        target.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, onward = await asyncio.open_connection(ADDRESS, PORT)
        await asyncio.gather(carry(reader, onward, sent), carry(back, writer, received))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await asyncio.to_thread(talk, port, auth)
    await running.stop()
    return {
        "client": f"pypsrp {version('pypsrp')}, pyspnego {version('pyspnego')}, auth={auth}",
        "user": "esync",
        "password": PASSWORD,
        "machine": HOST,
        "key": Heard.key.hex(),
        "exchanges": [
            {"request": request, "answer": answer}
            for request, answer in zip(messages(bytes(sent)), messages(bytes(received)), strict=True)
        ],
        "plain": [{"kind": kind, "text": text} for kind, text in Heard.messages],
    }


def messages(stream: bytes) -> Iterator[dict[str, Any]]:
    """The HTTP messages of one direction: the lines of each head, and the body in base64."""
    while stream:
        head, _, rest = stream.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        (length,) = (line.split(":")[1] for line in lines if line.lower().startswith("content-length:"))
        body, stream = rest[: int(length)], rest[int(length) :]
        yield {"head": lines, "body": b64encode(body).decode()}


def main() -> None:
    """Writes the files again."""
    logging.basicConfig(level=logging.WARNING)
    ways: tuple[Auth, ...] = ("ntlm", "negotiate")
    for auth in ways:
        Heard.messages.clear()
        with (
            tempfile.TemporaryDirectory() as folder,
            # The name of this machine is in the messages of NTLM.
            patch.object(socket, "gethostname", lambda: HOST),
            patch("pypsrp.wsman.WinRMEncryption", Heard),
        ):
            found = asyncio.run(recorded(auth, Path(folder)))
        (FOLDER / f"pypsrp-{auth}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
