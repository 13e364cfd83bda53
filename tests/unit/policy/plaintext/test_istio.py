"""Istio's policies: examples and general properties. tests/cluster uses the real istiod."""

import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as configure
from hypothesis import strategies as st

from webhook.policy.plaintext import istio, objects
from webhook.policy.plaintext.istio import Peers
from webhook.policy.plaintext.objects import PeerAuthentication

ROOT, HERE = "istio-system", "mendix"
MODES = (None, "UNSET", "STRICT", "PERMISSIVE", "DISABLE")


def peer(
    mode: str | None = None, *, where: str = HERE, name: str = "p", created: int = 0,
    ports: dict[str, str | None] | None = None, **labels: str,
) -> PeerAuthentication:  # fmt: skip
    """A PeerAuthentication, created in a second of a minute."""
    spec: dict[str, Any] = {"mtls": {"mode": mode}} if mode else {}
    spec |= {"selector": {"matchLabels": labels}} if labels else {}
    if ports is not None:
        levels = {port: {"mode": level} if level else None for port, level in ports.items()}
        spec["portLevelMtls"] = levels
    time = f"2026-01-01T00:00:{created:02}Z"
    meta = {"name": name, "namespace": where, "creationTimestamp": time}
    return msgspec.convert({"metadata": meta, "spec": spec}, PeerAuthentication)


def accepts(*policies: PeerAuthentication, ambient: bool = False, **labels: str) -> str:
    return Peers(policies, ROOT).of(HERE, labels, ambient=ambient).accepts


def test_without_any_policy_plaintext_is_taken() -> None:
    (opening,) = Peers([], ROOT).of(HERE, {}).openings()
    assert opening[1].because == "no PeerAuthentication sets STRICT, and Istio's default is " \
        "PERMISSIVE"  # fmt: skip


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([peer("STRICT", where=ROOT)], "no"),
        ([peer("STRICT")], "no"),
        ([peer("DISABLE")], "yes"),
        ([peer("UNSET"), peer("STRICT", where=ROOT)], "no"),
        ([peer("PERMISSIVE"), peer("STRICT", where=ROOT)], "yes"),
        ([peer("STRICT", where="other")], "yes"),
        ([peer("STRICT", app="shop")], "no"),
        ([peer("STRICT", app="crm")], "yes"),
        ([peer("STRICT", where=ROOT, app="shop")], "yes"),
        ([peer("STRICT"), peer("PERMISSIVE", name="n", app="shop")], "yes"),
        ([peer("STRICT"), peer(name="n", app="shop")], "no"),
        ([peer("STRICT"), peer(name="n", app="shop", ports={"8080": "PERMISSIVE"})], "partly"),
        ([peer("STRICT"), peer(name="n", app="shop", ports={"8080": None})], "no"),
        ([peer("PERMISSIVE"), peer(name="n", app="shop", ports={"8080": "STRICT"})], "partly"),
        ([peer("STRICT", created=2), peer("PERMISSIVE", name="a", created=3)], "no"),
        ([peer("STRICT", created=2, name="b"), peer("PERMISSIVE", created=2, name="a")], "yes"),
    ],
)
def test_the_narrowest_and_oldest_policy_counts(
    policies: list[PeerAuthentication], expected: str
) -> None:
    assert accepts(*policies, app="shop") == expected


@pytest.mark.parametrize(
    ("policies", "sidecar", "ztunnel"),
    [
        ([peer("STRICT"), peer(app="shop", ports={"80": "DISABLE"})], "partly", "no"),
        ([peer("STRICT", where=ROOT), peer("UNSET"),
          peer(name="n", app="shop", ports={"80": "PERMISSIVE"})], "partly", "yes"),
        ([peer("STRICT", where=ROOT),
          peer("PERMISSIVE", app="shop", ports={"80": "STRICT"})], "partly", "yes"),
        ([peer("STRICT"), peer("DISABLE", name="n", app="shop", ports={"80": "STRICT"})],
         "partly", "partly"),
    ],
)  # fmt: skip
def test_ztunnel_gets_other_port_rules_than_a_sidecar(
    policies: list[PeerAuthentication], sidecar: str, ztunnel: str
) -> None:
    assert accepts(*policies, app="shop") == sidecar
    assert accepts(*policies, app="shop", ambient=True) == ztunnel


