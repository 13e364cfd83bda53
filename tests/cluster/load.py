"""Creates pods without pause while the webhook changes. No request must fail."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from http.client import HTTPSConnection
from typing import Any

from tests.cluster.api import wait_for
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import pod

JOINS, OUTSIDE = "joins", "stays outside"


class Load:
    """Clients that repeatedly create the same pod by dry run, each on its own connection.

    The namespace is in the ambient mesh. Both of our webhooks see the pod, and no injector does.
    """

    def __init__(
        self,
        plane: ControlPlane,
        namespace: str,
        *,
        clients: int = 4,
        pause: float = 0.02,
        **more: Any,
    ) -> None:
        """`pause`: seconds between requests. `more`: the pod's fields, as in `workloads.pod`."""
        self._clients = clients
        self._pause = pause
        self.answers: Counter[str] = Counter()
        """The number of each response so far: JOINS, OUTSIDE, or the text and time of a denial."""
        self._plane = plane
        self._path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        self._body = json.dumps(pod(namespace, "load", **more)).encode()
        self._over = threading.Event()
        self._tasks: list[Future[None]] = []

    @property
    def total(self) -> int:
        """Return the number of responses so far."""
        return self.answers.total()

    def await_total(self, count: int, *, seconds: float = 150.0) -> None:
        """Wait until there are this many responses. Raise the error of a failed client."""

        def enough() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return self.total >= count

        wait_for(enough, seconds=seconds, why=f"{count} answers (there are {self.total})")

    @contextlib.contextmanager
    def running(self) -> Iterator["Load"]:
        """Run the clients during the block. Raise the error of a failed client."""
        clients = [self._plane.connection("load", ["system:masters"]) for _ in range(self._clients)]
        with ThreadPoolExecutor(self._clients) as pool:
            self._tasks = [pool.submit(self._repeat, one) for one in clients]
            try:
                yield self
            finally:
                self._over.set()
        for task in self._tasks:
            task.result()

    def _repeat(self, connection: HTTPSConnection) -> None:
        with contextlib.closing(connection):
            while not self._over.wait(self._pause):
                self.answers[self._ask(connection)] += 1

    def _ask(self, connection: HTTPSConnection) -> str:
        connection.request("POST", self._path, self._body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != HTTPStatus.CREATED:
            return f"{time.strftime('%X')} {answer.status} {text.decode()}"
        return JOINS if b'"istio.io/dataplane-mode":"ambient"' in text else OUTSIDE
