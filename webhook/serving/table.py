"""The table of connections: who may stay when there are too many, or when they hold too much."""

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from webhook.serving.connection import Connection

_MAPPED = bytes(10) + b"\xff\xff"


class Source:
    """The connections of one client address."""

    __slots__ = ("held", "key", "members", "silent")

    def __init__(self, key: bytes) -> None:
        self.key = key
        #: The longest idle one comes first; so it does of those that have said nothing at all.
        self.members: dict[Connection, None] = {}
        self.silent: dict[Connection, None] = {}
        self.held = 0


class Table:
    """Connections by source address.

    If all places are taken, a newcomer gets the place of the longest idle connection of the address
    that has most; one that has said nothing at all goes first. So an address has as many as no
    other needs, and no address can lock out another. If none is idle, the newcomer gets a place in
    the reserve, for one request: probes come through.
    """

    #: Connections at once. An API server has as many as calls under way, a few hundred at most.
    places = 1000
    reserve = 100
    #: Bytes of requests and responses that are held at once, of all connections together.
    most_held = 64 * 1024 * 1024
    #: A connection that asked within this many seconds is not idle: the next request may be coming.
    #: Nor is one that was accepted within this many seconds, as long as another one is.
    grace, patience = 1.0, 0.25

    def __init__(self) -> None:
        self.members: dict[Connection, None] = {}
        self.held = 0
        self._sources: dict[bytes, Source] = {}
        self._reserved: dict[Connection, None] = {}

    def enter(self, member: "Connection", host: str) -> bool:
        """Take in a connection from an address; return whether it has a place of the reserve."""
        key = source_key(host)
        source = member.source = self._sources.setdefault(key, Source(key))
        self.members[member] = source.members[member] = None
        full = len(self.members) - len(self._reserved) > self.places
        reserved = full and not self.evict(member.asked, member)
        source.silent[member] = None
        if reserved:
            self._reserved[member] = None
            if len(self._reserved) > self.reserve:
                next(iter(self._reserved)).abort()
        return reserved

    def evict(self, now: float, newcomer: "Connection | None" = None) -> bool:
        """Close a connection in favor of another one; return whether there was one to close.

        Without a newcomer, for the next one, a silent connection always goes first.
        """
        if not self._sources:
            return False
        largest = max(self._sources.values(), key=lambda source: len(source.members))
        longest = next(iter(largest.members))
        silent = next(iter(largest.silent), longest)
        victim = silent
        if newcomer and not self._is_idle(silent, now) and self._is_idle(longest, now):
            victim = longest
        equal = not newcomer or len(largest.members) <= len(newcomer.source.members)
        busy = victim.known and not self._is_idle(victim, now)
        if victim is newcomer or (equal and busy):
            return False
        victim.abort()
        return True

    def _is_idle(self, member: "Connection", now: float) -> bool:
        return now - member.asked >= (self.grace if member.known else self.patience)

    def leave(self, member: "Connection") -> None:
        """Forget a connection."""
        self.hold(member, 0)
        del self.members[member]
        self._reserved.pop(member, None)
        members = member.source.members
        del members[member]
        self.hear(member)
        if not members:
            del self._sources[member.source.key]

    def hear(self, member: "Connection") -> None:
        """Note that a connection has said something."""
        member.source.silent.pop(member, None)

    def ask(self, member: "Connection", now: float) -> None:
        """Note that a connection has sent a whole request."""
        member.asked, member.known = now, True
        members = member.source.members
        del members[member]
        members[member] = None

    def hold(self, member: "Connection", held: int) -> None:
        """Note how many bytes a connection holds.

        If all together hold too much, the address that holds most gives up its oldest requests.
        """
        more = held - member.held
        member.held = held
        member.source.held += more
        self.held += more
        while more > 0 and self.held > self.most_held:
            largest = max(self._sources.values(), key=lambda source: source.held)
            victim = next(member for member in largest.members if member.held)
            self.hold(victim, 0)
            victim.give_up()


def source_key(host: str) -> bytes:
    """Return what stands for an address: IPv4 is counted by address, IPv6 by network of 64 bits."""
    if ":" not in host:
        return host.encode()
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return packed if packed.startswith(_MAPPED) else packed[:8]
