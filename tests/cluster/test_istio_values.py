"""What an admin says about Istio in the chart's values, seen on pods of the real istiod."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from tests.cluster.api import Json, StatusError, wait_for
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
from tests.cluster.mesh import MeshCluster, configured
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import (
    VERSIONS,
    annotations_of,
    pod,
    ready_pods,
    template_of,
    workload,
)

TRAFFIC = "traffic.sidecar.istio.io/"
TEMPLATES = "inject.istio.io/templates"
BYPASS = "ambient.istio.io/bypass-inbound-capture"
HOLD = "holdApplicationUntilProxyStarts"
REASON = "the database is not of the mesh"


@dataclass(frozen=True)
class Set:
    """A cluster and namespaces for which the values have settings."""

    cluster: IstioCluster
    enrolled: str
    other: str
    ingress: str
    ambient_ingress: str

    def tried(self, obj: Json) -> Json:
        return self.cluster.api.create(obj, dry_run=True)


@pytest.fixture(scope="module")
def classic(istio_plane: ControlPlane, mesh_cluster: MeshCluster) -> Iterator[Set]:
    """A cluster without native sidecars or a default revision: pods request the tag `prod`."""
    with Istiod(istio_plane, revision="1-31", tags=["prod"], native=False) as istiod:
        cluster = IstioCluster(**vars(mesh_cluster), istiod=istiod)
        made = Set(
            cluster,
            enrolled=cluster.enroll("enforce"),
            other=cluster.enroll("enforce"),
            ingress=cluster.enroll("enforce"),
            ambient_ingress=cluster.enroll("enforce", mesh="ambient"),
        )
        allow: Json = {
            "reason": REASON,
            "namespaces": [made.enrolled],
            "selector": {"matchLabels": {"app": "shop"}},
            "outboundPorts": "5432,6000-6100",
            "inboundPorts": "9090",
            "subnets": ["10.1.0.0/16"],
        }
        lapsed = {**allow, "outboundPorts": "25", "until": "2020-12-31"}
        values = {
            "ingress": {"namespaces": [made.ingress, made.ambient_ingress]},
            "settings": {
                "istio": {
                    "revision": "prod",
                    "nativeSidecars": False,
                    "controlPlaneHosts": ["istiod.istio-system.svc.cluster.example"],
                },
                "allow": [allow, lapsed],
            },
        }

        def works() -> bool:
            with contextlib.suppress(StatusError):
                return labels_of(made.tried(pod(made.enrolled))).get(REVISION) == "prod"
            return False

        with configured(mesh_cluster, values, works):
            yield made


@pytest.mark.parametrize("kind", VERSIONS)
def test_pods_ask_for_the_revision_of_the_settings(classic: Set, kind: str) -> None:
    api, where = classic.cluster.api, classic.cluster.enroll()
    stored = api.create(workload(kind, where))
    made = stored if kind == "Pod" else template_of(stored)
    assert labels_of(made)[REVISION] == "prod"
    if kind != "CronJob":
        (found,) = ready_pods(api, where)
        assert sidecar_of(found) == "classic"
        assert is_meshed(found)
        assert annotations_of(found)[REVISION] == "1-31"


def test_without_the_setting_no_webhook_would_match(classic: Set) -> None:
    """The opt-in label is not enough if no revision is the default."""
    where = classic.cluster.plane.new_namespace()
    assert not sidecar_of(classic.tried(pod(where, labels={INJECT: "true"})))


@pytest.mark.parametrize(
    ("before", "others"),
    [
        (None, {}),
        ('{"concurrency": 2}', {"concurrency": 2}),
        ("concurrency: 2\nproxyMetadata:\n  ISTIO_META_DNS_CAPTURE: 'true' # why\n",
         {"concurrency": 2, "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}),
        ("drain_duration: 5s", {"drain_duration": "5s"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("owner", ["Job", "Pod"])
def test_a_task_waits_for_its_proxy_if_that_is_classic(
    classic: Set, before: str | None, others: Json, owner: str
) -> None:
    api, where = classic.cluster.api, classic.cluster.enroll()
    annotations = {CONFIG: before} if before else {}
    api.create(workload(owner, where, annotations=annotations, restartPolicy="Never"))
    (found,) = wait_for(lambda: api.list("Pod", where), why="the task's pod")
    assert yaml.safe_load(annotations_of(found)[CONFIG]) == {**others, HOLD: True}
    assert NATIVE not in annotations_of(found)
    # The injector applied it: the proxy is first, and the next container waits for its hook.
    proxy = found["spec"]["containers"][0]
    assert proxy["name"] == "istio-proxy"
    assert proxy["lifecycle"]["postStart"]["exec"]["command"] == ["pilot-agent", "wait"]


@pytest.mark.parametrize(
    "annotations",
    [
        {f"{TRAFFIC}excludeOutboundPorts": "5432, 6050"},
        {f"{TRAFFIC}excludeInboundPorts": "9090"},
        {f"{TRAFFIC}excludeOutboundIPRanges": "10.1.0.0/16"},
    ],
    ids=str,
)
def test_traffic_that_the_settings_allow_may_pass_the_proxy_by_for_those_pods_alone(
    classic: Set, annotations: Json
) -> None:
    shop = {"app": "shop"}
    stored = classic.tried(pod(classic.enrolled, labels=shop, annotations=annotations))
    assert is_meshed(stored)
    for where, labels in ((classic.other, shop), (classic.enrolled, {"app": "other"})):
        with pytest.raises(StatusError, match="capture-bypassed"):
            classic.tried(pod(where, labels=labels, annotations=annotations))


@pytest.mark.parametrize(
    "annotations",
    [{f"{TRAFFIC}includeInboundPorts": ""}, {f"{TRAFFIC}includeInboundPorts": "8443"}],
    ids=str,
)
def test_an_ingress_controller_may_take_in_what_is_not_of_the_mesh(
    classic: Set, annotations: Json
) -> None:
    assert is_meshed(classic.tried(pod(classic.ingress, annotations=annotations)))
    assert classic.cluster.judge_of(classic.ingress) == "istio.enforce.ingress"
    with pytest.raises(StatusError, match="capture-bypassed"):
        classic.tried(pod(classic.other, annotations=annotations))
