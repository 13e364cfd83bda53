"""Small checks: foreign-mesh, udp-port, shared-identity, inject-label-ignored."""

import pytest

from tests.fixtures.changes import APP, PROXY, annotation, changed, label, put
from tests.fixtures.meshes.linkerd import injected
from tests.unit.policy.judge import broken, judge
from webhook.policy.checks import further_network


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


@pytest.mark.parametrize("key", further_network.NETWORKS)
def test_a_network_of_any_kind_gets_a_warning(key: str) -> None:
    verdict = judge(injected(annotation(key, "storage")))
    assert "further-network" in broken(verdict, "warning")
