"""Pods of every kind of workload join Istio, in every form that its real injector gives them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.api import Api, Json, wait_for
from tests.cluster.istio import (
    CONFIG,
    INJECT,
    NATIVE,
    REVISION,
    IstioCluster,
    is_meshed,
    labels_of,
    sidecar_of,
)
from tests.cluster.istiod import Istiod
from tests.cluster.test_joins import make
from tests.cluster.workloads import (
    VERSIONS,
    annotations_of,
    pod,
    ready_pods,
    template_of,
    workload,
)
from tests.fixtures.changes import RECORD

APP = {"name": "app", "image": "registry.example.com/shop:1", "ports": [{"containerPort": 8080}]}
TRAFFIC = "traffic.sidecar.istio.io/"

#: Istio with other installation options, each as its own revision.
CNI: Json = {"pilot": {"cni": {"enabled": True}}}
OTHER: Json = {
    "global": {
        "hub": "registry.istio.io/release",
        "logAsJson": True,
        "nativeNftables": True,
        "imagePullPolicy": "Always",
        "meshID": "mesh1",
        "proxy_init": {"forceApplyIptables": True},
        "sts": {"servicePort": 463},
        "proxy": {
            "outlierLogPath": "/dev/stdout",
            "seccompProfile": {"type": "RuntimeDefault"},
            "holdApplicationUntilProxyStarts": True,
            "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        },
    },
    "meshConfig": {
        "defaultConfig": {
            "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true", "XDS_AUTH_PROVIDER": "gcp"},
            "terminationDrainDuration": "20s",
            "runtimeValues": {"overload.global_downstream_max_connections": "100000"},
        }
    },
}


def config(**fields: Any) -> Json:
    return {CONFIG: json.dumps(fields)}


def customised(**proxy: Any) -> Json:
    """Return a pod's spec in which the author customises the proxy, as Istio documents it."""
    return {"containers": [APP, {"name": "istio-proxy", "image": "auto", **proxy}]}


#: What changes the form of a pod in Istio: metadata and spec. All inputs are in test_istio_inputs.
VARIATIONS: dict[str, Json] = {
    "plain": {},
    "TPROXY": {"annotations": {"sidecar.istio.io/interceptionMode": "TPROXY"}},
    "TPROXY by number": {"annotations": {CONFIG: "interception_mode: 1"}},
    "low ports": {"annotations": {"sidecar.istio.io/capNetBindService": "true"}},
    "waits for the proxy": {"annotations": config(holdApplicationUntilProxyStarts=True)},
    "all captured": {
        "annotations": {
            f"{TRAFFIC}includeInboundPorts": "*",
            f"{TRAFFIC}includeOutboundIPRanges": "*",
            f"{TRAFFIC}excludeOutboundIPRanges": "",
        }
    },
    "DNS captured": {"annotations": config(proxyMetadata={"ISTIO_META_DNS_CAPTURE": "true"})},
    "a volume for the proxy": {
        "annotations": {
            "sidecar.istio.io/userVolume": '{"wasm": {"emptyDir": {}}}',
            "sidecar.istio.io/userVolumeMount": '{"wasm": {"mountPath": "/var/local/wasm"}}',
        }
    },
    "no status port": {"annotations": {"status.sidecar.istio.io/port": "0"}},
    "another network": {"labels": {"topology.istio.io/network": "network2"}},
    "out of ambient": {"labels": {"istio.io/dataplane-mode": "none"}},
    "another opt-in by label": {"labels": {INJECT: "yes"}},
    "customised": customised(resources={"requests": {"cpu": "5m"}}, env=[{"name": "TZ"}]),
    "no token": {"automountServiceAccountToken": False},
    "init containers and sidecars": {
        "initContainers": [
            {"name": "setup", "image": "setup"},
            {"name": "check", "image": "check"},
        ],
        "containers": [APP, {"name": "exporter", "image": "exporter"}],
    },
    "restricted": {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    },
}


@pytest.fixture
def api(istio_cluster: IstioCluster) -> Api:
    return istio_cluster.api


@pytest.fixture(scope="module")
def installs(istio_cluster: IstioCluster) -> Iterator[list[str]]:
    """Revisions of Istio besides the default one, with other options; "" is the default."""
    plane = istio_cluster.plane
    with (
        Istiod(plane, revision="cni", values=CNI),
        Istiod(plane, revision="other", values=OTHER, native=False),
    ):
        yield ["", "cni", "other"]


