"""The message for a mistake in the settings file: what is wrong, where, and how to fix it."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from webhook.policy import checks
from webhook.policy.settings import SettingsError, parse

IDS = ", ".join(sorted(checks.ids()))
KEYS = (
    "allow, ambient, clusterDomain, exemptions, ingress, istio, leaveEnforcement, levels, linkerd, "
    "optOut"
)
HELM = ". If this is a Helm values file, pass only the part under `settings:`"
PORTS = 'write ports and ranges, separated by commas, for example "80,8000-8100"'
ENTRY = {"checks": ["host-network"], "namespaces": ["mendix"], "reason": "agreed"}


def error_of(document: Any) -> str:
    with pytest.raises(SettingsError) as raised:
        parse(document, checks=checks.ids())
    return str(raised.value)


def exemption(**changed: Any) -> dict[str, Any]:
    return {"exemptions": [{**ENTRY, **changed}]}


@pytest.mark.parametrize("others", [{}, {"image": "x"}])
def test_the_values_of_the_chart_are_known_for_what_they_are(others: Any) -> None:
    assert error_of({**others, "settings": {"optOut": "deny"}}).endswith(HELM)


@pytest.mark.parametrize("text", ["soon", "2026-02-30", "2027-1-5", "2027-01-31T10:00:00", "5"])
def test_an_invalid_date_is_reported_with_its_place_and_a_valid_one(text: str) -> None:
    expected = f"`{text}` is not a date - at `settings.exemptions[0].until`; write it as 2027-01-31"
    assert error_of(exemption(until=text)) == expected


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"exemption": []},
         "unknown setting `exemption` - at `settings`; did you mean `exemptions`? "
         f"Allowed: {KEYS}"),
        ({"optout": "deny"},
         f"unknown setting `optout` - at `settings`; did you mean `optOut`? Allowed: {KEYS}"),
        ({"color": "red"}, f"unknown setting `color` - at `settings`; allowed: {KEYS}"),
        (exemption(till="x"),
         "unknown setting `till` - at `settings.exemptions[0]`; did you mean `until`? "
         "Allowed: checks, namespaces, reason, selector, until"),
        # A key may look like a path of msgspec's.
        ({"x` - at `$.linkerd": 1},
         f"unknown setting `x` - at `$.linkerd` - at `settings`; allowed: {KEYS}"),
        ({"a\x1b[31m": 1},
         f"unknown setting `a\\x1b[31m` - at `settings`; allowed: {KEYS}"),
        ({"optOut": "ask"},
         "unknown value `ask` - at `settings.optOut`; allowed: deny, override"),
        ({"optOut": None}, "must not be empty - at `settings.optOut`; set it, or remove it"),
        ({"linkerd": {"inboundPolicy": "all-authenticate"}},
         "unknown value `all-authenticate` - at `settings.linkerd.inboundPolicy`; did you mean "
         "`all-authenticated`? Allowed: all-authenticated, all-unauthenticated, audit, "
         "cluster-authenticated, cluster-unauthenticated, deny"),
        ({"ingress": {"classes": {"a": "none", "b": "nginx"}}},
         "unknown value `nginx` - at `settings.ingress.classes.b`; did you mean `f5-nginx`? "
         "Allowed: f5-nginx, ingress-nginx, none"),
        ({"linkerd": {"skipOutboundPorts": "http"}},
         f"`http` is invalid - at `settings.linkerd.skipOutboundPorts`; {PORTS}"),
        ({"linkerd": {"skipOutboundPorts": 25}},
         f"must be text, not a number - at `settings.linkerd.skipOutboundPorts`; {PORTS}"),
        ({"allow": [{"namespaces": ["a"], "reason": "x", "inboundPorts": "1;2"}]},
         f"`1;2` is invalid - at `settings.allow[0].inboundPorts`; {PORTS}"),
        (exemption(checks=["Host-Network"]),
         "unknown check `Host-Network` - at `settings.exemptions[0].checks[0]`; "
         f"did you mean `host-network`? Allowed: {IDS}"),
        (exemption(reason=""), "must not be empty - at `settings.exemptions[0].reason`"),
        (exemption(namespaces=[]),
         "must not be empty - at `settings.exemptions[0].namespaces`; give at least one"),
        (exemption(namespaces="mendix"),
         "must be a list, not text - at `settings.exemptions[0].namespaces`; write [mendix]"),
        (exemption(namespaces=["a", 5]),
         "must be text, not a number - at `settings.exemptions[0].namespaces[1]`; "
         "write it in quotes"),
        (exemption(selector={"matchLabels": {"a": "b", "c.d/e": True}}),
         "must be text, not true or false - at "
         "`settings.exemptions[0].selector.matchLabels.c.d/e`; write it in quotes"),
        ({"exemptions": [{"checks": ["host-network"], "reason": "x"}]},
         "`namespaces` is missing - at `settings.exemptions[0]`; add it: names or globs; "
         "* is every namespace"),
        ({"exemptions": [ENTRY, None]},
         "must not be empty - at `settings.exemptions[1]`; set it, or remove it"),
        ({"linkerd": {"proxyUid": 0}},
         "0 is too small - at `settings.linkerd.proxyUid`; the minimum is 1"),
        ({"linkerd": {"inboundPort": 70000}},
         "70000 is too large - at `settings.linkerd.inboundPort`; the maximum is 65535"),
        ({"linkerd": {"proxyGid": "5"}},
         "must be a whole number, not text - at `settings.linkerd.proxyGid`; "
         "write it without quotes"),
        ({"linkerd": {"proxyUid": True}},
         "must be a whole number, not true or false - at `settings.linkerd.proxyUid`"),
        ({"istio": {"nativeSidecars": "yes"}},
         "must be true or false, not text - at `settings.istio.nativeSidecars`"),
        ({"linkerd": None},
         "must not be empty - at `settings.linkerd`; set it, or remove it"),
        ({"linkerd": {1: 2}},
         "the key `1` must be text - at `settings.linkerd`; put it into quotes"),
        ([], "must be a mapping, not a list - at `settings`; start with a key, for example "
             "`optOut:`"),
        ("text", "must be a mapping, not text - at `settings`; start with a key, for example "
                 "`optOut:`"),
        *(({"linkerd": {"skipInboundPorts": ports}},
           f"invalid ports: {shown} - at `settings.linkerd.skipInboundPorts`; "
           "ports go from 0 to 65535, and a range from low to high")
          for ports, shown in (("25,70000", "70000"), ("90-80", "90-80"),
                               ("9" * 5000, f"{'9' * 60}…"))),
        ({"levels": [{"check": "host-netwrok", "level": "warning", "reason": "x"}]},
         "unknown check `host-netwrok` - at `settings.levels[0].check`; "
         f"did you mean `host-network`? Allowed: {IDS}"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_place_and_what_is_allowed(
    document: Any, message: str
) -> None:
    assert error_of(document) == message


FULL = """
optOut: deny
linkerd: {proxyUid: 5, proxyGid: 6, skipInboundPorts: "80", inboundPolicy: deny, skipSubnets: [x]}
istio: {revision: x, nativeSidecars: true, excludeOutboundIPRanges: [x]}
ingress: {classes: {a: none}, upstreamVhost: true}
levels: [{check: udp-port, level: deny, reason: x}]
allow: [{namespaces: [x], reason: x, inboundPorts: "80", subnets: [x], until: 2027-01-31}]
exemptions:
- checks: [udp-port]
  namespaces: [x]
  reason: x
  until: 2027-01-31
  selector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [b]}]}
"""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=20)
    | st.binary(max_size=3) | st.sampled_from(["deny", "$", "- at `$.linkerd`", "reason"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=8) | st.integers() | st.just("checks"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a document."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        pairs += value.items()
    elif isinstance(value, list):
        pairs += enumerate(value)
    return [path, *(place for key, part in pairs for place in places(part, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The document with another value at a place."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@given(st.sampled_from(places(yaml.safe_load(FULL))), VALUES)
def test_any_value_at_any_place_is_read_or_rejected_in_one_line(
    path: tuple[Any, ...], value: Any
) -> None:
    message = ""
    try:
        parse(changed(yaml.safe_load(FULL), path, value), checks=checks.ids())
    except SettingsError as error:
        message = str(error)
    assert message.isprintable()
    assert not message or "`settings" in message