def test_what_a_pod_s_annotations_lead_past_the_mesh_is_open() -> None:
    peers = Peers([peer("STRICT")], ROOT)
    past = {"traffic.sidecar.istio.io/excludeInboundPorts": "8900"}
    assert peers.pod(HERE, {}, past).openings()[0][0] == "port 8900"
    assert peers.pod(HERE, {}, past, ambient=True).accepts == "no"
    bypass = {"ambient.istio.io/bypass-inbound-capture": "true"}
    assert peers.pod(HERE, {}, bypass, ambient=True).accepts == "yes"
    assert peers.pod(HERE, {}, bypass).accepts == "no"


@pytest.mark.parametrize(
    ("annotations", "openings"),
    [
        ({"includeInboundPorts": "*"}, []),
        ({"includeInboundPorts": ""}, ["all ports"]),
        ({"includeInboundPorts": "8080, 8443"}, ["all ports but 8080, 8443"]),
        ({"includeInboundPorts": "8080", "excludeInboundPorts": "9000"},
         ["all ports but 8080", "port 9000"]),
    ],
)  # fmt: skip
def test_what_a_sidecar_does_not_capture_is_open(
    annotations: dict[str, str], openings: list[str]
) -> None:
    given = {f"traffic.sidecar.istio.io/{key}": value for key, value in annotations.items()}
    reading = Peers([peer("STRICT")], ROOT).pod(HERE, {}, given)
    assert [ports for ports, _ in reading.openings()] == openings


def test_a_captured_port_is_as_open_as_its_policy() -> None:
    peers = Peers([peer("STRICT"), peer(app="shop", ports={"8080": "PERMISSIVE"})], ROOT)
    given = {"traffic.sidecar.istio.io/includeInboundPorts": "8080,8443"}
    reading = peers.pod(HERE, {"app": "shop"}, given)
    assert [ports for ports, _ in reading.openings()] == ["all ports but 8443", "port 8080"]


def test_without_interception_all_is_open() -> None:
    peers = Peers([peer("STRICT")], ROOT)
    off = {"sidecar.istio.io/interceptionMode": "NONE"}
    assert peers.pod(HERE, {}, off).accepts == "yes"
    assert peers.pod(HERE, {}, off, ambient=True).accepts == "no"
    assert peers.pod(HERE, {}, {"sidecar.istio.io/interceptionMode": "TPROXY"}).accepts == "no"


any_policy = st.builds(
    peer,
    st.sampled_from(MODES),
    where=st.sampled_from([ROOT, HERE, "other"]),
    name=st.sampled_from("abc"),
    created=st.integers(0, 3),
    ports=st.none() | st.dictionaries(st.sampled_from(["80", "81"]), st.sampled_from(MODES)),
    app=st.sampled_from(["shop", "crm"]),
) | st.builds(
    peer,
    st.sampled_from(MODES),
    where=st.sampled_from([ROOT, HERE]),
    name=st.sampled_from("abc"),
    created=st.integers(0, 3),
)
# A name is given once in a namespace.
any_policies = st.lists(
    any_policy, max_size=6, unique_by=lambda one: (one.metadata.namespace, one.metadata.name)
)
law = configure(max_examples=200)


@law
@given(any_policies, st.randoms(), st.booleans())
def test_the_order_in_which_policies_are_listed_changes_nothing(
    policies: list[PeerAuthentication], random: Any, ambient: bool
) -> None:
    shuffled = random.sample(policies, len(policies))
    known, other = Peers(policies, ROOT), Peers(shuffled, ROOT)
    for labels in ({}, {"app": "shop"}):
        one = known.of(HERE, labels, ambient=ambient)
        assert one == other.of(HERE, labels, ambient=ambient)


@law
@given(any_policies, st.booleans())
def test_a_younger_policy_for_all_changes_nothing_if_there_is_one(
    policies: list[PeerAuthentication], ambient: bool
) -> None:
    before = [peer("STRICT", name="first"), *policies]
    after = [*before, peer("PERMISSIVE", name="z", created=59)]
    for labels in ({}, {"app": "shop"}):
        one = Peers(before, ROOT).of(HERE, labels, ambient=ambient)
        assert one == Peers(after, ROOT).of(HERE, labels, ambient=ambient)


@law
@given(any_policies, st.sampled_from(["80", "81", "82"]))
def test_a_more_restrictive_mesh_never_opens_a_port_of_a_sidecar(
    policies: list[PeerAuthentication], port: str
) -> None:
    rest = [one for one in policies if one.metadata.namespace != ROOT]
    loose = Peers([*rest, peer("PERMISSIVE", where=ROOT)], ROOT).of(HERE, {"app": "shop"})
    strict = Peers([*rest, peer("STRICT", where=ROOT)], ROOT).of(HERE, {"app": "shop"})
    if loose.ports.get(port, loose.default) is None:
        assert strict.ports.get(port, strict.default) is None


