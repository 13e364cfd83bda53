"""Attacks on a server with the chart's memory limit: it survives, and others are served."""

import contextlib
import json
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.faults import cgroup
from tests.faults.hostile import hello
from tests.faults.replica import Replica, Show, Start, assert_all_answered, wait_for
from tests.unit.admission.reviews import pod, review
from tests.unit.serving.clients import JSON_HEADERS, request

#: The attacker's address. The good traffic is from 127.0.0.1.
NEIGHBOR = "127.0.0.2"
PATH = "/validate/linkerd/enforce"
WHOLE = request(PATH, json.dumps(review(pod())).encode())
#: An attacker in its own process. When it ends, it prints the number of hellos that it sent.
HELLOS = """
import signal, socket, sys, time
source, port, said = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
held, count, due = [], 0, time.monotonic()

def end(*_):
    print(count)
    sys.exit()

signal.signal(signal.SIGTERM, end)
while True:
    # If it was held up for long, it does not send thousands at once afterwards.
    due = max(due + 1 / 1000, time.monotonic() - 0.1)
    time.sleep(max(0.0, due - time.monotonic()))
    held.append(socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0)))
    held[-1].sendall(said)
    count += 1
    if len(held) > 1500:
        held.pop(0).close()
"""


@pytest.fixture(autouse=True)
def descriptors() -> None:
    """Each connection of a test is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.fixture
def group() -> Iterator[cgroup.Group]:
    with cgroup.limited() as made:
        yield made


def dial(replica: Replica, source: str) -> ssl.SSLSocket:
    address = ("127.0.0.1", replica.port)
    plain = socket.create_connection(address, 10, source_address=(source, 0))
    return replica.client.context.wrap_socket(plain, server_hostname="localhost")


def probe(replica: Replica, *, tries: int = 1) -> float:
    """Send a probe like the kubelet, which tries again. Return the seconds until the answer."""
    start = time.monotonic()
    for left in reversed(range(tries)):
        try:
            assert replica.client.get("/livez").status == 200
            break
        except (ConnectionError, ssl.SSLError):
            if not left:
                raise
    return time.monotonic() - start


@pytest.mark.parametrize("source", ["127.0.0.1", NEIGHBOR], ids=["same-address", "other-address"])
def test_a_thousand_connections_with_one_request_each(
    group: cgroup.Group, start: Start, reviews: int, source: str, show: Show
) -> None:
    replica = start(program=group.program)
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            client = stack.enter_context(dial(replica, source))
            client.sendall(WHOLE)
            assert client.recv(1 << 16)
        time.sleep(1.5)
        with replica.load() as load:
            slowest = max(probe(replica) for _ in range(50))
            load.more(reviews // 2)
    show(load.tally, f"slowest probe {slowest:.2f} s; at most {group.peak >> 20} MiB")
    assert_all_answered(load.tally)
    assert replica.worker == replica.server.workers[0]


#: The bytes that all processes of a server have at most: what they need, and the table's bound.
MOST = 170 << 20
ENDLESS = {
    "bodies": request(PATH, b"x" * 256 * 1024)[:-10],
    "chunks": request(PATH, headers={**JSON_HEADERS, "Transfer-Encoding": "chunked"})
    + b"2\r\nxx\r\n" * 8000,
    "heads": WHOLE[: WHOLE.index(b"\r\n") + 2] + b"".join(b"%x:\r\n" % n for n in range(9000)),
    "requests in a row": b"GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\n\r\n" * 500,
}
#: The beginning of a ClientHello that claims to have 131,000 bytes.
CLAIM = bytes.fromhex("16030300cc0101ffb8") + bytes(200)


@pytest.mark.parametrize("first", [b"", hello()], ids=["first", "second"])
def test_hellos_that_claim_to_be_long(group: cgroup.Group, start: Start, first: bytes) -> None:
    """OpenSSL reserves their length. The second one follows if the server asks for another key."""
    replica = start(program=group.program)
    with contextlib.ExitStack() as stack:
        for _ in range(990):
            address = ("127.0.0.1", replica.port)
            plain = stack.enter_context(socket.create_connection(address, 10))
            if first:
                plain.sendall(first)
                plain.recv(1 << 16)
            plain.sendall(CLAIM)
        time.sleep(2)
        probe(replica)
    assert group.peak < MOST


@pytest.mark.parametrize(
    ("source", "what"), [("127.0.0.1", what) for what in ENDLESS] + [(NEIGHBOR, "bodies")]
)
def test_requests_that_do_not_end(
    group: cgroup.Group, start: Start, reviews: int, source: str, what: str, show: Show
) -> None:
    """However small their parts are. The memory is given back afterwards."""
    half = ENDLESS[what]
    replica = start(program=group.program)
    replica.allowed, before = "overloaded", replica.resident()
    with contextlib.ExitStack() as stack, replica.load() as load:
        for _ in range(990):
            client = stack.enter_context(dial(replica, source))
            with contextlib.suppress(OSError):
                client.sendall(half)
        slowest = max(probe(replica) for _ in range(50))
        load.more(reviews // 2)
    show(load.tally, f"slowest probe {slowest:.2f} s; at most {group.peak >> 20} MiB")
    assert_all_answered(load.tally)
    assert group.peak < MOST
    assert replica.worker == replica.server.workers[0]
    wait_for(lambda: replica.resident() - before < 30 * 1024, "the memory to be given back")


@pytest.mark.parametrize("source", ["127.0.0.1", NEIGHBOR], ids=["same-address", "other-address"])
def test_a_thousand_hellos_a_second(
    group: cgroup.Group, start: Start, reviews: int, source: str, show: Show
) -> None:
    """Each is on its own connection, which is held as long as the server holds it.

    A client with another address loses nothing. A client with the attacker's address shares its
    places too: if there are more hellos than the CPU can serve, some of its dials fail.
    """
    replica = start(program=group.program)
    command = [sys.executable, "-c", HELLOS, source, str(replica.port), hello().hex()]
    with (
        replica.load(rate=100) as load,
        subprocess.Popen(command, stdout=subprocess.PIPE) as attack,
    ):
        try:
            began = time.monotonic()
            # On a busy machine, several dials in a row fail.
            tries = 1 if source == NEIGHBOR else 10
            slowest = max(probe(replica, tries=tries) for _ in range(50))
            load.more(reviews // 4)
            seconds = time.monotonic() - began
        finally:
            attack.terminate()
        assert attack.stdout
        held = int(attack.stdout.read())
    show(
        load.tally,
        f"{held / seconds:.0f} hellos a second; slowest probe {slowest:.2f} s, slowest review "
        f"{load.tally.milliseconds(0.999):.0f} ms; at most {group.peak >> 20} MiB",
    )
    if source == NEIGHBOR:
        assert_all_answered(load.tally)
    assert not load.tally.wrong, str(load.tally)
    assert len(load.tally.answers) > 0.8 * load.tally.sent, str(load.tally)
    assert slowest < 2
    assert replica.worker == replica.server.workers[0]
