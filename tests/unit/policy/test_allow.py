"""Traffic that an admin allows outside the mesh for some pods: ports, subnets, templates."""

import datetime
from typing import Any

import pytest

from tests.fixtures.changes import annotation, changed
from tests.fixtures.meshes import istio, linkerd
from tests.fixtures.meshes.istio import traffic
from tests.fixtures.meshes.linkerd import config
from tests.standins.istio import InjectorConfig
from tests.unit.policy.judge import Json, broken, judge, settings
from webhook.policy.settings import Settings, SettingsError

TODAY = datetime.date(2027, 6, 30)
DAY = datetime.timedelta(days=1)


def allowing(*entries: Json) -> Settings:
    """Return settings with each of these allowances, in every namespace unless it names one."""
    return settings(
        allow=[{"reason": "because", "namespaces": ["*"], **entry} for entry in entries]
    )


def found(pod: Json, *entries: Json, by: str = "istio", **more: Any) -> list[str]:
    return broken(judge(pod, by=by, given=allowing(*entries), today=TODAY, **more))


DATABASE = traffic("excludeOutboundPorts", "5432")


@pytest.mark.parametrize("config", [InjectorConfig(), istio.CNI, istio.CLASSIC])
@pytest.mark.parametrize(
    ("short", "value", "entry", "other"),
    [
        ("excludeOutboundPorts", "5432", {"outboundPorts": "5432"}, {"inboundPorts": "5432"}),
        ("excludeOutboundPorts", "5432,5433", {"outboundPorts": "5000-6000"},
         {"outboundPorts": "5432"}),
        ("excludeInboundPorts", "8900", {"inboundPorts": "8900"}, {"outboundPorts": "8900"}),
        ("excludeOutboundIPRanges", "10.0.0.0/8,10.1.0.0/16",
         {"subnets": ["10.1.0.0/16", "10.0.0.0/8"]}, {"subnets": ["10.0.0.0/8"]}),
    ],
)  # fmt: skip
def test_what_is_allowed_passes_in_istio_and_nothing_beside_it(
    config: InjectorConfig, short: str, value: str, entry: Json, other: Json
) -> None:
    pod = istio.injected(traffic(short, value), config=config)
    assert found(pod) == ["capture-bypassed"]
    assert found(pod, entry) == []
    assert found(pod, other) == ["capture-bypassed"]


@pytest.mark.parametrize(
    ("short", "value", "entry"),
    [
        ("skip-outbound-ports", "5432", {"outboundPorts": "5432"}),
        ("skip-inbound-ports", "8900", {"inboundPorts": "8900"}),
        ("skip-subnets", "10.0.0.0/8", {"subnets": ["10.0.0.0/8"]}),
    ],
)
def test_the_same_is_allowed_in_linkerd(short: str, value: str, entry: Json) -> None:
    pod = linkerd.injected(config(short, value))
    assert found(pod, by="linkerd") == ["capture-bypassed"]
    assert found(pod, entry, by="linkerd") == []
    assert found(pod, {**entry, "namespaces": ["other"]}, by="linkerd") == ["capture-bypassed"]


def test_a_template_is_allowed_by_its_name() -> None:
    pod = changed(istio.injected(), annotation(istio.TEMPLATES, "sidecar,spire,shop"))
    assert found(pod, {"templates": ["spire"]}) == ["capture-bypassed"]
    assert found(pod, {"templates": ["spire", "shop"]}) == []


def test_an_allowed_template_without_a_proxy_is_no_proxy() -> None:
    pod = changed(istio.app(), annotation(istio.TEMPLATES, "grpc-simple"))
    assert found(pod, {"templates": ["grpc-simple"]}) == ["proxy-missing"]


def test_templates_and_stored_pods_are_allowed_the_same() -> None:
    pod = changed(istio.app(), DATABASE)
    template = {key: pod[key] for key in ("metadata", "spec")}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": template}}
    assert found(deployment) == ["capture-bypassed"]
    assert found(deployment, {"outboundPorts": "5432"}) == []


def test_allowances_add_up() -> None:
    pod = istio.injected(traffic("excludeOutboundPorts", "5432,6379"))
    both = ({"outboundPorts": "5432"}, {"outboundPorts": "6379"})
    assert found(pod, both[0]) == ["capture-bypassed"]
    assert found(pod, *both) == []
    assert found(pod, both[0], {**both[1], "until": TODAY - DAY}) == ["capture-bypassed"]


def test_what_else_is_wrong_stays_wrong() -> None:
    pod = istio.injected(DATABASE, traffic("includeInboundPorts", ""))
    verdict = judge(pod, by="istio", given=allowing({"outboundPorts": "1-65535"}))
    assert [v.field for v in verdict.violations] == [
        "metadata.annotations[traffic.sidecar.istio.io/includeInboundPorts]"
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"outboundPorts": "http"}, "allow"),
        ({"outboundPorts": "70000"}, "invalid ports: 70000 - at `settings.allow[0].outboundPorts`"),
        ({"inboundPorts": "9-1"}, "invalid ports: 9-1 - at `settings.allow[0].inboundPorts`"),
        ({"namespaces": []}, "allow"),
        ({"reason": ""}, "allow"),
        ({"ports": "1"}, "ports"),
        ({"until": "soon"}, "until"),
    ],
)
def test_a_mistake_is_reported_with_its_place(entry: Json, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        allowing(entry)
    assert message in str(error.value)
