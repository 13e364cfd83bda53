"""Each form of Istio's sidecar speaks mutual TLS, and refuses plaintext if the policy is STRICT."""

import pytest

from tests.cluster.api import Json
from tests.cluster.istio import NATIVE, REVISION, sidecar_of
from tests.wire.capture import Hello, client_hello, readable, version
from tests.wire.cluster import FAR, NEAR, PLUGIN, WireCluster, app, service, url

pytestmark = pytest.mark.timeout(300)

#: Form -> labels, annotations, and the first container that the injector adds.
FORMS: dict[str, tuple[Json, Json, str]] = {
    "native": ({}, {NATIVE: "true"}, "istio-init"),
    "classic": ({}, {NATIVE: "false"}, "istio-init"),
    PLUGIN: ({REVISION: PLUGIN}, {}, "istio-validation"),
}


@pytest.fixture(scope="module")
def clients(wire: WireCluster) -> list[Json]:
    """A client in the mesh, and one outside."""
    return wire.run(
        app(wire.namespace("enforce"), "client", NEAR), app(wire.namespace(), "client", NEAR)
    )


@pytest.mark.parametrize("form", FORMS)
def test_each_form_speaks_tls_and_refuses_plaintext(
    wire: WireCluster, clients: list[Json], form: str, request: pytest.FixtureRequest
) -> None:
    if form == PLUGIN:
        request.getfixturevalue("plugin")
    labels, annotations, first = FORMS[form]
    inside, outside = clients
    where, mark = wire.namespace("enforce", mtls="STRICT"), wire.capture.now
    front = service(where, form)
    wire.api.create(front)
    (server,) = wire.run(app(where, form, FAR, labels=labels, annotations=annotations))
    assert server["spec"]["initContainers"][0]["name"] == first
    assert sidecar_of(server) == ("classic" if form == "classic" else "native")
    exchange = wire.await_answer(inside, server, url(front))
    address = server["status"]["podIP"]
    packets = wire.capture.since(mark, address, inside["status"]["podIP"])
    assert all(one.is_tls for one in packets)
    assert readable(packets, exchange.marker) == 0
    name = f"outbound_.8080_._.{form}.{where}.svc.cluster.local"
    assert client_hello(packets) == Hello(name, ("istio",))
    assert version(packets) == "TLS 1.3"
    assert wire.call(outside, server, f"{address}:8080").sent.error
    assert wire.stats(server)["listener.0.0.0.0_15006.no_filter_chain_match"] > 0
