"""Opens a listening socket."""

import errno
import socket

#: The maximum number of connections in the queue of the kernel.
BACKLOG = 2048

#: What a kernel without IPv6 answers: it knows no such sockets, or has no such address.
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class ListenError(ValueError):
    """Raised if the server can't listen on an address. The text says which one and why."""


def listen(address: str) -> socket.socket:
    """Return a socket that listens on HOST:PORT. Port 0 means any free port.

    `:PORT` means all addresses, of IPv6 and IPv4; if the kernel has no IPv6, those of IPv4. With
    `0.0.0.0:PORT`, these are only those of IPv4, and with `[::]:PORT`, only those of IPv6.

    Raise `ListenError` if this is not possible. gunicorn would retry a used port for five seconds,
    and would end with a traceback on an invalid address.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ListenError(f"{address} is not HOST:PORT, as :10250, 0.0.0.0:10250 or [::]:10250 are")
    try:
        return _server(host, int(port)) if host else _everywhere(int(port))
    except (OSError, UnicodeError) as error:
        why = (getattr(error, "strerror", None) or "no such host").partition(" (while")[0]
        raise ListenError(f"can't listen on {address}: {why}") from None


def _everywhere(port: int) -> socket.socket:
    try:
        return _server("::", port, both=True)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return _server("0.0.0.0", port)  # noqa: S104 - all addresses are asked for


def _server(host: str, port: int, *, both: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
