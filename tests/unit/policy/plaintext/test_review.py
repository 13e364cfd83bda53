"""Changes of the meshes' policy objects, as the webhook reviews them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given as drawn
from hypothesis import settings as configure
from hypothesis import strategies as st

from webhook.policy import messages, plaintext
from webhook.policy.plaintext import objects
from webhook.policy.plaintext.review import KINDS, PolicyChange, review
from webhook.policy.settings import Settings, parse
from webhook.policy.validate import Mode, Verdict

POLICY = "config.linkerd.io/default-inbound-policy"
Json = dict[str, Any]


def demanded(**more: Any) -> Settings:
    levels = [
        {"check": check, "level": "deny", "reason": "no plaintext"} for check in plaintext.CHECKS
    ]
    return parse({"levels": levels, **more}, checks=plaintext.ids())


STRICT = demanded()


def judge(
    kind: str,
    spec: Json,
    old: Json | None = None,
    *,
    mesh: str = "istio",
    mode: Mode = "enforce",
    given: Settings = STRICT,
    **meta: Any,
) -> Verdict:
    def made(one: Json) -> Any:
        document = {"metadata": {"name": "x", "namespace": "mendix", **meta}, "spec": one}
        return objects.decode(msgspec.json.encode(document), look.type)

    look = KINDS[mesh][kind]
    change = PolicyChange(kind, "mendix", made(spec), None if old is None else made(old))
    return review(change, mesh, mode, given)


def mtls(mode: str, **more: Any) -> Json:
    return {"mtls": {"mode": mode}, **more}


SHOP = {"selector": {"matchLabels": {"app": "shop"}}}
SERVER = {"podSelector": {}, "port": 8080}
AUTHORIZED = {"targetRef": {"kind": "Server", "name": "x"}}
LEADS_PAST: Json = {
    "hosts": ["db.internal"],
    "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
    "resolution": "STATIC",
    "endpoints": [{"address": "10.2.0.7"}],
    "exportTo": ["."],
}
CASES: list[tuple[str, str, Json, Json | None, list[str]]] = [
    ("istio", "PeerAuthentication", mtls("STRICT"), None, []),
    ("istio", "PeerAuthentication", mtls("UNSET"), None, []),
    ("istio", "PeerAuthentication", {}, None, []),
    ("istio", "PeerAuthentication", mtls("PERMISSIVE"), None, ["spec.mtls.mode"]),
    ("ambient", "PeerAuthentication", mtls("DISABLE"), None, ["spec.mtls.mode"]),
    ("istio", "PeerAuthentication",
     mtls("STRICT", **SHOP, portLevelMtls={"80": {"mode": "DISABLE"}, "81": {"mode": "STRICT"}}),
     None, ["spec.portLevelMtls[80].mode"]),
    # An open object may stay open, and a closed one must stay closed.
    ("istio", "PeerAuthentication", mtls("PERMISSIVE"), mtls("PERMISSIVE"), []),
    ("istio", "PeerAuthentication", mtls("DISABLE"), mtls("PERMISSIVE"), ["spec.mtls.mode"]),
    ("istio", "PeerAuthentication", mtls("PERMISSIVE"), mtls("STRICT"), ["spec.mtls.mode"]),
    ("istio", "PeerAuthentication", mtls("UNSET"), mtls("STRICT"), ["spec.mtls.mode"]),
    ("istio", "PeerAuthentication", mtls("STRICT", **SHOP), mtls("STRICT"), ["spec.mtls.mode"]),
    ("istio", "PeerAuthentication", mtls("STRICT"), mtls("STRICT", **SHOP), []),
    ("istio", "PeerAuthentication", mtls("STRICT"), mtls("PERMISSIVE"), []),
    ("istio", "DestinationRule",
     {"host": "shop", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}, None,
     ["spec.trafficPolicy.tls.mode"]),
    ("istio", "DestinationRule",
     {"host": "db.example.com", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}, None, []),
    ("linkerd", "Server", SERVER, None, []),
    ("linkerd", "Server", {**SERVER, "accessPolicy": "audit"}, None, ["spec.accessPolicy"]),
    ("linkerd", "Server", {**SERVER, "port": 9090}, SERVER, ["spec"]),
    ("linkerd", "Server", SERVER, {**SERVER, "accessPolicy": "audit"}, []),
    ("linkerd", "ServerAuthorization",
     {"server": {"name": "x"}, "client": {"unauthenticated": True}}, None,
     ["spec.client.unauthenticated"]),
    ("linkerd", "ServerAuthorization",
     {"server": {"name": "x"}, "client": {"meshTLS": {"unauthenticatedTLS": True}}}, None, []),
    ("linkerd", "AuthorizationPolicy", AUTHORIZED, None, ["spec.requiredAuthenticationRefs"]),
    ("linkerd", "AuthorizationPolicy",
     {**AUTHORIZED, "requiredAuthenticationRefs": [{"kind": "MeshTLSAuthentication"}]}, None, []),
    ("linkerd", "NetworkAuthentication", {"networks": [{"cidr": "0.0.0.0/0"}]}, None,
     ["spec.networks"]),
    ("linkerd", "NetworkAuthentication", {"networks": [{"cidr": "10.0.0.0/8"}]}, None, []),
    ("linkerd", "EgressNetwork", {"networks": [{"cidr": "10.0.0.0/8"}], "trafficPolicy": "Allow"},
     None, ["spec.networks"]),
    ("linkerd", "EgressNetwork", {"trafficPolicy": "Allow"}, None, []),
    ("istio", "DestinationRule",
     {"host": "db.internal", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}, None,
     ["spec.trafficPolicy.tls.mode"]),
    ("istio", "Sidecar", {"egress": [{"hosts": ["~/*"]}]}, None, ["spec.egress"]),
    ("istio", "Sidecar", {"ingress": [{"captureMode": "NONE"}]}, None,
     ["spec.ingress[0].captureMode"]),
    ("istio", "Sidecar", {"egress": [{"hosts": ["*/*"]}]}, None, []),
    ("istio", "ServiceEntry", LEADS_PAST, None, ["spec.endpoints"]),
    ("ambient", "ServiceEntry", {"hosts": ["api.example.com"], "resolution": "DNS"}, None, []),
    ("istio", "WorkloadEntry", {"address": "10.2.0.7"}, None, ["spec.address"]),
    ("istio", "WorkloadEntry", {"address": "10.2.0.7", "serviceAccount": "vm"}, None, []),
    ("ambient", "WorkloadEntry", {"address": "10.2.0.7", "serviceAccount": "vm"}, None,
     ["spec.address"]),
    ("istio", "WorkloadGroup",
     {"template": {"labels": {"security.istio.io/tlsMode": "disabled"}}}, None,
     ["spec.template.labels[security.istio.io/tlsMode]"]),
    ("istio", "WorkloadGroup", {"template": {"serviceAccount": "vm"}}, None, []),
    ("ambient", "EnvoyFilter", {"configPatches": [{"applyTo": "CLUSTER"}]}, None,
     ["spec.configPatches"]),
    ("istio", "ProxyConfig", {"environmentVariables": {"DISABLE_ENVOY": "true"}}, None,
     ["spec.environmentVariables[DISABLE_ENVOY]"]),
    ("istio", "ProxyConfig", {"environmentVariables": {"TZ": "UTC"}, "concurrency": 1}, None, []),
]  # fmt: skip


OF_SHOP = {"name": "shop"}
LAN, WAN = {"cidr": "10.0.0.0/8"}, {"cidr": "0.0.0.0/0"}
LAN_ONLY, OTHERS = ({"kind": "NetworkAuthentication", "name": name} for name in ("lan", "others"))


def plain(host: str, **more: Any) -> Json:
    return {"host": host, "trafficPolicy": {"tls": {"mode": "DISABLE"}}, **more}


def open_to(server: Json, **more: Any) -> Json:
    return {"server": server, "client": {"unauthenticated": True, **more}}


def policy(kind: str, name: str, *refs: Json) -> Json:
    return {"targetRef": {"kind": kind, "name": name}, "requiredAuthenticationRefs": list(refs)}


def allowed(*networks: Json) -> Json:
    return {"networks": list(networks), "trafficPolicy": "Allow"}


#: An object that was open and stays open: for others too, or for no others than before.
MOVED: list[tuple[str, str, Json, Json, bool]] = [
    ("istio", "PeerAuthentication", mtls("PERMISSIVE"), mtls("PERMISSIVE", **SHOP), True),
    ("istio", "PeerAuthentication", mtls("PERMISSIVE", **SHOP),
     mtls("PERMISSIVE", selector={"matchLabels": {"app": "crm"}}), True),
    ("istio", "PeerAuthentication", mtls("PERMISSIVE", **SHOP), mtls("PERMISSIVE"), False),
    ("istio", "PeerAuthentication",
     mtls("PERMISSIVE", selector={"matchLabels": {"app": "shop", "tier": "web"}}),
     mtls("PERMISSIVE", **SHOP), False),
    ("istio", "DestinationRule", plain("*.mendix.svc.cluster.local"), plain("shop"), True),
    ("istio", "DestinationRule", plain("shop"),
     plain("shop", workloadSelector={"matchLabels": {"app": "crm"}}), True),
    ("istio", "DestinationRule", plain("shop", workloadSelector={"matchLabels": {"app": "crm"}}),
     plain("shop"), False),
    ("linkerd", "Server", {**SERVER, "accessPolicy": "audit"},
     {**SERVER, "port": 9090, "accessPolicy": "audit"}, True),
    ("linkerd", "Server", {**SERVER, "accessPolicy": "audit"},
     {"podSelector": {"matchLabels": {"app": "shop"}}, "port": 8080, "accessPolicy": "audit"},
     True),
    ("linkerd", "Server",
     {"podSelector": {"matchLabels": {"app": "shop"}}, "port": 8080, "accessPolicy": "audit"},
     {**SERVER, "accessPolicy": "audit"}, False),
    ("linkerd", "ServerAuthorization", open_to({"name": "crm"}), open_to(OF_SHOP), True),
    ("linkerd", "ServerAuthorization", open_to(OF_SHOP), open_to(OF_SHOP, networks=[LAN]), True),
    ("linkerd", "ServerAuthorization", open_to(OF_SHOP, networks=[LAN, WAN]),
     open_to(OF_SHOP, networks=[LAN]), True),
    ("linkerd", "ServerAuthorization", open_to(OF_SHOP, networks=[LAN]), open_to(OF_SHOP), False),
    ("linkerd", "AuthorizationPolicy", policy("Namespace", "mendix", LAN_ONLY),
     policy("Server", "shop", LAN_ONLY), True),
    ("linkerd", "AuthorizationPolicy", policy("Server", "shop", OTHERS),
     policy("Server", "shop", LAN_ONLY), True),
    ("linkerd", "AuthorizationPolicy", policy("Server", "shop", LAN_ONLY, OTHERS),
     policy("Namespace", "mendix", LAN_ONLY), False),
    ("istio", "DestinationRule", plain("shop"), plain("shop", exportTo=["."]), True),
    ("istio", "DestinationRule", plain("shop", exportTo=["."]), plain("shop"), False),
    ("istio", "ServiceEntry", LEADS_PAST | {"exportTo": ["*"]}, LEADS_PAST, True),
    ("istio", "ServiceEntry", LEADS_PAST | {"hosts": ["db.internal", "shop.internal"]}, LEADS_PAST,
     True),
    ("istio", "ServiceEntry", LEADS_PAST | {"addresses": ["93.184.215.14"]}, LEADS_PAST, True),
    ("istio", "ServiceEntry", LEADS_PAST, LEADS_PAST | {"location": "MESH_INTERNAL"}, True),
    ("istio", "ServiceEntry", LEADS_PAST | {"ports": [{"number": 81}]}, LEADS_PAST, True),
    ("istio", "ServiceEntry",
     LEADS_PAST | {"endpoints": [{"address": "10.2.0.7"}, {"address": "10.2.0.8"}]}, LEADS_PAST,
     True),
    ("istio", "ServiceEntry",
     LEADS_PAST | {"endpoints": [{"address": "10.2.0.7"}, {"address": "93.184.215.14"}]},
     LEADS_PAST, False),
    ("istio", "Sidecar", {"egress": [{"hosts": ["~/*"]}]},
     {"egress": [{"hosts": ["~/*"]}], "workloadSelector": {"labels": {"app": "shop"}}}, True),
    ("istio", "Sidecar",
     {"egress": [{"hosts": ["~/*"]}], "workloadSelector": {"labels": {"app": "shop"}}},
     {"egress": [{"hosts": ["~/*"]}]}, False),
    ("istio", "Sidecar", {"egress": [{"hosts": ["./crm"]}]}, {"egress": [{"hosts": ["./shop"]}]},
     True),
    ("istio", "WorkloadEntry", {"address": "10.2.0.8"}, {"address": "10.2.0.7"}, True),
    ("istio", "WorkloadEntry", {"address": "10.2.0.7", "labels": {"app": "shop"}},
     {"address": "10.2.0.7"}, True),
    ("istio", "EnvoyFilter",
     {"configPatches": [{"applyTo": "CLUSTER", "patch": {"operation": "REMOVE"}}]},
     {"configPatches": [{"applyTo": "CLUSTER", "patch": {"operation": "MERGE"}}]}, True),
    ("linkerd", "EgressNetwork", allowed(LAN, WAN), allowed(LAN), True),
    ("linkerd", "EgressNetwork", allowed(LAN), allowed(LAN, WAN), False),
    ("linkerd", "EgressNetwork", allowed(LAN), allowed(LAN) | {"trafficPolicy": "Deny"}, True),
    ("linkerd", "EgressNetwork", allowed(LAN), allowed(LAN | {"except": ["10.2.0.0/16"]}), True),
    ("linkerd", "EgressNetwork", allowed(LAN | {"except": ["10.2.0.0/16"]}), allowed(LAN), False),
]  # fmt: skip


@pytest.mark.parametrize(("mesh", "kind", "spec", "old", "denied"), MOVED)
def test_what_was_open_must_not_become_open_for_others(
    mesh: str, kind: str, spec: Json, old: Json, *, denied: bool
) -> None:
    assert judge(kind, old, mesh=mesh).outcome == "denied"
    assert judge(kind, spec, old, mesh=mesh).outcome == ("denied" if denied else "admitted")


@pytest.mark.parametrize(("mesh", "kind", "spec", "old", "fields"), CASES)
def test_what_opens_or_gives_up_a_closure_is_denied(
    mesh: str, kind: str, spec: Json, old: Json | None, fields: list[str]
) -> None:
    verdict = judge(kind, spec, old, mesh=mesh)
    assert [violation.field for violation in verdict.violations] == fields
    assert verdict.outcome == ("denied" if fields else "admitted")
    for violation in verdict.violations:
        check = plaintext.CHECKS[violation.check]
        assert any(
            violation.field.startswith(field) or field.startswith(violation.field)
            for field in check.fields
        )


def test_a_denial_names_the_object_the_field_and_the_fix() -> None:
    verdict = judge("PeerAuthentication", mtls("PERMISSIVE"))
    assert messages.denial(verdict) == (
        "PeerAuthentication mendix/x would weaken mutual TLS:\n"
        "  plaintext-accepted  spec.mtls.mode  accepts clients without mutual TLS (PERMISSIVE); "
        "set it to STRICT"
    )


law = configure(max_examples=200)
any_case = st.sampled_from([(mesh, kind, spec) for mesh, kind, spec, _old, _fields in CASES])
#: Fields that an author may add, and that no rule reads.
harmless = st.dictionaries(st.sampled_from(["note", "owner", "zz"]), st.text(max_size=5))


@law
@drawn(any_case, harmless, harmless)
def test_an_update_that_opens_nothing_more_is_admitted(
    case: tuple[str, str, Json], spec: Json, annotations: Json
) -> None:
    mesh, kind, old = case
    verdict = judge(kind, {**old, **spec}, old, mesh=mesh, annotations=annotations)
    assert verdict.outcome == "admitted"


@law
@drawn(any_case, harmless)
def test_fields_that_no_rule_reads_change_no_verdict(
    case: tuple[str, str, Json], more: Json
) -> None:
    mesh, kind, spec = case
    one, other = (judge(kind, made, mesh=mesh) for made in (spec, {**spec, **more}))
    assert one == other


def test_of_many_openings_some_are_reported_and_none_counts_as_known() -> None:
    subset = {"trafficPolicy": {"tls": {"mode": "DISABLE"}}}
    few, many = ({"host": "shop", "subsets": [subset] * count} for count in (50, 5000))
    assert judge("DestinationRule", few, few).outcome == "admitted"
    verdict = judge("DestinationRule", many, many)
    assert (verdict.outcome, len(verdict.violations)) == ("denied", 100)


def test_by_default_calls_in_plaintext_are_denied_and_plaintext_taken_in_is_advice() -> None:
    assert judge("ServiceEntry", LEADS_PAST, given=Settings()).outcome == "denied"
    assert judge("PeerAuthentication", mtls("PERMISSIVE"), given=Settings()).outcome == "admitted"
    patches = {"configPatches": [{"applyTo": "CLUSTER"}]}
    assert judge("EnvoyFilter", patches, given=Settings()).outcome == "admitted"


def test_a_denial_says_what_to_do_and_who_can_say_that_it_is_outside() -> None:
    verdict = judge("ServiceEntry", LEADS_PAST, given=Settings())
    assert messages.denial(verdict) == (
        "ServiceEntry mendix/x would weaken mutual TLS:\n"
        "  client-plaintext  spec.endpoints  makes clients in the mesh call addresses that may be "
        "in the cluster in plaintext (10.2.0.7); remove these endpoints, and call the Service "
        "instead; if it is outside the cluster, ask the admin of mendix-mesh for an exemption"
    )


@pytest.mark.parametrize(
    ("now", "before", "denied"),
    [("all-authenticated", None, False), ("all-unauthenticated", None, True),
     (None, "all-authenticated", True), ("deny", "all-authenticated", False),
     ("all-unauthenticated", "all-unauthenticated", False), (None, None, False)],
)  # fmt: skip
def test_a_namespace_keeps_the_annotation_that_closes_it(
    now: str | None, before: str | None, denied: bool
) -> None:
    def made(value: str | None) -> Any:
        meta = {"name": "mendix", "annotations": {POLICY: value} if value else {}}
        return msgspec.convert({"metadata": meta}, KINDS["linkerd"]["Namespace"].type)

    change = PolicyChange("Namespace", "mendix", made(now), made(before))
    verdict = review(change, "linkerd", "enforce", STRICT)
    assert (verdict.outcome == "denied") == denied


@pytest.mark.parametrize(
    ("text", "outcome"),
    [("~", "denied"), ("crm, ~", "denied"), ("crm", "denied"), (".", "warned"),
     ("mendix,crm", "warned"), ("*", "admitted"), ("crm,*", "admitted"), ("", "admitted")],
)  # fmt: skip
def test_a_service_that_the_proxies_do_not_know_is_called_in_plaintext(
    text: str, outcome: str
) -> None:
    key = "networking.istio.io/exportTo"
    found = judge("Service", {}, annotations={key: text}, given=Settings())
    assert [one.field for one in found.violations] == [f"metadata.annotations[{key}]"] * (
        outcome != "admitted"
    )
    assert (found.outcome == "denied") is (outcome == "denied")