@law
@given(any_policies)
def test_policies_of_other_namespaces_do_not_count(policies: list[PeerAuthentication]) -> None:
    own = [one for one in policies if one.metadata.namespace != "other"]
    labels = {"app": "shop"}
    assert Peers(policies, ROOT).of(HERE, labels) == Peers(own, ROOT).of(HERE, labels)


def rule(host: str, where: str = HERE, **spec: Any) -> objects.DestinationRule:
    document = {"metadata": {"name": "r", "namespace": where}, "spec": {"host": host, **spec}}
    return msgspec.convert(document, objects.DestinationRule)


def tls(mode: str) -> dict[str, Any]:
    return {"tls": {"mode": mode}}


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"trafficPolicy": tls("DISABLE")}, ["spec.trafficPolicy.tls.mode"]),
        ({"trafficPolicy": tls("SIMPLE")}, ["spec.trafficPolicy.tls.mode"]),
        ({"trafficPolicy": tls("ISTIO_MUTUAL")}, []),
        ({"trafficPolicy": tls("MUTUAL")}, []),
        ({"trafficPolicy": {}}, []),
        ({"trafficPolicy": {"tls": {}}}, ["spec.trafficPolicy.tls.mode"]),
        ({"trafficPolicy": {"tls": {"sni": "shop"}}}, ["spec.trafficPolicy.tls.mode"]),
        ({"trafficPolicy": {"tls": None}}, []),
        ({"trafficPolicy": {"portLevelSettings": [
            {"port": {"number": 80}, **tls("ISTIO_MUTUAL")},
            {"port": {"number": 8080}, **tls("DISABLE")}]}},
         ["spec.trafficPolicy.portLevelSettings[1].tls.mode"]),
        ({"subsets": [{"name": "v1"}, {"name": "v2", "trafficPolicy": tls("DISABLE")}]},
         ["spec.subsets[1].trafficPolicy.tls.mode"]),
    ],
)  # fmt: skip
def test_a_rule_that_takes_the_mesh_s_tls_away_is_found(
    spec: dict[str, Any], fields: list[str]
) -> None:
    found = istio.downgrades(rule("shop", **spec), "cluster.local")
    assert [occurrence.field for occurrence in found] == fields


@pytest.mark.parametrize(
    ("host", "mode", "level"),
    [("shop", "SIMPLE", None), ("db.internal", "SIMPLE", "warning"),
     ("db.internal", "DISABLE", None)],
)  # fmt: skip
def test_tls_of_one_s_own_to_a_host_that_may_be_outside_is_advice(
    host: str, mode: str, level: str | None
) -> None:
    (found,) = istio.downgrades(rule(host, trafficPolicy=tls(mode)), "cluster.local")
    assert found.level == level


@pytest.mark.parametrize(
    ("now", "before", "within"),
    [(None, None, True), (["."], None, True), (None, ["."], False), (["."], ["*"], True),
     (["*"], ["."], False), ([".", "crm"], ["crm", "."], True), ([], ["."], False)],
)  # fmt: skip
def test_an_object_without_a_list_is_exported_to_all(
    now: list[str] | None, before: list[str] | None, within: bool
) -> None:
    assert istio.is_exported_within(now, before) == within


@pytest.mark.parametrize(
    ("host", "where", "concerned"),
    [
        ("crm", HERE, True),
        ("shop.mendix.svc.cluster.local", "other", True),
        ("*.svc.cluster.local", ROOT, True),
        ("*.mendix.svc.cluster.local", "other", True),
        ("shop", "other", False),
        ("shop.other.svc.cluster.local", "other", False),
    ],
)
def test_a_rule_concerns_its_own_namespace_and_whose_services_it_names(
    host: str, where: str, concerned: bool
) -> None:
    assert istio.concerns(rule(host, where), HERE, "cluster.local") == concerned


def test_ages_are_compared_in_seconds_and_then_by_name() -> None:
    assert istio.age(peer(created=1, name="z")) < istio.age(peer(created=2, name="a"))
    assert istio.age(peer(created=1, name="a")) < istio.age(peer(created=1, name="b"))
    undated = msgspec.convert({"metadata": {"name": "x"}}, PeerAuthentication)
    assert istio.age(peer(created=59)) < istio.age(undated)
    assert istio.age(undated)[0].tzinfo == datetime.UTC
