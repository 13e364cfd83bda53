"""Listening on an address."""

import socket

#: Connections that may wait to be accepted.
BACKLOG = 2048


class ListenError(ValueError):
    """An address that can't be listened on; the text says which and why."""


def listen(address: str) -> socket.socket:
    """A socket that listens at HOST:PORT; port 0 is any free one. Raises `ListenError`.

    gunicorn would try a taken port for five seconds, and end with a traceback on a bad one.
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
