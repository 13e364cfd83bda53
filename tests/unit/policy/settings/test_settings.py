"""The settings file: its allowed content, and the messages for mistakes."""

import datetime
from typing import Any

import jsonschema
import pytest
import yaml

from tests.unit.policy.settings.test_mistakes import error_of
from webhook.policy import checks
from webhook.policy.settings import Expression, Selector, Settings, parse, schema

TODAY = datetime.date(2026, 11, 24)
EXEMPTION = {"checks": ["host-network"], "namespaces": ["mendix"], "reason": "agreed"}


def read(text: str) -> Settings:
    return parse(yaml.safe_load(text), checks=checks.ids())


def test_a_document_that_nests_without_end_is_rejected() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "settings" in error_of({"exemptions": loop})


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


def test_what_has_lapsed_is_reported_with_its_place_its_last_day_and_its_reason() -> None:
    given = read("""
        exemptions:
          - {checks: [udp-port], namespaces: [a], reason: for good}
          - {checks: [udp-port], namespaces: [a], reason: "until the\\n move", until: 2026-11-23}
          - {checks: [udp-port], namespaces: [a], reason: today still, until: 2026-11-24}
        allow:
          - {namespaces: [a], reason: old, until: 2020-02-29}
    """)
    end = "and has no effect: remove it, or set a later `until`"
    assert given.lapsed(TODAY) == [
        f"settings.exemptions[1] expired on 2026-11-23 {end} (its reason: until the move)",
        f"settings.allow[0] expired on 2020-02-29 {end} (its reason: old)",
    ]
    assert Settings().lapsed(TODAY) == []


def test_the_last_level_that_selects_a_pod_holds() -> None:
    given = read("""
        levels:
          - {check: udp-port, level: deny, reason: a}
          - {check: udp-port, level: warning, namespaces: [dns], reason: b}
    """)
    assert given.level_of("udp-port", "warning", "mendix", {}) == "deny"
    assert given.level_of("udp-port", "warning", "dns", {}) == "warning"
    assert given.level_of("opted-out", "deny", "dns", {}) == "deny"


def test_the_schema_accepts_what_is_read_and_rejects_an_unknown_key() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    assert not list(validator.iter_errors({"exemptions": [EXEMPTION], "linkerd": {"proxyUid": 5}}))
    assert list(validator.iter_errors({"optout": "deny"}))
    assert list(validator.iter_errors({"linkerd": {"proxyGid": 0}}))
