"""The TLS of a connection, apart from its socket.

OpenSSL reads from a socket as long as there is something to read. A client that sends nothing but
key updates could keep it busy for seconds in one call, and the loop with it. So the connection
reads the socket, and OpenSSL gets bytes in memory, few at a time.

For a message of the handshake, OpenSSL reserves as many bytes as the client claims that it has, up
to 128 KiB. So it gets the first message only when it is complete. While a later one is incomplete,
these bytes count as held by the client.
"""

import contextlib
import ssl

#: The maximum number of decrypted bytes that one call to OpenSSL returns.
_READ_SIZE = 65536
#: The maximum number of bytes that a client may send in excess of its data: the handshake with its
#: certificates, one record that is still incomplete, key updates.
_EXCESS = 65536
#: What a record of data adds to it, in bytes, and more. TLS adds 22 to 29 bytes.
_RECORD = 32
#: The memory in bytes of a handshake, and of an incomplete message in it: a second ClientHello, or
#: the client's certificates.
_HANDSHAKE, _MESSAGE = 48 * 1024, 128 * 1024
#: The type of a record with messages of a handshake, and the maximum size of a record.
_SHAKING, _LONGEST = 22, 16384


class Channel:
    """TLS in memory: the client's bytes in, its data and our bytes out."""

    def __init__(self, context: ssl.SSLContext) -> None:
        """Begin a handshake."""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.peer = context.wrap_bio(self._in, self._out, server_side=True)
        #: Whether the handshake is complete, and whether the client has closed its side.
        self.shaken = self.ended = False
        #: The memory in bytes that the handshake holds until it is complete.
        self.held = self._excess = 0
        #: The first message, until it is complete.
        self._hello: bytes | None = b""

    def receive(self, raw: bytes) -> bytes:
        """Return the data in a client's bytes. Raise ssl.SSLError if it must not go on."""
        if self._hello is not None:
            self._hello = raw = self._hello + raw
            self.held = len(raw)
            if not _is_whole(raw):
                return b""
            self._hello = None
        self._in.write(raw)
        parts = []
        try:
            if not self.shaken:
                self.peer.do_handshake()
                self.shaken, self.held = True, 0
            # A read without a record raises an error, which costs more than this question.
            while self._in.pending and not self.ended:
                part = self.peer.read(_READ_SIZE)
                parts.append(part)
                self.ended = not part
        except ssl.SSLWantReadError:
            if not self.shaken:
                # OpenSSL replies if the client's messages are complete, else it waits for the rest.
                self.held = _HANDSHAKE + (0 if self._out.pending else _MESSAGE)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._excess = max(0, self._excess + len(raw) - len(data) - _RECORD * len(parts))
        if self._excess > _EXCESS:
            raise ssl.SSLError("the client sends too little data in its records")
        return data

    def seal(self, data: bytes) -> bytes:
        """Encrypt data. Return the bytes to send."""
        # OpenSSL makes one record of at most 16 KiB in each call.
        sent = self.peer.write(data)
        while sent < len(data):
            sent += self.peer.write(memoryview(data)[sent:])
        return self._out.read()

    def reply(self) -> bytes:
        """Return what TLS itself has to send: a step of the handshake, a key update, an alert."""
        return self._out.read()

    def end(self) -> bytes:
        """Return the bytes that close our side."""
        with contextlib.suppress(ssl.SSLError):
            self.peer.unwrap()
        return self._out.read()


def _is_whole(hello: bytes) -> bool:
    """Return whether a ClientHello is complete. OpenSSL rejects anything else.

    Raise ssl.SSLError if it is not exactly one record. All known clients send it so.
    """
    if hello[0] != _SHAKING:
        return True
    if len(hello) < 9:
        return False
    size, claimed = int.from_bytes(hello[3:5], "big"), int.from_bytes(hello[6:9], "big") + 4
    if size != claimed or size > _LONGEST or len(hello) > size + 5:
        raise ssl.SSLError("the ClientHello is not one record")
    return len(hello) == size + 5
