"""Reviews all the time while something happens to the servers; none must be lost."""

import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.cluster.api import wait_for
from tests.cluster.workloads import pod
from tests.node.installed import NAMESPACE, SECRET, NodeCluster, joins
from tests.unit.admission import reviews

ENOUGH = 3000
_HOST = f"mendix-mesh.{NAMESPACE}.svc"
_BY_THE_API_SERVER, _DIRECT = 3, 2  # clients of either kind
_PAUSE = 0.01  # seconds between two requests of a client: the servers must not be overloaded


class Load:
    """Clients of two kinds, each in its own thread.

    Some create pods with dry runs, so that the API server sends two reviews on its kept
    connections. Others call the Service directly, each time on a new connection.
    """

    def __init__(self, cluster: NodeCluster) -> None:
        self._cluster = cluster
        self._over = threading.Event()
        self._counts: Counter[str] = Counter()
        self._lost: list[str] = []
        self._authority = cluster.api.get("Secret", SECRET, NAMESPACE)["data"]["ca.crt"]
        self._before = cluster.reviews()

    @property
    def reviews(self) -> int:
        """The number of reviews so far that the API server had answered."""
        return self._cluster.reviews()[0] - self._before[0]

    def run(self) -> list[threading.Thread]:
        """Start the clients."""
        kinds = [self._create] * _BY_THE_API_SERVER + [self._ask] * _DIRECT
        threads = [threading.Thread(target=self._repeat, args=(kind(),)) for kind in kinds]
        for thread in threads:
            thread.start()
        return threads

    def end(self) -> None:
        """Have the clients stop after the request that they are at."""
        self._over.set()

    def judge(self, what: str) -> None:
        """Fail if a review was lost, else print their number."""
        answered, failed = (
            now - then for now, then in zip(self._cluster.reviews(), self._before, strict=True)
        )
        direct = self._counts["direct"]
        lost = len(self._lost) + failed
        print(f"\n{what}: {answered} reviews by the API server, {direct} direct, {lost} lost")
        assert self._lost == []
        assert failed == 0
        assert answered >= ENOUGH
        # Two for each pod, or the API server did not call both webhooks.
        assert answered >= 2 * self._counts["pods"]
        assert direct > 0

    def _repeat(self, request: Callable[[], None]) -> None:
        while not self._over.wait(_PAUSE):
            try:
                request()
            except Exception as error:
                self._lost.append(f"{time.strftime('%X')} {type(error).__name__}: {error}")

    def _create(self) -> Callable[[], None]:
        """Return a function that creates a pod, on its own connection to the API server."""
        api = self._cluster.plane.user("load", ["system:masters"])
        wanted = pod(self._cluster.enrolled)

        def create() -> None:
            assert joins(api.create(wanted, dry_run=True)), "a pod was admitted without its label"
            self._counts["pods"] += 1

        return create

    def _ask(self) -> Callable[[], None]:
        """Return a function that sends a review to the Service, on a new connection."""
        context = ssl.create_default_context(cadata=_pem(self._authority))
        where = (self._cluster.service_ip, 443)
        body = json.dumps(reviews.review(pod("mendix"))).encode()

        def ask() -> None:
            plain = socket.create_connection(where, timeout=10)
            connection = http.client.HTTPConnection(_HOST)
            with context.wrap_socket(plain, server_hostname=_HOST) as connection.sock:
                headers = {"Content-Type": "application/json"}
                connection.request("POST", "/mutate/ambient", body, headers)
                answer = connection.getresponse()
                assert answer.status == http.HTTPStatus.OK, answer.status
                assert json.loads(answer.read())["response"]["allowed"]
            self._counts["direct"] += 1

        return ask


@contextlib.contextmanager
def under_load(cluster: NodeCluster, what: str) -> Iterator[None]:
    """Send reviews during the block, and after it until there were ENOUGH of them."""
    load = Load(cluster)
    threads = load.run()
    try:
        yield
        wait_for(lambda: load.reviews >= ENOUGH, seconds=120, every=0.5, why=f"{ENOUGH} reviews")
    finally:
        load.end()
        for thread in threads:
            thread.join()
    load.judge(what)


def _pem(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
