"""How the stand-in injector answers over HTTPS, without a cluster."""

import base64
import json
import ssl
from collections.abc import Iterator
from typing import Any, cast

import httpx
import jsonpatch
import pytest

from tests.cluster.api import Api, StatusError
from tests.standins.linkerd import InjectorConfig
from tests.standins.linkerd_server import LinkerdInjector

Json = dict[str, Any]


class FakeApi:
    """The API server as the injector uses it: stored objects, by kind and name."""

    def __init__(self, **stored: Json) -> None:
        self.stored = {name.replace("_", "/", 1).replace("_", "-"): o for name, o in stored.items()}

    def get(self, kind: str, name: str, _namespace: str | None = None) -> Json:
        try:
            return self.stored[f"{kind}/{name}"]
        except KeyError:
            raise StatusError(404, f'{kind} "{name}" not found', {}) from None


@pytest.fixture
def fake() -> FakeApi:
    enabled = {"linkerd.io/inject": "enabled"}
    replica_set = {"ownerReferences": [{"kind": "Deployment", "name": "shop"}]}
    return FakeApi(
        Namespace_mendix={"metadata": {"name": "mendix", "annotations": enabled}},
        ReplicaSet_shop_1={"metadata": replica_set},
    )


@pytest.fixture
def injector(fake: FakeApi) -> Iterator[LinkerdInjector]:
    server = LinkerdInjector(cast("Api", fake))
    server.restart()
    yield server
    server.stop()


@pytest.fixture
def client(injector: LinkerdInjector) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cadata=injector.ca)
    with httpx.Client(verify=context, base_url=injector.url, trust_env=False) as http:
        yield http


def review(namespace: str = "mendix", **metadata: Any) -> Json:
    metadata = {"name": "shop", "namespace": namespace, **metadata}
    obj = {"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "a"}]}}
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"kind": "Pod", "version": "v1", "group": ""},
            "namespace": namespace,
            "name": "shop",
            "object": obj,
        },
    }


def ask(client: httpx.Client, payload: Json) -> Json:
    answer = client.post("/", json=payload).raise_for_status().json()
    assert answer["request"] == payload["request"]
    assert answer["apiVersion"] == payload["apiVersion"]
    assert answer["response"]["uid"] == "u-1"
    return cast("Json", answer["response"])


def patched(payload: Json, response: Json) -> Json:
    patch = json.loads(base64.b64decode(response["patch"]))
    return cast("Json", jsonpatch.apply_patch(payload["request"]["object"], patch))


def test_a_pod_of_an_enabled_namespace_gets_the_proxy(
    client: httpx.Client, injector: LinkerdInjector
) -> None:
    payload = review()
    response = ask(client, payload)
    assert response["allowed"] is True
    assert response["patchType"] == "JSONPatch"
    names = [c["name"] for c in patched(payload, response)["spec"]["initContainers"]]
    assert names == ["linkerd-init", "linkerd-proxy"]
    assert injector.answered[-1].skipped == ()


def test_a_skipped_pod_is_admitted_without_a_patch(
    client: httpx.Client, injector: LinkerdInjector
) -> None:
    response = ask(client, review(annotations={"linkerd.io/inject": "disabled"}))
    assert response == {"uid": "u-1", "allowed": True}
    assert injector.answered[-1].skipped == ("injection_disable_annotation_present",)


def test_a_namespace_that_is_not_found_denies_the_pod(
    client: httpx.Client, injector: LinkerdInjector
) -> None:
    response = ask(client, review("other"))
    assert response["allowed"] is False
    assert "not found" in response["status"]["message"]
    assert injector.answered[-1].error


def test_an_error_of_the_injector_denies_the_pod(client: httpx.Client) -> None:
    bad = {"config.linkerd.io/proxy-log-http-headers": "all"}
    assert ask(client, review(annotations=bad))["allowed"] is False


def test_a_broken_patch_is_sent_as_it_is(client: httpx.Client, injector: LinkerdInjector) -> None:
    response = ask(client, review(annotations={"config.linkerd.io/proxy-version": 'edge"'}))
    assert response["allowed"] is True
    with pytest.raises(ValueError, match="delimiter"):
        json.loads(base64.b64decode(response["patch"]))
    assert injector.answered[-1].skipped == ()


@pytest.mark.parametrize(
    ("name", "label"),
    [("shop-1", {"proxy-deployment": "shop"}), ("gone", {"proxy-replicaset": "gone"})],
)
def test_the_deployment_of_a_replica_set_is_looked_up_if_it_can_be(
    client: httpx.Client, name: str, label: dict[str, str]
) -> None:
    payload = review(ownerReferences=[{"kind": "ReplicaSet", "name": name}])
    labels = patched(payload, ask(client, payload))["metadata"]["labels"]
    found = {k: v for k, v in labels.items() if k.startswith("linkerd.io/proxy-")}
    assert found == {f"linkerd.io/{key}": value for key, value in label.items()}


def test_the_settings_can_be_changed_while_it_runs(
    client: httpx.Client, injector: LinkerdInjector
) -> None:
    injector.config = InjectorConfig(native=False)
    payload = review()
    names = [c["name"] for c in patched(payload, ask(client, payload))["spec"]["containers"]]
    assert names == ["linkerd-proxy", "a"]


def test_a_stopped_injector_answers_on_no_connection_and_comes_back_at_its_port(
    client: httpx.Client, injector: LinkerdInjector
) -> None:
    ask(client, review())  # leaves a connection open
    url = injector.url
    injector.stop()
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            client.post("/", json=review())
    injector.restart()
    assert injector.url == url
    assert ask(client, review())["allowed"] is True


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"{", 400),
        (b"[]", 400),
        (b'{"request": {}}', 400),
        (b'{"request": {"uid": ""}}', 400),
        (b" " * (10 * 1024 * 1024 + 1), 500),
    ],
)
def test_what_is_no_review_is_answered_as_linkerd_answers_it(
    client: httpx.Client, body: bytes, status: int
) -> None:
    answer = client.post("/", content=body)
    assert answer.status_code == status
    assert answer.content == b""


def test_a_client_that_speaks_no_tls_does_not_keep_others_waiting(
    client: httpx.Client, injector: LinkerdInjector
) -> None:
    plain = httpx.Client(trust_env=False, timeout=5)
    with plain, pytest.raises(httpx.TransportError):
        plain.post(injector.url.replace("https", "http"), json=review())
    assert ask(client, review())["allowed"] is True
