"""The packets of a node's cable, by a raw socket: what was sent in the clear, and what in TLS."""

import re
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

# Of a single protocol, a raw socket gets only the packets in one direction.
_EVERY, _IPV4, _TCP = 0x0003, 0x0800, 6
_LARGEST = 1 << 17
_PAUSE = 0.05  # seconds in which the last packet is taken in
_HANDSHAKE, _CLIENT_HELLO, _SERVER_HELLO = 22, 1, 2
_SNI, _ALPN, _VERSIONS = 0, 16, 43
VERSIONS = {0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}


class Segment(NamedTuple):
    """The payload of one TCP segment."""

    source: tuple[str, int]
    target: tuple[str, int]
    sequence: int
    payload: bytes

    @property
    def is_tls(self) -> bool:
        """Return whether a TLS record begins here, or may begin (a short rest counts too)."""
        return len(self.payload) > 2 and 20 <= self.payload[0] <= 23 and self.payload[1] == 3


class Hello(NamedTuple):
    """What a ClientHello shows: the name of the server, and the protocols inside TLS."""

    sni: str
    alpn: tuple[str, ...]


class Capture:
    """Collects the TCP payloads on a network device during a `with` block."""

    def __init__(self, device: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._socket.bind((device, 0))
        self._socket.settimeout(0.1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._collect)
        self._segments: list[Segment] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    @property
    def now(self) -> int:
        """Return a mark for `since`."""
        return len(self._segments)

    def since(self, mark: int, *addresses: str) -> list[Segment]:
        """Return what came after a mark, once each, of the connections of all these addresses."""
        while select.select([self._socket], [], [], 0)[0]:
            time.sleep(_PAUSE)
        time.sleep(_PAUSE)
        wanted = set(addresses)
        found = self._segments[mark:]
        mine = [one for one in found if wanted <= {one.source[0], one.target[0]}]
        return list(dict.fromkeys(mine))

    def _collect(self) -> None:
        while not self._over.is_set():
            try:
                frame = self._socket.recv(_LARGEST)
            except TimeoutError:
                continue
            if frame[12:14] == struct.pack("!H", _IPV4) and (segment := _segment(frame[14:])):
                self._segments.append(segment)


def _segment(packet: bytes) -> Segment | None:
    """Return the payload of an IPv4 packet; None if it is not TCP or has none."""
    if packet[9] != _TCP:
        return None
    start = (packet[0] & 15) * 4
    (length,) = struct.unpack("!H", packet[2:4])
    source, target, sequence = struct.unpack("!HHI", packet[start : start + 8])
    payload = packet[start + (packet[start + 12] >> 4) * 4 : length or None]
    if not payload:
        return None
    hosts = (socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20]))
    return Segment((hosts[0], source), (hosts[1], target), sequence, payload)


def readable(segments: Iterable[Segment], text: str) -> int:
    """Return how many bytes of repetitions of a text are in the clear."""
    pattern = re.compile(re.escape(text.encode()))
    return sum(len(text) * len(pattern.findall(one.payload)) for one in segments)


def client_hello(segments: Iterable[Segment]) -> Hello | None:
    """Return what the first ClientHello shows; None if no TLS connection began."""
    for body in _handshakes(segments, _CLIENT_HELLO):
        at = 35 + body[34]  # version, random, session
        at += 2 + _short(body, at)  # cipher suites
        at += 1 + body[at]  # compression
        extensions = _extensions(body[at:])
        return Hello(extensions[_SNI][5:].decode(), _names(extensions[_ALPN][2:]))
    return None


def version(segments: Iterable[Segment]) -> str:
    """Return the version of TLS in the first ServerHello; empty if there is none."""
    for body in _handshakes(segments, _SERVER_HELLO):
        at = 35 + body[34] + 3  # version, random, session, cipher suite, compression
        return VERSIONS[_short(_extensions(body[at:]).get(_VERSIONS, body), 0)]
    return ""


def _handshakes(segments: Iterable[Segment], kind: int) -> Iterator[bytes]:
    """Yield the messages of a kind that begin a connection, without their headers."""
    for one in segments:
        if one.is_tls and one.payload[0] == _HANDSHAKE and one.payload[5] == kind:
            yield one.payload[9:]


def _extensions(data: bytes) -> dict[int, bytes]:
    found, at, end = {}, 2, 2 + _short(data, 0)
    while at + 4 <= min(end, len(data)):
        kind, length = struct.unpack("!HH", data[at : at + 4])
        found[kind] = data[at + 4 : at + 4 + length]
        at += 4 + length
    return found


def _names(data: bytes) -> tuple[str, ...]:
    found, at = [], 0
    while at < len(data):
        found.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    return tuple(found)


def _short(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
