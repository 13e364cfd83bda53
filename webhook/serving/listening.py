"""Opens a listening socket."""

import socket

#: The maximum number of connections in the queue of the kernel.
BACKLOG = 2048


class ListenError(ValueError):
    """Raised if the server can't listen on an address. The text says which one and why."""


def listen(address: str) -> socket.socket:
    """Return a socket that listens on HOST:PORT. Port 0 means any free port.

    Raise `ListenError` if this is not possible. gunicorn would retry a used port for five seconds,
    and would end with a traceback on an invalid address.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ListenError(f"{address} is not HOST:PORT, as 0.0.0.0:10250 or [::]:10250 are")
    six = ":" in host
    try:
        return socket.create_server(
            (host, int(port)),
            family=socket.AF_INET6 if six else socket.AF_INET,
            backlog=BACKLOG,
            dualstack_ipv6=six and socket.has_dualstack_ipv6(),
        )
    except (OSError, UnicodeError) as error:
        why = (getattr(error, "strerror", None) or "no such host").partition(" (while")[0]
        raise ListenError(f"can't listen on {address}: {why}") from None
