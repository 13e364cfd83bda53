"""The settings file: what it may say, and how a mistake in it is told."""

import datetime
from typing import Any

import jsonschema
import pytest
import yaml

from webhook.policy import checks
from webhook.policy.settings import Expression, Selector, Settings, SettingsError, parse, schema

TODAY = datetime.date(2026, 11, 24)
EXEMPTION = {"checks": ["host-network"], "namespaces": ["mendix"], "reason": "agreed"}


def read(text: str) -> Settings:
    return parse(yaml.safe_load(text), checks=checks.ids())


def refusal(document: Any) -> str:
    with pytest.raises(SettingsError) as raised:
        parse(document, checks=checks.ids())
    return str(raised.value)


@pytest.mark.parametrize("text", ["", "{}", "# nothing"])
def test_an_empty_file_gives_the_defaults(text: str) -> None:
    assert read(text) == Settings()


def test_a_full_file_is_read() -> None:
    found = read("""
        optOut: override
        linkerd:
          controlPlaneNamespace: mesh
          proxyImages: [mirror.local:5000/linkerd/proxy]
          initImages: []
          proxyUid: 3000
          proxyGid: 3000
          skipInboundPorts: "25, 8080-8090"
          skipOutboundPorts: ""
          skipSubnets: [10.0.0.0/8]
          inboundPolicy: all-authenticated
        ingress:
          classes: {nginx: f5-nginx, other: none}
        levels:
          - {check: root-capable, level: deny, reason: hardened}
        exemptions:
          - checks: [host-network, udp-port]
            namespaces: ["mendix-*"]
            selector:
              matchLabels: {app: dns}
              matchExpressions: [{key: tier, operator: In, values: [infra]}]
            reason: it is a DNS cache
            until: 2027-01-31
    """)
    assert found.linkerd.skip_inbound_ports == "25, 8080-8090"
    assert found.exemptions[0].until == datetime.date(2027, 1, 31)
    assert found.levels[0].namespaces == ["*"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"optout": "deny"}, "Object contains unknown field `optout`"),
        ({"linkerd": {"proxyImage": "x"}},
         "Object contains unknown field `proxyImage` - at `settings.linkerd`"),
        ({"optOut": "ask"}, "Invalid enum value 'ask' - at `settings.optOut`"),
        ({"linkerd": {"proxyUid": 0}}, "Expected `int` >= 1 - at `settings.linkerd.proxyUid`"),
        ({"linkerd": {"proxyImages": []}},
         "Expected `array` of length >= 1 - at `settings.linkerd.proxyImages`"),
        ({"linkerd": {"skipOutboundPorts": 25}},
         "Expected `str`, got `int` - at `settings.linkerd.skipOutboundPorts`"),
        ({"linkerd": {"skipInboundPorts": "25,70000"}},
         "no such ports: 70000 - at `settings.linkerd.skipInboundPorts`"),
        ({"linkerd": {"skipOutboundPorts": "90-80"}},
         "no such ports: 90-80 - at `settings.linkerd.skipOutboundPorts`"),
        ({"linkerd": {"skipOutboundPorts": "9" * 5000}},
         f"no such ports: {'9' * 5000} - at `settings.linkerd.skipOutboundPorts`"),
        ({"exemptions": [{**EXEMPTION, "reason": ""}]},
         "Expected `str` of length >= 1 - at `settings.exemptions[0].reason`"),
        ({"exemptions": [{**EXEMPTION, "namespaces": []}]},
         "Expected `array` of length >= 1 - at `settings.exemptions[0].namespaces`"),
        ({"exemptions": [{"checks": ["host-network"], "namespaces": ["a"]}]},
         "Object missing required field `reason` - at `settings.exemptions[0]`"),
        ([], "Expected `object`, got `array`"),
        ("text", "Expected `object`, got `str`"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(document: Any, message: str) -> None:
    assert refusal(document) == message


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"exemptions": [EXEMPTION, {**EXEMPTION, "checks": ["host-netwrok"]}]},
         "settings.exemptions[1].checks"),
        ({"levels": [{"check": "host-netwrok", "level": "advise", "reason": "x"}]},
         "settings.levels[0].check"),
    ],
)  # fmt: skip
def test_an_unknown_check_is_told_with_those_that_there_are(document: Any, where: str) -> None:
    message = refusal(document)
    assert message.startswith(f"there is no check `host-netwrok` - at `{where}`; there are: ")
    assert "host-network" in message


