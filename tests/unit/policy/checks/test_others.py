"""Small checks: foreign-mesh, udp-port, shared-identity, inject-label-ignored."""

from typing import Any

import pytest

from tests.fixtures.changes import APP, PROXY, annotation, changed, label, put
from tests.fixtures.meshes.linkerd import app, injected
from tests.unit.policy.judge import broken, judge
from webhook.policy.checks import foreign_mesh
from webhook.policy.mesh import Mesh
from webhook.policy.pod import objects
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import pod_of
from webhook.policy.settings import Settings


class Other(Mesh):
    """Return a mesh with only a name."""

    def __init__(self, name: str) -> None:
        super().__init__(Settings())
        self.name = name


def foreign(name: str, document: dict[str, Any]) -> list[str]:
    mesh = Other(name)
    pod = pod_of(objects.convert(document), mesh, Request())
    assert pod is not None
    found = foreign_mesh.find(mesh, pod)
    return sorted(occurrence.field for occurrence in found)


def test_every_other_mesh_is_foreign_and_one_s_own_is_not() -> None:
    pod = injected(
        label("sidecar.istio.io/inject", "true"), label("istio.io/dataplane-mode", "ambient")
    )
    of_linkerd = [
        "metadata.annotations[linkerd.io/inject]",
        "spec.initContainers[linkerd-init].name",
        "spec.initContainers[linkerd-proxy].name",
    ]
    istio = ["metadata.labels[sidecar.istio.io/inject]"]
    ambient = ["metadata.labels[istio.io/dataplane-mode]"]
    assert foreign("linkerd", pod) == [*ambient, *istio]
    assert foreign("istio", pod) == sorted(of_linkerd + ambient)
    assert foreign("ambient", pod) == sorted(of_linkerd + istio)


@pytest.mark.parametrize("name", ["istio-proxy", "istio-init", "istio-validation"])
def test_istio_s_containers_are_foreign_to_linkerd(name: str) -> None:
    pod = changed(app(), put("/spec/initContainers", [{"name": name, "image": "x"}]))
    assert foreign("linkerd", pod) == [f"spec.initContainers[{name}].name"]


def test_keeping_out_of_another_mesh_is_not_being_in_it() -> None:
    pod = changed(app(), annotation("linkerd.io/inject", "disabled"))
    assert foreign("istio", pod) == []


def test_the_proxy_s_own_ports_do_not_count() -> None:
    pod = changed(injected(), put(PROXY + "/ports/0/protocol", "UDP"))
    assert broken(judge(pod), "warning") == []


@pytest.mark.parametrize("protocol", [None, "", "TCP"])
def test_a_port_without_protocol_is_tcp(protocol: str | None) -> None:
    assert broken(judge(injected(put(APP + "/ports/0/protocol", protocol))), "warning") == []


def test_each_port_that_is_not_tcp_is_reported() -> None:
    ports = [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 80},
             {"containerPort": 54, "protocol": "SCTP"}]  # fmt: skip
    verdict = judge(injected(put(APP + "/ports", ports)))
    assert [(v.field, v.values) for v in verdict.violations] == [
        ("spec.containers[mendix].ports[53]", ("53/UDP",)),
        ("spec.containers[mendix].ports[54]", ("54/SCTP",)),
    ]


@pytest.mark.parametrize("account", [None, "", "default"])
def test_no_account_is_the_default_one(account: str | None) -> None:
    pod = injected(put("/spec/serviceAccountName", account))
    assert broken(judge(pod), "warning") == ["shared-identity"]


def test_every_label_that_is_meant_as_an_annotation_is_reported() -> None:
    pod = injected(label("config.linkerd.io/skip-outbound-ports", "25"),
                   label("linkerd.io/inject", "enabled"))  # fmt: skip
    verdict = judge(pod)
    assert [v.check for v in verdict.violations] == ["inject-label-ignored"] * 2
    assert broken(verdict) == []
