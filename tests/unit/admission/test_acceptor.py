"""How connections are taken in."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.unit.admission.server import Files
from webhook.admission import tls
from webhook.admission.acceptor import Acceptor


class Echo(asyncio.Protocol):
    """Says again what it hears."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Case:
    """An acceptor in a loop of its own, and clients of it."""

    def __init__(self, files: Files, acceptor: type[Acceptor]) -> None:
        self.trusting = ssl.create_default_context(cafile=str(files.ca))
        context = tls.load(tls.Files(files.cert, files.key)).context
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.acceptor = acceptor(listener, Echo, context)
        self.kept: list[asyncio.StreamWriter] = []

    async def silent(self, said: bytes = b"") -> asyncio.StreamReader:
        """Dial without TLS, and say so much."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(said)
        self.kept.append(writer)
        return reader

    async def ask(self) -> bytes:
        """Dial with TLS, and return the echo of a word."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trusting, server_hostname="localhost"
        )
        writer.write(b"word")
        answer = await asyncio.wait_for(reader.readexactly(4), 5)
        writer.close()
        return answer


#: The first record of a TLS client: a header that promises 512 bytes.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    """Run a conversation with an acceptor on the loop that the server uses."""

    def converse(
        talk: Callable[[Case], Awaitable[None]], acceptor: type[Acceptor] = Acceptor
    ) -> None:
        async def main() -> None:
            case = Case(Files(tmp_path), acceptor)
            await asyncio.wait_for(talk(case), 20)
            for writer in case.kept:
                writer.close()
            case.acceptor.close()
            await asyncio.wait_for(case.acceptor.wait_closed(), 5)

        uvloop.run(main())

    return converse


def test_many_are_served_at_once(run: Callable[..., None]) -> None:
    async def talk(case: Case) -> None:
        assert await asyncio.gather(*(case.ask() for _ in range(100))) == [b"word"] * 100

    run(talk)


@pytest.mark.parametrize("said", [b"", HELLO[:3], HELLO], ids=["nothing", "a-byte", "half"])
def test_who_has_not_said_hello_costs_no_tls(run: Callable[..., None], said: bytes) -> None:
    async def talk(case: Case) -> None:
        for _ in range(50):
            await case.silent(said)
        assert await case.ask() == b"word"
        assert len(case.acceptor._silent) == 50
        assert not case.acceptor._shaking

    run(talk)


def test_a_hello_may_come_byte_by_byte(run: Callable[..., None]) -> None:
    async def talk(case: Case) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = case.trusting.wrap_bio(to_client, to_server, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", case.port)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        for byte in to_server.read():
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.0005)
        while True:
            to_client.write(await asyncio.wait_for(reader.read(1 << 16), 5))
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
        assert client.version() == "TLSv1.3"
        writer.close()

    run(talk)


@pytest.mark.parametrize("said", [b"", HELLO])
def test_who_stays_silent_is_let_go(run: Callable[..., None], said: bytes) -> None:
    class Hasty(Acceptor):
        silence = 0.2

    async def talk(case: Case) -> None:
        reader = await case.silent(said)
        start = time.monotonic()
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            assert said
        assert time.monotonic() - start >= 0.15
        assert not case.acceptor._silent

    run(talk, Hasty)


@pytest.mark.parametrize("said", [b"", HELLO])
def test_who_goes_away_is_forgotten_at_once(run: Callable[..., None], said: bytes) -> None:
    async def talk(case: Case) -> None:
        await case.silent(said)
        await asyncio.sleep(0.1)
        assert len(case.acceptor._silent) == 1
        case.kept[0].close()
        await asyncio.sleep(0.2)
        assert not case.acceptor._silent

    run(talk)


def test_the_oldest_silent_one_makes_room(run: Callable[..., None]) -> None:
    class Small(Acceptor):
        most_silent = 3

    async def talk(case: Case) -> None:
        readers = []
        for _ in range(5):
            readers.append(await case.silent())
            await asyncio.sleep(0.05)
        for reader in readers[:2]:
            assert await asyncio.wait_for(reader.read(), 2) == b""
        assert await case.ask() == b"word"
        assert len(case.acceptor._silent) <= 3

    run(talk, Small)


def test_plain_http_is_no_hello(run: Callable[..., None]) -> None:
    async def talk(case: Case) -> None:
        reader = await case.silent(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert not (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP")

    run(talk)


def test_who_was_taken_in_before_the_end_is_served(run: Callable[..., None]) -> None:
    async def talk(case: Case) -> None:
        asking = [asyncio.create_task(case.ask()) for _ in range(20)]
        await asyncio.sleep(0.01)
        while not case.acceptor._silent and not case.acceptor._shaking:
            await asyncio.sleep(0)
        case.acceptor.close()
        await case.acceptor.wait_closed()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert answers.count(b"word") == 20

    run(talk)
