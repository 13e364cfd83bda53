"""Where the servers listen: on both families of addresses, or on a given one."""

import errno
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from webhook.serving.listening import ListenError, listen
from webhook.serving.table import source_key

LOOPBACK = {"IPv4": "127.0.0.1", "IPv6": "::1"}


@pytest.fixture
def without_ipv6(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Make sockets of IPv6 fail as in a kernel that has none (ipv6.disable=1)."""
    real = socket.create_server

    def create(address: Any, *, family: int, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(request.param, "none")
        return real(address, family=family, **more)

    monkeypatch.setattr(socket, "create_server", create)


def callers(listener: socket.socket) -> dict[str, str]:
    """Return the address under which a client of each family reaches a listener, if it does."""
    port, found = listener.getsockname()[1], {}
    for family, host in LOOPBACK.items():
        try:
            client = socket.create_connection((host, port), timeout=5)
        except ConnectionRefusedError:
            continue
        with client, listener.accept()[0] as accepted:
            found[family] = accepted.getpeername()[0]
    return found


@pytest.fixture(params=[":0", "0.0.0.0:0", "[::]:0", "127.0.0.1:0", "[::1]:0"])
def listening(request: pytest.FixtureRequest) -> Iterator[tuple[str, socket.socket]]:
    with closing(listen(request.param)) as listener:
        yield request.param, listener


def test_without_a_host_both_families_reach_it_and_with_one_its_own(
    listening: tuple[str, socket.socket],
) -> None:
    address, listener = listening
    reached = {":0": {"IPv4", "IPv6"}}.get(address, {"IPv6" if "[" in address else "IPv4"})
    assert callers(listener).keys() == reached


def test_clients_of_ipv4_are_counted_one_by_one() -> None:
    """Of IPv6, a network counts as one client. Addresses of IPv4 look like those of one network."""
    with closing(listen(":0")) as both:
        assert callers(both)["IPv4"] == "::ffff:127.0.0.1"
    assert source_key("::ffff:127.0.0.1") != source_key("::ffff:127.0.0.2")


@pytest.mark.parametrize("without_ipv6", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL], indirect=True)
def test_without_ipv6_in_the_kernel_it_listens_on_ipv4(without_ipv6: None) -> None:
    with closing(listen(":0")) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"
        assert callers(listener) == {"IPv4": "127.0.0.1"}
    # An address that is given is not replaced.
    with pytest.raises(ListenError, match=r"can't listen on \[::\]:0: none"):
        listen("[::]:0")


def test_a_port_that_one_family_uses_is_taken() -> None:
    with closing(listen("0.0.0.0:0")) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"can't listen on :{port}: Address already in use"):
            listen(f":{port}")
