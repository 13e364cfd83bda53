"""Each bypass is denied in mode enforce. In mode warn its pod runs, and the capture shows why."""

import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.cluster.api import Json, StatusError
from tests.cluster.istio import REVISION
from tests.fixtures.fixture import Fixture
from tests.wire import images
from tests.wire.capture import readable
from tests.wire.cluster import FAR, NEAR, PLUGIN, WireCluster, app, identity, service, url
from tests.wire.seen import (
    ABSENT,
    ACCEPTS,
    DENIED_BY,
    FIRST,
    MISTAKES,
    NOTES,
    PEERS,
    SEEN,
    SENDS,
    plugin_rows,
    rows,
    submitted,
)

pytestmark = pytest.mark.timeout(300)

ROWS, PLUGIN_ROWS = rows(), plugin_rows()
_AHEAD = 10
"""So many pods start while earlier ones are observed."""
_UP = 120.0
"""Seconds in which a pod must run. One that is not expected to gets an eighth of them."""
_MORE = 3
"""So often a row is observed again if it differs: proxies hear of a new pod a moment later."""


@dataclass(frozen=True)
class Started:
    """A row's pod as it was submitted, the Service in front of it, and when both were created."""

    pod: Json
    front: Json
    mark: int
    seconds: float


@dataclass(frozen=True)
class Place:
    """The namespaces of the table, its clients and its server, and the pods that were started."""

    wire: WireCluster
    enforce: str
    warn: str
    server: Json
    """A pod in the mesh, in mode PERMISSIVE. It is also the client in the mesh."""
    targets: tuple[str, str]
    outside: Json
    started: dict[str, Started] = field(default_factory=dict)

    def start(self, name: str) -> Started:
        """Start a row's pod and the next few, unless they are. Return the first."""
        names = list(ROWS)
        at = names.index(name)
        for one in names[at : at + _AHEAD]:
            if one not in self.started:
                self.started[one] = self.submit(ROWS[one])
        return self.started[name]

    def submit(self, fixture: Fixture, labels: Json | None = None) -> Started:
        """Create the pod of a fixture, with more labels, and a Service in front of it."""
        mark, name = self.wire.capture.now, f"{fixture.check}-{fixture.what}"
        front = service(self.warn, name)
        front["spec"]["publishNotReadyAddresses"] = True
        pod = submitted(fixture, self.warn)
        pod["spec"] |= {"nodeSelector": FAR, "terminationGracePeriodSeconds": 0}
        pod["metadata"]["labels"] |= {"app": name, **(labels or {})}
        for one in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            one["imagePullPolicy"] = "Never"
            if one["name"] == "prepare":
                one |= {"image": images.APP, "args": ["task", self.targets[0], f"--marker={FIRST}"]}
        self.wire.api.create(front)
        return Started(self.wire.api.create(pod), front, mark, time.monotonic())

    def end(self, started: Started) -> None:
        """Delete a row's pod and its Service."""
        self.wire.api.delete("Service", started.front["metadata"]["name"], self.warn)
        self.wire.api.delete("Pod", started.pod["metadata"]["name"], self.warn)

    def running(self, started: Started, seconds: float) -> Json | None:
        """Return a row's pod when its app runs; None if it does not within some seconds."""
        while True:
            found = self.wire.api.get("Pod", started.pod["metadata"]["name"], self.warn)
            statuses = found["status"].get("containerStatuses", ())
            if any(one["name"] == "mendix" and "running" in one["state"] for one in statuses):
                return found
            if time.monotonic() > started.seconds + seconds:
                return None
            time.sleep(0.1)


@pytest.fixture(scope="module")
def place(wire: WireCluster) -> Iterator[Place]:
    enforce, warn = wire.namespace("enforce"), wire.namespace("warn", mtls="STRICT")
    target = wire.namespace("enforce")
    front = service(target, "server")
    wire.api.create(front)
    server, outside = wire.run(app(target, "server", NEAR), app(wire.namespace(), "client", NEAR))
    made = Place(wire, enforce, warn, server, (url(front), url(front, 5432)), outside)
    yield made
    for one in made.started.values():
        made.end(one)


@pytest.mark.parametrize("name", ROWS)
def test_a_bypass_is_denied_and_would_show_on_the_wire(place: Place, name: str) -> None:
    started, fixture = place.start(name), ROWS[name]
    with pytest.raises(StatusError) as denied:
        place.wire.api.create(submitted(fixture, place.enforce), dry_run=True)
    assert f"  {DENIED_BY.get(name, fixture.check)}  " in denied.value.message
    assert_seen(place, started, SEEN[name])
    place.end(place.started.pop(name))


@pytest.mark.parametrize("name", PLUGIN_ROWS)
@pytest.mark.usefixtures("plugin")
def test_if_the_cni_plugin_redirects_the_same_shows(place: Place, name: str) -> None:
    fixture, labels = PLUGIN_ROWS[name], {REVISION: PLUGIN}
    pod = submitted(fixture, place.enforce)
    pod["metadata"]["labels"] |= labels
    with pytest.raises(StatusError) as denied:
        place.wire.api.create(pod, dry_run=True)
    assert f"  {fixture.check}  " in denied.value.message
    started = place.submit(fixture, labels)
    first, *_ = started.pod["spec"]["initContainers"]
    assert first["name"] == "istio-validation"
    assert_seen(place, started, SEEN[name])
    place.end(started)


def assert_seen(place: Place, started: Started, expected: AbstractSet[str]) -> None:
    """Assert what the capture shows of a row's pod when it runs."""
    pod = place.running(started, _UP / 8 if ABSENT in expected else _UP)
    seen = observe(place, started, pod) if pod else {ABSENT}
    for _ in range(_MORE):
        if seen != expected and pod:
            time.sleep(1)
            seen = observe(place, started, pod)
    assert seen == expected


def observe(place: Place, started: Started, pod: Json) -> set[str]:
    """Send requests from and to a row's pod. Return what the capture shows."""
    wire, seen, own = place.wire, set(), url(started.front)
    # Later than this program, the app has opened its ports.
    if wire.call(pod, place.server, *place.targets).in_clear:
        seen.add(SENDS)
    with ThreadPoolExecutor() as pool:
        from_peer = pool.submit(wire.call, place.server, pod, own)
        inbound = wire.call(place.outside, pod, own).sent
    if from_peer.result().in_clear:
        seen.add(PEERS)
    if inbound.ok:
        seen.add(ACCEPTS)
        client = inbound.headers.get("x-forwarded-client-cert", "").partition("URI=")[2]
        if client.startswith(identity(pod)):
            seen.add(MISTAKES)
    packets = wire.capture.since(started.mark, pod["status"]["podIP"])
    if readable(packets, FIRST):
        seen.add(FIRST)
    return seen


def test_each_row_has_what_it_shows_or_why_it_shows_nothing() -> None:
    assert SEEN.keys() == ROWS.keys()
    unexplained = {name for name, seen in SEEN.items() if seen <= {ABSENT}} ^ NOTES.keys()
    assert unexplained == set()
