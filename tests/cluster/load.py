"""Pods created without pause while something happens to the webhook; not one may be lost."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPSConnection

from tests.cluster.api import wait_for
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import pod

JOINS, OUTSIDE = "joins", "stays outside"
_CLIENTS = 4


class Load:
    """Clients that create the same pod over and over, by dry run, each on a connection of its own.

    The namespace is an ambient one: both of our webhooks see the pod, and no injector does.
    """

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.answers: Counter[str] = Counter()
        """How often each answer came so far: JOINS, OUTSIDE, or what a refusal said and when."""
        self._plane = plane
        self._path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        self._body = json.dumps(pod(namespace, "load")).encode()
        self._over = threading.Event()
        self._failures: list[Exception] = []

    @property
    def total(self) -> int:
        """The number of answers so far."""
        return self.answers.total()

    def await_total(self, count: int, *, seconds: float = 150.0) -> None:
        """Wait until there have been so many answers; raises what ended a client."""

        def enough() -> bool:
            if self._failures:
                raise self._failures[0]
            return self.total >= count

        wait_for(enough, seconds=seconds, why=f"{count} answers (there are {self.total})")

    @contextlib.contextmanager
    def running(self) -> Iterator["Load"]:
        """Have the clients at work during the block; raises what ended one of them."""
        clients = [self._plane.connection("load", ["system:masters"]) for _ in range(_CLIENTS)]
        threads = [threading.Thread(target=self._repeat, args=(one,)) for one in clients]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def _repeat(self, connection: HTTPSConnection) -> None:
        try:
            with contextlib.closing(connection):
                while not self._over.is_set():
                    self.answers[self._ask(connection)] += 1
        except Exception as error:  # raised in the thread of the test
            self._failures.append(error)

    def _ask(self, connection: HTTPSConnection) -> str:
        connection.request("POST", self._path, self._body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != HTTPStatus.CREATED:
            return f"{time.strftime('%X')} {answer.status} {text.decode()}"
        return JOINS if b'"istio.io/dataplane-mode":"ambient"' in text else OUTSIDE