def test_a_document_that_nests_without_end_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert refusal({"exemptions": loop})


@pytest.mark.parametrize(
    ("operator", "values", "labels", "matches"),
    [
        ("In", ["a"], {"k": "a"}, True),
        ("In", ["a"], {"k": "b"}, False),
        ("In", ["a"], {}, False),
        ("NotIn", ["a"], {"k": "a"}, False),
        ("NotIn", ["a"], {"k": "b"}, True),
        ("NotIn", ["a"], {}, True),
        ("Exists", [], {"k": ""}, True),
        ("Exists", [], {}, False),
        ("DoesNotExist", [], {}, True),
        ("DoesNotExist", [], {"k": ""}, False),
    ],
)
def test_a_selector_s_operators_mean_what_they_mean_in_kubernetes(
    operator: Any, values: list[str], labels: dict[str, str], matches: bool
) -> None:
    assert Expression(key="k", operator=operator, values=values).matches(labels) is matches


def test_a_selector_wants_all_of_it_and_an_empty_one_nothing() -> None:
    expression = Expression(key="b", operator="Exists")
    selector = Selector(match_labels={"a": "1"}, match_expressions=[expression])
    assert selector.matches({"a": "1", "b": "2"})
    assert not selector.matches({"a": "1"})
    assert not selector.matches({"b": "2"})
    assert Selector().matches({})


@pytest.mark.parametrize(
    ("namespace", "labels", "check", "day", "exempt"),
    [
        ("mendix", {"app": "dns"}, "host-network", TODAY, True),
        ("mendix", {"app": "dns"}, "host-network", datetime.date(2026, 12, 31), True),
        ("mendix", {"app": "dns"}, "host-network", datetime.date(2027, 1, 1), False),
        ("mendix", {"app": "web"}, "host-network", TODAY, False),
        ("mendix", {"app": "dns"}, "opted-out", TODAY, False),
        ("mendix-2", {"app": "dns"}, "host-network", TODAY, False),
        ("test-1", {"app": "dns"}, "host-network", TODAY, True),
    ],
)
def test_an_exemption_holds_for_its_checks_namespaces_pods_and_days(
    namespace: str, labels: dict[str, str], check: str, day: datetime.date, exempt: bool
) -> None:
    given = read("""
        exemptions:
          - checks: [host-network]
            namespaces: [mendix, "test-*"]
            selector: {matchLabels: {app: dns}}
            reason: agreed
            until: 2026-12-31
    """)
    assert (given.exemption(check, namespace, labels, day) is not None) is exempt


def test_the_last_level_that_selects_a_pod_holds() -> None:
    given = read("""
        levels:
          - {check: udp-port, level: deny, reason: a}
          - {check: udp-port, level: advise, namespaces: [dns], reason: b}
    """)
    assert given.level_of("udp-port", "advise", "mendix", {}) == "deny"
    assert given.level_of("udp-port", "advise", "dns", {}) == "advise"
    assert given.level_of("opted-out", "deny", "dns", {}) == "deny"


def test_the_schema_accepts_what_is_read_and_refuses_an_unknown_key() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    assert not list(validator.iter_errors({"exemptions": [EXEMPTION], "linkerd": {"proxyUid": 5}}))
    assert list(validator.iter_errors({"optout": "deny"}))
    assert list(validator.iter_errors({"linkerd": {"proxyGid": 0}}))
