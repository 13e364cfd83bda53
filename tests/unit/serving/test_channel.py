"""TLS in memory: what one client can make OpenSSL do at once is bounded."""

import contextlib
import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.unit.serving.loops import ASK, Looping, asks, ended, looping
from webhook.serving.connection import Connection

ALERT, HANDSHAKE, DATA = b"\x15", b"\x16", b"\x17"


class Client:
    """A TLS client that writes its records itself, because Python's can't send key updates."""

    def __init__(self, loop: Looping, folder: Path) -> None:
        assert loop.context
        loop.context.keylog_filename = str(folder / "keys")
        self.socket = loop.dial()
        assert isinstance(self.socket, ssl.SSLSocket)
        assert self.socket.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
        *_, line = (
            one for one in (folder / "keys").read_text().splitlines()
            if one.startswith("CLIENT_TRAFFIC_SECRET_0")
        )  # fmt: skip
        self._secret, self._sent = bytes.fromhex(line.split()[2]), 0

    def record(self, kind: bytes, content: bytes) -> bytes:
        """Return an encrypted record (RFC 8446, 5.2)."""
        head = b"\x17\x03\x03" + struct.pack(">H", len(content) + 17)
        start = int.from_bytes(self._expand(b"iv", 12), "big")
        nonce = (start ^ self._sent).to_bytes(12, "big")
        self._sent += 1
        return head + AESGCM(self._expand(b"key", 32)).encrypt(nonce, content + kind, head)

    def key_update(self, *, asks_for_one: bool) -> bytes:
        """Return a record after which this client uses another key (RFC 8446, 4.6.3)."""
        made = self.record(HANDSHAKE, bytes([24, 0, 0, 1, asks_for_one]))
        self._secret, self._sent = self._expand(b"traffic upd", 48), 0
        return made

    def send(self, raw: bytes) -> None:
        with socket.socket(fileno=os.dup(self.socket.fileno())) as plain:
            plain.settimeout(20)
            plain.sendall(raw)

    def _expand(self, label: bytes, length: int) -> bytes:
        label = b"tls13 " + label
        info = struct.pack(">HB", length, len(label)) + label + b"\0"
        return HKDFExpand(hashes.SHA384(), length, info).derive(self._secret)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Looping]:
    with looping(tmp_path) as made:
        yield made


@pytest.fixture
def client(loop: Looping, tmp_path: Path) -> Iterator[Client]:
    made = Client(loop, tmp_path)
    with made.socket:
        yield made


@pytest.mark.parametrize("asks_for_one", [False, True])
class TestKeyUpdates:
    """OpenSSL takes about 15 µs for each."""

    def test_a_flood_ends_the_connection_and_holds_up_nobody(
        self, loop: Looping, client: Client, asks_for_one: bool
    ) -> None:
        flood = b"".join(client.key_update(asks_for_one=asks_for_one) for _ in range(40_000))
        with loop.dial() as other:
            assert asks(other)
            start = time.process_time()  # which passes no faster on a busy machine
            with contextlib.suppress(OSError):
                client.send(flood)
            assert asks(other)
            assert time.process_time() - start < 0.5
        assert ended(client.socket)

    def test_some_between_requests_are_harmless(self, client: Client, asks_for_one: bool) -> None:
        for _ in range(200):
            updates = [client.key_update(asks_for_one=asks_for_one) for _ in range(8)]
            client.send(b"".join([*updates, client.record(DATA, ASK)]))
            assert client.socket.recv(1 << 16).endswith(b"hi")


def test_what_a_client_asked_before_it_closed_its_side_is_answered(client: Client) -> None:
    client.send(client.record(DATA, ASK + ASK) + client.record(ALERT, b"\1\0"))
    received = b""
    while part := client.socket.recv(1 << 16):
        received += part
    assert received.count(b"hi") == 2


def test_a_client_that_closes_its_side_without_a_request_is_let_go(client: Client) -> None:
    client.send(client.record(ALERT, b"\1\0"))
    assert client.socket.recv(10) == b""


@pytest.mark.parametrize(
    "said",
    ["1603010005010001ff", "16030100020100" + "00" * 2, "1603010004010000001603"],
    ids=["claims more than its record", "no header", "more follows"],
)
def test_a_hello_that_is_not_one_record_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, loop: Looping, said: str
) -> None:
    monkeypatch.setattr(Connection, "handshake_seconds", 60.0)
    with loop.plain() as plain:
        plain.sendall(bytes.fromhex(said))
        assert ended(plain)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_without_the_cheap_key_exchange_is_rejected(
    loop: Looping, version: ssl.TLSVersion
) -> None:
    """All have it. Others cost up to 1000 times as much, at the client's choice."""
    assert loop.context
    loop.context.minimum_version = loop.context.maximum_version = version
    assert loop.asks()
    loop.context.set_ecdh_curve("secp521r1")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        loop.dial()
