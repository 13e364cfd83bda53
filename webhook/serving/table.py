"""The table of connections. It decides which one to close if there are too many."""

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from webhook.serving.connection import Connection

_MAPPED = bytes(10) + b"\xff\xff"


class Source:
    """The connections of one client address."""

    __slots__ = ("held", "key", "members", "silent", "turn")

    def __init__(self, key: bytes, now: float) -> None:
        self.key = key
        #: When one of the connections last had a turn.
        self.turn = now
        #: Ordered by idle time: the longest idle connection comes first. `silent` has those that
        #: have sent nothing at all, in the same order.
        self.members: dict[Connection, None] = {}
        self.silent: dict[Connection, None] = {}
        self.held = 0


class Table:
    """Connections by source address.

    If all places are taken, a new connection replaces the longest idle connection of the address
    with the most connections. A connection that has sent nothing goes first. So an address can use
    the places that no other address needs, and no address can lock out another. If no connection is
    idle, the new one gets a place in the reserve, for one request. So probes still get through.
    """

    #: The maximum number of connections. An API server has one per call in progress, a few hundred
    #: at most.
    places = 1000
    reserve = 100
    #: The maximum size of all unfinished handshakes, and of all pending requests and responses,
    #: together in bytes.
    most_held = 64 * 1024 * 1024
    #: A connection that sent a request within the first number of seconds is not idle, because its
    #: next request may be arriving. A connection that was accepted within the second number of
    #: seconds is not idle either, as long as another one is.
    grace, patience = 1.0, 0.25

    def __init__(self) -> None:
        self.members: dict[Connection, None] = {}
        #: The bytes that all connections hold, and the most that they have held at once. The worker
        #: resets the latter when it returns memory.
        self.held = self.peak = 0
        self._sources: dict[bytes, Source] = {}
        self._reserved: dict[Connection, None] = {}

    def enter(self, member: "Connection", host: str) -> bool:
        """Add a connection from an address. Return whether it has a place in the reserve."""
        key = source_key(host)
        source = member.source = self._sources.setdefault(key, Source(key, member.made))
        self.members[member] = source.members[member] = None
        full = len(self.members) - len(self._reserved) > self.places
        reserved = full and not self.evict(member.active, member)
        source.silent[member] = None
        if reserved:
            self._reserved[member] = None
            if len(self._reserved) > self.reserve:
                next(iter(self._reserved)).abort()
        return reserved

    def evict(self, now: float, newcomer: "Connection | None" = None) -> bool:
        """Close a connection to make room for another one. Return whether one was closed.

        Without `newcomer`, make room for the next connection. Then a silent connection always goes
        first.
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
        return now - member.active >= (self.grace if member.known else self.patience)

    def leave(self, member: "Connection") -> None:
        """Remove a connection."""
        self.hold(member, 0)
        del self.members[member]
        self._reserved.pop(member, None)
        members = member.source.members
        del members[member]
        self.hear(member)
        if not members:
            del self._sources[member.source.key]

    def hear(self, member: "Connection") -> None:
        """Record that a connection has sent something."""
        member.source.silent.pop(member, None)

    def ask(self, member: "Connection", now: float) -> None:
        """Record that a connection has sent a complete request."""
        member.active, member.known = now, True
        members = member.source.members
        del members[member]
        members[member] = None

    def hold(self, member: "Connection", held: int) -> None:
        """Record how many bytes a connection holds.

        If all connections together hold too much, the oldest requests of the address that holds the
        most are rejected.
        """
        more = held - member.held
        member.held = held
        member.source.held += more
        self.held += more
        self.peak = max(self.peak, self.held)
        while more > 0 and self.held > self.most_held:
            largest = max(self._sources.values(), key=lambda source: source.held)
            victim = next(member for member in largest.members if member.held)
            self.hold(victim, 0)
            victim.give_up()


def by_address(members: "Iterable[Connection]") -> "list[Connection]":
    """Return one connection of each address, then a second one of each, and so on.

    The address comes first that has had no turn for the longest time. Connections of an address
    keep their order.
    """
    places: dict[Connection, tuple[int, float]] = {}
    taken: dict[Source, int] = {}
    for member in members:
        place = taken.get(member.source, 0)
        taken[member.source] = place + 1
        places[member] = (place, member.source.turn)
    return sorted(places, key=places.__getitem__)


def source_key(host: str) -> bytes:
    """Return the key of an address: the address itself for IPv4, its /64 network for IPv6."""
    if ":" not in host:
        return host.encode()
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return packed if packed.startswith(_MAPPED) else packed[:8]
