"""The allow-lists and the real istiod: which keys it reads, and the effect of allowed values."""

import copy
import json
import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as configure
from hypothesis import strategies as st

from tests.cluster import build
from tests.cluster.api import Json, StatusError, core
from tests.cluster.istio import IstioCluster, is_meshed
from tests.cluster.mesh import configured
from tests.unit.policy.inputs import knobs
from tests.unit.policy.inputs.explained import unexplained
from tests.unit.policy.inputs.knobs import lists, saying

#: Three keys of the list at a time, so that each is used.
KEYS = knobs.keys("istio")
BATCHES = [KEYS[at : at + 3] for at in range(0, len(KEYS), 3)]
#: The name of a mount that splits it in two: one is over the proxy's own programs.
PASTED = 'x"\n      mountPath: /usr/local/bin\n    - name: "x'
EXCLUDED = {"traffic.sidecar.istio.io/excludeInboundPorts": "9901"}


@pytest.fixture(scope="module")
def where(istio_cluster: IstioCluster) -> Iterator[str]:
    """A namespace for dry runs of Mendix's pods, with the settings by which values are drawn."""
    where = istio_cluster.enroll_for_trials()
    accounts = {pod["spec"].get("serviceAccountName", "default") for pod in knobs.mendix_pods()}
    for name in sorted(accounts - {"default"}):
        istio_cluster.api.create(core("ServiceAccount", name, where))
    probe = saying(placed(knobs.mendix_pods()[0], where), EXCLUDED, {})
    values = {"settings": {"istio": knobs.ISTIO}}
    with configured(istio_cluster, values, lambda: not istio_cluster.api.denial(probe)):
        yield where


def placed(pod: Json, where: str) -> Json:
    """The pod in another namespace."""
    moved = copy.deepcopy(pod)
    moved["metadata"]["namespace"] = where
    return moved


def stored(cluster: IstioCluster, pod: Json) -> Json:
    """Return the pod as the API server would store it, with one name for its token's volume."""
    text = json.dumps(cluster.api.create(pod, dry_run=True))
    renamed: Json = json.loads(re.sub(r"kube-api-access-\w{5}", "kube-api-access", text))
    return renamed


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: batch[0])
@configure(
    max_examples=2,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)
@given(data=st.data())
def test_whatever_the_lists_allow_is_admitted_and_explains_what_the_real_istiod_does(
    istio_cluster: IstioCluster, where: str, batch: Sequence[str], data: st.DataObject
) -> None:
    pod = placed(data.draw(st.sampled_from(knobs.mendix_pods())), where)
    annotations, labels = data.draw(knobs.allowed("istio", *batch))
    labels.pop("istio.io/rev", None)  # there is one revision; another's injector is not there
    made = stored(istio_cluster, saying(pod, annotations, labels))
    assert is_meshed(made)
    bare = stored(istio_cluster, pod)
    assert unexplained("istio", bare, made, annotations, labels) == []


VOLUME, MOUNT = knobs.VOLUME, knobs.MOUNT


@pytest.mark.parametrize(
    "annotations",
    [
        {VOLUME: '{"x": {"HostPath": {"path": "/"}}}'},
        {
            VOLUME: '{"x": {"emptyDir": {}}}',
            MOUNT: json.dumps({PASTED: {"mountPath": "/tmp/x"}}),
        },
        {"prometheus_io/path": "@example.com/x", "prometheus.io.port": "80"},
        {"resource.opentelemetry.io/service.version": '1"\n    - name: EVIL\n      value: "x'},
        {"apm.datadoghq.com/env": '{"PROXY_XDS_VIA_AGENT": "false"}'},
        {"k8s.v1.cni.cncf.io/networks": "a', traffic.sidecar.istio.io/excludeInterfaces: 'eth0"},
    ],
    ids=min,
)
def test_what_istiod_would_paste_to_another_place_is_denied(
    istio_cluster: IstioCluster, where: str, annotations: dict[str, str]
) -> None:
    pod = placed(knobs.mendix_pods()[0], where)
    with pytest.raises(StatusError, match="input-not-allowed"):
        istio_cluster.api.create(saying(pod, annotations, {}), dry_run=True)


#: An owner's kind that continues the template with a variable of the proxy.
KIND = "x\n    - name: evil\n      value: y"


@pytest.mark.parametrize(
    ("metadata", "said"),
    [({"generateName": "shop-"}, "metadata.ownerReferences"), ({"name": "shop"}, "ownerRef")],
    ids=["pasted", "not-pasted"],
)
def test_an_owner_that_istiod_would_paste_to_another_place_is_denied(
    istio_cluster: IstioCluster, where: str, metadata: Json, said: str
) -> None:
    """The API server never validates the kind of an owner."""
    pod = placed(knobs.mendix_pods()[0], where)
    owner = {"apiVersion": "v1", "kind": KIND, "name": "x", "uid": "1", "controller": True}
    pod["metadata"] = {**metadata, "namespace": where, "ownerReferences": [owner]}
    with pytest.raises(StatusError, match=f"input-not-allowed.*{said}"):
        istio_cluster.api.create(pod, dry_run=True)


