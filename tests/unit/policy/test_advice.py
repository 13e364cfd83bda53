"""The advice in denials: what it says helps."""

import msgspec
import pytest

from docs.generate import verdict
from tests.fixtures import generate
from tests.fixtures.fixture import Fixture
from webhook.policy.settings import Allow, Settings

#: All traffic that an admin can allow.
_ALL = Allow(
    reason="test",
    namespaces=["*"],
    inbound_ports="1-65535",
    outbound_ports="1-65535",
    subnets=["0.0.0.0/0", "10.0.0.0/8"],
    templates=["gateway", "grpc-agent", "grpc-simple", "shop"],
)


@pytest.mark.parametrize(
    ("name", "helps"),
    [
        ("istio-intercept-none-by-config", "that mendix-mesh explain inputs lists"),
        ("istio-customised-image", "the pod's own container istio-proxy"),
    ],
)
def test_a_wrong_value_of_many_parts_names_where_to_correct_it(name: str, helps: str) -> None:
    fixture = next(one for one in generate.fixtures() if one.name == name)
    assert any(helps in one.fix for one in verdict(fixture, Settings()).violations)


@pytest.mark.parametrize(
    "fixture",
    [one for one in generate.fixtures() if one.check == "capture-bypassed" and not one.passes],
    ids=lambda one: f"{one.mesh}-{one.name}",
)
def test_what_settings_allow_is_advised_for_can_be_allowed_there(fixture: Fixture) -> None:
    def advised(settings: Settings) -> set[str]:
        violations = verdict(fixture, settings).violations
        return {one.field for one in violations if "settings.allow" in one.fix}

    assert not advised(msgspec.structs.replace(Settings(), allow=[_ALL]))
