"""The settings in the chart's values are checked by helm as the server checks them."""

import pytest

from charts import generate_schema
from tests.chart import helm


def test_the_schema_of_the_settings_is_current() -> None:
    text = generate_schema.SCHEMA.read_text()
    assert generate_schema.generated(text) == text, "run `make docs`"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"linkerd": {"controlPlaneNamspace": "linkerd"}}, "controlPlaneNamspace"),
        ({"optOut": "maybe"}, "optOut"),
        ({"linkerd": {"skipInboundPorts": "http"}}, "skipInboundPorts"),
        ({"exemptions": [{"checks": ["no-such"], "namespaces": ["a"], "reason": "r"}]}, "checks"),
        ({"exemptions": [{"checks": ["host-network"], "namespaces": ["a"]}]}, "reason"),
        ({"levels": [{"check": "host-network", "level": "off", "reason": "r"}]}, "level"),
    ],
)
def test_helm_rejects_settings_that_the_server_would_reject(
    settings: dict[str, object], words: str
) -> None:
    assert words in helm.error_of({"settings": settings})


def test_helm_takes_settings_that_the_server_takes() -> None:
    exemption = {"checks": ["host-network"], "namespaces": ["monitoring"], "reason": "exporters"}
    level = {"check": "root-capable", "level": "deny", "reason": "policy 7"}
    mesh = {"proxyImages": ["registry.example.com:5000/l5d/proxy"], "inboundPolicy": "deny"}
    settings = {
        "optOut": "override",
        "exemptions": [exemption | {"until": "2030-12-31"}],
        "levels": [level],
        "linkerd": mesh,
    }
    assert helm.render({"settings": settings}).one("ConfigMap")