def test_no_author_can_make_istiod_change_our_record(
    istio_cluster: IstioCluster, where: str
) -> None:
    """The value ends its place, completes the pod, adds our record, and drops the rest."""
    api, pod = istio_cluster.api, placed(knobs.mendix_pods()[0], where)
    pod["spec"]["automountServiceAccountToken"] = False
    made = api.create(pod, dry_run=True)
    (proxy,) = (one for one in made["spec"]["initContainers"] if one["name"] == "istio-proxy")
    evil = {"name": "ISTIO_BOOTSTRAP", "value": "/tmp/bootstrap.json"}
    proxy["env"].append(evil)
    kept = {key: proxy[key] for key in proxy.keys() - {"name", "image", "args"}}
    meta = {key: made["metadata"][key] for key in ("labels", "annotations")}
    meta["annotations"]["mendix-mesh.io/inputs"] = "allowed"
    text = "\n".join([
        "warning", *(f"    {key}: {json.dumps(value)}" for key, value in kept.items()),
        f"  volumes: {json.dumps(made['spec']['volumes'])}", f"metadata: {json.dumps(meta)}", "---",
    ])  # fmt: skip
    asking = saying(pod, {"sidecar.istio.io/logLevel": text}, {})
    with pytest.raises(StatusError, match=r"input-not-allowed.*logLevel"):
        api.create(asking, dry_run=True)


# What istiod reads.


def test_the_injection_templates_take_nothing_from_a_pod_that_is_not_judged() -> None:
    files = [*(build.istio_chart() / "files").glob("*inject*.yaml")]
    files += (build.istio_chart() / "files").glob("grpc-*.yaml")
    read = r"\.((?:Spec|ObjectMeta|DeploymentMeta|TypeMeta)\.\w+)|\$((?:c|container|p)\.\w+)"
    found = {"".join(one) for file in files for one in re.findall(read, file.read_text())}
    assert found == {
        "ObjectMeta.Annotations", "ObjectMeta.Labels", "Spec.ServiceAccountName",
        "Spec.Containers", "container.Name", "c.Ports",
        # From its owner or its name, and the request.
        "DeploymentMeta.Name", "DeploymentMeta.Namespace", "TypeMeta.APIVersion", "TypeMeta.Kind",
    }  # fmt: skip


#: Keys that istiod reads from pods and that authors must not set, and why not.
UNKNOWN = {
    "gateway.istio.io/agentgatewayImage": "the image of another proxy",
    "gateway.istio.io/controller-version": "istiod's mark on Gateways",
    "prometheus_istio_io_scrape_targets": "further pages that the agent, not captured, asks for",
}
#: Texts in its code that look like keys but are not keys of pods.
NO_KEYS = {"istio.io/insecurepath", "registry.istio.io/release"}
#: Kubernetes' own keys, which any author may set and which do not change the proxy.
KUBERNETES = (
    "kubectl.kubernetes.io/",
    "app.kubernetes.io/",
    "app",
    "version",
)


def declared() -> Iterator[str]:
    """Yield the keys in Istio's own list that pods, or any object, may have."""
    entry = r'= Instance \{\s*Name:\s*"([^"]+)".*?Resources: \[\]ResourceTypes\{(.*?)\}'
    for file in sorted(build.istio_keys().rglob("*.go")):
        for name, resources in re.findall(entry, file.read_text(), re.DOTALL):
            if re.search(r"\b(?:Pod|Any)\b", resources):
                yield name


def templated() -> Iterator[str]:
    """Yield the keys that the injection templates read from a pod."""
    for file in sorted((build.istio_chart() / "files").glob("*inject*.yaml")):
        yield from re.findall(r"ObjectMeta(?:\.[A-Z]\w+)? `([^`]+)`", file.read_text())


def coded() -> Iterator[str]:
    """Yield the keys that occur in the code of injector, agent and bootstrap."""
    dotted = r"(?:[a-z0-9]+\.)*(?:istio|prometheus|opentelemetry)\.io/[A-Za-z0-9._-]+"
    key = rf'"({dotted}|prometheus_[a-z_]+)"'
    for file in sorted(build.istio_injector().rglob("*.go")):
        if not file.name.endswith("_test.go"):
            yield from re.findall(key, file.read_text())


@pytest.mark.parametrize("find", [declared, templated, coded])
def test_every_key_that_istiod_reads_is_listed_or_denied(find: Callable[[], Iterator[str]]) -> None:
    found = {key for key in find() if key not in NO_KEYS and not key.startswith(KUBERNETES)}
    assert len(found) > 10
    unlisted = {key for key in found if not is_listed(key)}
    assert unlisted <= UNKNOWN.keys()
    for key in unlisted:
        problems = [one.problem(key, "x", submitted=True) for one in lists("istio")]
        assert any(problem and "is unknown" in problem.reason for problem in problems), key


def is_listed(key: str) -> bool:
    """Whether the key, or its beginning, is that of an input."""
    annotations, labels = lists("istio")
    known = {*annotations.listed, *labels.listed}
    known |= {re.sub(r"[^A-Za-z0-9]", "_", one) for one in known if one.startswith("prometheus")}
    return key in known or key.startswith(tuple(annotations.prefixes))


def test_every_key_that_is_denied_as_unknown_is_one_that_istiod_reads() -> None:
    read = {*declared(), *templated(), *coded()}
    if build.ISTIO != build.NEWEST_ISTIO:
        # Istio reads it since 1.31.
        read.add("prometheus_istio_io_scrape_targets")
    assert read >= UNKNOWN.keys()