@pytest.fixture(scope="module")
def enrolled(istio_cluster: IstioCluster) -> str:
    """A namespace for pods that are only tried."""
    return istio_cluster.enroll_for_trials()


@pytest.mark.parametrize("kind", [kind for kind in VERSIONS if kind != "Pod"])
def test_a_template_is_opted_in_when_it_is_created(api: Api, enrolled: str, kind: str) -> None:
    stored = api.create(workload(kind, enrolled), dry_run=True)
    assert labels_of(template_of(stored))[INJECT] == "true"
    assert INJECT not in labels_of(stored)
    task = kind in ("Job", "CronJob")
    assert (annotations_of(template_of(stored)).get(NATIVE) == "true") == task


@pytest.mark.parametrize("variation", VARIATIONS.values(), ids=VARIATIONS)
def test_every_form_that_the_injector_gives_a_pod_is_admitted(
    api: Api, installs: list[str], enrolled: str, variation: Json
) -> None:
    metadata = {key: variation.get(key, {}) for key in ("labels", "annotations")}
    spec = {key: value for key, value in variation.items() if key not in metadata}
    for revision in installs:
        for shape, native in (("native", "true"), ("classic", "false")):
            made = pod(
                enrolled,
                labels={**metadata["labels"], **({REVISION: revision} if revision else {})},
                annotations={**metadata["annotations"], NATIVE: native},
                **{"containers": [APP], **spec},
            )
            stored = api.create(made, dry_run=True)
            assert sidecar_of(stored) == shape
            assert is_meshed(stored)


@pytest.mark.parametrize("revision", ["cni", "other"])
def test_the_installs_do_differ(
    api: Api, installs: list[str], enrolled: str, revision: str
) -> None:
    """Without this the test before might have seen one form of pod only."""
    stored = api.create(pod(enrolled, labels={REVISION: revision}), dry_run=True)
    init, *rest = stored["spec"]["initContainers"]
    if revision == "cni":
        assert init["name"] == "istio-validation"
        assert [container["name"] for container in rest] == ["istio-proxy"]
    else:
        assert sidecar_of(stored) == "classic"
        assert {"--log_as_json", "--force-apply", "--native-nftables"} <= {*init["args"]}
        assert init["image"].startswith("registry.istio.io/release/proxyv2:")
        assert stored["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]


@pytest.mark.parametrize("labels", [{"istio-injection": "enabled"}, {REVISION: "default"}], ids=str)
def test_a_namespace_that_asks_for_injection_itself_is_no_obstacle(
    istio_cluster: IstioCluster, labels: Json
) -> None:
    where = istio_cluster.enroll()
    istio_cluster.api.patch("Namespace", where, None, {"metadata": {"labels": labels}})
    istio_cluster.await_judge(where, "istio.enforce")
    assert is_meshed(istio_cluster.api.create(pod(where), dry_run=True))


@pytest.mark.parametrize("kind", ["Job", "CronJob", "Pod"])
def test_what_must_end_ends_even_if_the_mesh_injects_classic_sidecars(
    istio_cluster: IstioCluster, installs: list[str], kind: str
) -> None:
    api, where = istio_cluster.api, istio_cluster.enroll()
    labels = {"metadata": {"labels": {REVISION: "other"}}}
    api.patch("Namespace", where, None, labels)
    istio_cluster.await_judge(where, "istio.enforce")
    make(api, kind, where, restartPolicy="Never")
    (ended,) = wait_for(
        lambda: [
            one for one in api.list("Pod", where) if one["status"].get("phase") == "Succeeded"
        ],
        why="the pod to end",
    )
    assert sidecar_of(ended) == "native"
    # A pod that runs for ever has the mesh's default kind of proxy.
    assert sidecar_of(api.create(pod(where, "app"), dry_run=True)) == "classic"


def test_a_gateway_that_is_only_istios_proxy_is_admitted(api: Api, enrolled: str) -> None:
    """A pod of Istio's chart `gateway`: the injector fills in everything."""
    proxy = {"name": "istio-proxy", "image": "auto", "securityContext": {"runAsUser": 1337}}
    made = workload(
        "Deployment",
        enrolled,
        "gateway",
        annotations={"inject.istio.io/templates": "gateway"},
        containers=[proxy],
    )
    made["spec"]["template"]["metadata"]["labels"][INJECT] = "true"
    api.create(made)
    (found,) = ready_pods(api, enrolled, "gateway")
    (only,) = found["spec"]["containers"]
    assert only["args"][:2] == ["proxy", "router"]
    assert RECORD not in annotations_of(found)
