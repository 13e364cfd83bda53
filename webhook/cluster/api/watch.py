"""Reports changes in a cluster by the watch API. It keeps no objects.

A watch starts at the current resourceVersion and continues from the last one that it saw. Bookmarks
move this version forward if nothing changes. If the version has expired (410 Gone), changes were
missed: the watch reports this and starts again (Kubernetes' API concepts, "Efficient detection of
changes").
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.log import Log

log = Log(__name__)

#: Minimum seconds until the API server ends a watch. A random number is added, so that watches do
#: not end together.
_LONG = 240
#: Seconds without data after which a watch starts again. Bookmarks arrive once a minute.
_SILENCE = 90.0
#: Minimum seconds between two starts of a watch.
_SHORT = 1.0
#: Seconds until the next attempt: the first pause and the longest. The longest is the same as in
#: Kubernetes' own watches (client-go tools/cache/reflector.go).
_WAIT, _LONGEST_WAIT = 1.0, 30.0


class WatchEvent(NamedTuple):
    """The creation, change or deletion of an object."""

    namespace: str
    name: str


class _Meta(msgspec.Struct, rename="camel"):
    namespace: str = ""
    name: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    #: From the metav1.Status of an ERROR event.
    code: int = 0
    message: str = ""


class _Event(msgspec.Struct):
    type: str
    object: _Object


class _List(msgspec.Struct):
    metadata: _Meta


_events = msgspec.json.Decoder(_Event)
_lists = msgspec.json.Decoder(_List)


class Watch:
    """Yields the changes of one collection."""

    def __init__(
        self, cluster: Cluster, where: str, stopping: threading.Event | None = None
    ) -> None:
        """`stopping` ends the changes, as soon as the API server sends data or ends the watch."""
        self._cluster = cluster
        self._where = where
        self._stopping = stopping or threading.Event()
        self._version = ""

    def changes(self) -> Iterator[WatchEvent | None]:
        """Yield each change; None if changes may have been missed, as before the first one.

        Raise `ClusterError`. Another call continues at the same position.
        """
        if not self._version:
            self._version = self._now()
            yield None
        while not self._stopping.is_set():
            begun = time.monotonic()
            yield from self._once()
            self._stopping.wait(max(0.0, begun + _SHORT - time.monotonic()))

    def _once(self) -> Iterator[WatchEvent]:
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(_LONG + random.randrange(60)),  # noqa: S311
        }
        try:
            for line in self._cluster.lines(self._where, query=query, silence=_SILENCE):
                event = _events.decode(line)
                if event.type == "ERROR":
                    raise StatusError(event.object.code, event.object.message)
                meta = event.object.metadata
                self._version = meta.resource_version
                if event.type != "BOOKMARK":
                    yield WatchEvent(meta.namespace, meta.name)
        except msgspec.MsgspecError as error:
            raise ClusterError(f"{self._cluster.server}{self._where}: no watch: {error}") from None
        except StatusError as error:
            if error.code == 410:
                self._version = ""
            raise

    def _now(self) -> str:
        """Return the current version of the collection. This reads one object."""
        answer = self._cluster.call("GET", self._where, query={"limit": "1"})
        try:
            return _lists.decode(answer.body).metadata.resource_version
        except msgspec.MsgspecError as error:
            raise ClusterError(f"{self._cluster.server}{self._where}: no list: {error}") from None


class Watcher(threading.Thread):
    """Watches a collection forever, in a thread that ends with the process.

    An error is logged once, and the watch is tried again.
    """

    def __init__(
        self, cluster: Cluster, where: str, changed: Callable[[WatchEvent | None], None]
    ) -> None:
        super().__init__(name=f"watch {where}", daemon=True)
        self._stopping = threading.Event()
        self._watch = Watch(cluster, where, self._stopping)
        self._where = where
        self._changed = changed
        #: Set when the watch has started, or has failed for the first time.
        self.begun = threading.Event()

    def stop(self) -> None:
        """End at the next event of the watch."""
        self._stopping.set()

    def run(self) -> None:
        """Watch until `stop` is called."""
        reported, wait = "", _WAIT
        while not self._stopping.is_set():
            try:
                for change in self._watch.changes():
                    if reported:
                        log.info("watches again", where=self._where)
                        reported, wait = "", _WAIT
                    stopping = self._stopping.is_set()
                    if not stopping:
                        self._changed(change)
                    # Not before, or the first scan could begin without this change.
                    self.begun.set()
                    if stopping:
                        return
            except ClusterError as error:
                self.begun.set()
                if isinstance(error, StatusError) and error.code == 410:
                    log.info("changes were missed", where=self._where, why=str(error))
                    continue
                if str(error) != reported:
                    log.warning("can't watch", where=self._where, why=str(error))
                    reported = str(error)
                self._stopping.wait(wait * random.uniform(0.8, 1.2))  # noqa: S311
                wait = min(2 * wait, _LONGEST_WAIT)
