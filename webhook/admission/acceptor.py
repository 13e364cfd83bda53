"""Takes in connections: all that wait at once, and none to TLS before it has said hello.

The event loop's own listener takes one connection a turn, so that under load dials time out in the
queue; and it begins with TLS at once, whose state costs 50 KiB also for a client that never says a
word. Here a connection costs its socket alone until the first record, the ClientHello (RFC 8446
4.1.2), is whole.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import ClassVar

#: A record's header, its longest content, and the type of a handshake's.
_HEADER, _LONGEST, _HANDSHAKE_TYPE = 5, 1 << 14, 22
#: Seconds until it is tried again, where there are no descriptors or no memory left.
_PAUSE = 0.1
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """Stands where asyncio has its `Server`."""

    #: Connections that are taken in at one turn of the loop, at most.
    at_once: ClassVar[int] = 200
    #: Connections that may be silent, and in their handshake. The oldest goes first.
    most_silent: ClassVar[int] = 2000
    most_shaking: ClassVar[int] = 500
    #: Seconds for which a client may be silent, may take over its handshake and over its end.
    silence: ClassVar[float] = 10.0
    handshake: ClassVar[float] = 10.0
    goodbye: ClassVar[float] = 1.0

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
    ) -> None:
        """Accept on a listening socket from now on; it is closed at the end."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._protocol = protocol
        self._context = context
        #: The oldest first, as are the others.
        self._silent: dict[socket.socket, _Silent] = {}
        self._shaking: dict[asyncio.Task[None], None] = {}
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Take in who waits, and nobody else; they get a moment to say what they want."""
        if self._listener.fileno() < 0:
            return
        self._accept()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._loop.call_later(self.goodbye, self._end)

    async def wait_closed(self) -> None:
        """Wait until all that were taken in are connected, or gone."""
        while self._silent or self._shaking:
            await asyncio.sleep(0.02)

    def _end(self) -> None:
        for connection in tuple(self._silent):
            self._drop(connection)
        for task in self._shaking:
            task.cancel()

    def _listen(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(self.at_once):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._loop.remove_reader(self._listener)
                    self._loop.call_later(_PAUSE, self._listen)
                    self._drop_oldest()
                return
            connection.setblocking(False)
            if len(self._silent) >= self.most_silent:
                self._drop_oldest()
            timer = self._loop.call_later(self.silence, self._drop, connection)
            self._silent[connection] = _Silent(timer)
            if self._hear(connection):
                self._loop.add_reader(connection, self._hear, connection)

    def _hear(self, connection: socket.socket) -> bool:
        """Whether to listen on, or else to go on to TLS: once the first record is whole.

        What has come is looked at and not taken.
        """
        silent = self._silent[connection]
        try:
            start = connection.recv(_HEADER + _LONGEST, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            start = b""
        if not start:
            self._drop(connection)
            return False
        wanted = _HEADER
        if len(start) >= _HEADER and start[0] == _HANDSHAKE_TYPE:
            wanted += min(int.from_bytes(start[3:_HEADER]), _LONGEST)
        if start[0] == _HANDSHAKE_TYPE and len(start) < wanted:
            if silent.wanted == wanted:
                # It was woken up with less than it waits for: no more will come.
                self._drop(connection)
                return False
            silent.wanted = wanted
            # The kernel speaks up when there is so much; else it would do so without end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
            return True
        self._forget(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        if len(self._shaking) >= self.most_shaking:
            next(iter(self._shaking)).cancel()
        task = self._loop.create_task(self._shake(connection))
        self._shaking[task] = None
        task.add_done_callback(self._shaken)
        return False

    async def _shake(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self.handshake,
                ssl_shutdown_timeout=self.goodbye,
            )
        except (OSError, asyncio.CancelledError):
            # ssl.SSLError and TimeoutError are OSErrors: a client that can't, or does not go on.
            connection.close()

    def _shaken(self, task: asyncio.Task[None]) -> None:
        del self._shaking[task]
        if not task.cancelled() and (error := task.exception()):
            self._loop.call_exception_handler(
                {"message": "a connection could not be taken in", "exception": error}
            )

    def _drop_oldest(self) -> None:
        if self._silent:
            self._drop(next(iter(self._silent)))

    def _drop(self, connection: socket.socket) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: socket.socket) -> None:
        self._silent.pop(connection).timer.cancel()
        self._loop.remove_reader(connection)


class _Silent:
    """What is known of a client that has not spoken yet, or not to the end."""

    __slots__ = ("timer", "wanted")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        #: Bytes for which it is waited.
        self.wanted = 1
