"""Istio's objects that make clients call others in the cluster in plaintext."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from webhook.policy.mesh import Occurrence
from webhook.policy.plaintext import istio_destinations as rules
from webhook.policy.plaintext import objects

Json = dict[str, Any]
DOMAIN = "cluster.local"
TLS_MODE, TUNNEL = rules.TLS_MODE, rules.TUNNEL


def made(kind: type[Any], spec: Json, **meta: Any) -> Any:
    document = {"metadata": {"name": "x", "namespace": "mendix", **meta}, "spec": spec}
    return msgspec.json.decode(msgspec.json.encode(document), type=kind)


def fields(occurrences: Iterable[Occurrence]) -> list[str]:
    """Return the violations; advice is in brackets."""
    return [f"({one.field})" if one.level == "warning" else one.field for one in occurrences]


def entry(*hosts: str, **more: Any) -> Json:
    port = {"number": 443, "name": "tls", "protocol": "TLS"}
    return {"hosts": list(hosts), "ports": [port], "location": "MESH_EXTERNAL",
            "resolution": "DNS", **more}  # fmt: skip


def at(address: str, **more: Any) -> Json:
    return {"address": address, **more}


POD, PUBLIC = at("10.20.0.7"), at("93.184.215.14")
MESHED = at("10.20.0.7", labels={TLS_MODE: "istio"})
INTERNAL = {"location": "MESH_INTERNAL", "resolution": "STATIC"}
STATIC = {"resolution": "STATIC"}
ENTRIES: list[tuple[Json, list[str]]] = [
    (entry("api.example.com"), []),
    (entry("*.example.com", resolution="NONE"), []),
    (entry("api.example.com", addresses=["93.184.215.14"]), []),
    # An address that Istio would assign itself, and one that may be a Service's.
    (entry("api.example.com", addresses=["240.240.0.7"]), []),
    (entry("api.example.com", addresses=["10.96.0.7"]), ["(spec.addresses)"]),
    (entry("api.example.com", addresses=["10.20.0.0/16"], resolution="NONE"), ["spec.addresses"]),
    (entry("api.example.com", addresses=["10.20.0.0/16"], resolution=None), ["spec.addresses"]),
    (entry("shop.internal"), ["spec.hosts"]),
    (entry("shop.crm", resolution="DYNAMIC_DNS"), ["spec.hosts"]),
    (entry("crm.mendix.svc.cluster.local", resolution="NONE"), ["spec.hosts"]),
    # Endpoints decide where a name leads. The name of a Service stays one.
    (entry("db.internal", endpoints=[PUBLIC], **STATIC), []),
    (entry("db.internal", endpoints=[at("db.example.com")]), []),
    (entry("crm.mendix.svc.cluster.local", endpoints=[PUBLIC], **STATIC), ["spec.hosts"]),
    (entry("db.example.com", endpoints=[PUBLIC, POD], **STATIC), ["spec.endpoints"]),
    (entry("db.example.com", endpoints=[at("crm.mendix.svc")]), ["spec.endpoints"]),
    # Hosts with an external location are called in plaintext, whatever their endpoints.
    (entry("db.example.com", endpoints=[MESHED], **STATIC), ["spec.endpoints"]),
    (entry("db.example.com", endpoints=[MESHED], resolution="STATIC", location=None),
     ["spec.endpoints"]),
    (entry("db.example.com", workloadSelector={"labels": {"app": "shop"}}, **STATIC),
     ["spec.workloadSelector"]),
    (entry("vm.internal", **(INTERNAL | {"endpoints": [MESHED]})), []),
    (entry("vm.internal", **(INTERNAL | {"endpoints": [at("10.2.0.7", serviceAccount="vm")]})), []),
    (entry("vm.internal", **(INTERNAL | {"workloadSelector": {"labels": {"app": "vm"}}})), []),
    (entry("vm.internal", **(INTERNAL | {"endpoints": [MESHED, POD]})), ["spec.endpoints"]),
    (entry("crm.mendix.svc.cluster.local", addresses=["10.96.0.7"],
           **(INTERNAL | {"endpoints": [MESHED]})), []),
    (entry("vm.internal", **(INTERNAL | {"resolution": "DNS"})), ["spec.hosts"]),
    # A DestinationRule for such a name would count as one for an external host.
    (entry("vm.example.com", **(INTERNAL | {"endpoints": [MESHED]})), ["(spec.hosts)"]),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), ENTRIES)
def test_a_service_entry_may_name_only_what_is_clearly_outside(
    spec: Json, expected: list[str]
) -> None:
    assert fields(rules.leads_past(made(objects.ServiceEntry, spec), DOMAIN)) == expected


@pytest.mark.parametrize(
    ("meta", "expected"),
    [({}, ["spec.endpoints"]), ({"labels": {TUNNEL: "http"}}, []),
     ({"annotations": {rules.REDIRECTION: "enabled"}}, [])],
)  # fmt: skip
def test_to_ztunnel_a_service_entry_s_own_labels_count(meta: Json, expected: list[str]) -> None:
    spec = entry("vm.internal", **(INTERNAL | {"endpoints": [MESHED]}))
    found = rules.leads_past(made(objects.ServiceEntry, spec, **meta), DOMAIN, ambient=True)
    assert fields(found) == expected


LABEL = f"spec.labels[{TLS_MODE}]"


@pytest.mark.parametrize(
    ("spec", "meta", "sidecar", "ztunnel"),
    [
        (PUBLIC, {}, [], []),
        (POD, {}, ["spec.address"], ["spec.address"]),
        (MESHED, {}, [], ["spec.address"]),
        (at("10.20.0.7", serviceAccount="vm"), {}, [], ["spec.address"]),
        (at("10.20.0.7", serviceAccount="vm", labels={TLS_MODE: "disabled"}), {}, [LABEL], [LABEL]),
        (at("10.20.0.7", labels={TLS_MODE: "Istio"}), {}, [LABEL], [LABEL]),
        # The labels of the object win.
        (MESHED, {"labels": {TLS_MODE: "disabled"}},
         [f"metadata.labels[{TLS_MODE}]"], [f"metadata.labels[{TLS_MODE}]"]),
        (at("10.20.0.7", labels={TLS_MODE: "istio", TUNNEL: "http"}), {}, [], []),
        (at(""), {}, ["spec.address"], ["spec.address"]),
    ],
)  # fmt: skip
def test_a_workload_entry_in_the_cluster_must_speak_mutual_tls(
    spec: Json, meta: Json, sidecar: list[str], ztunnel: list[str]
) -> None:
    one = made(objects.WorkloadEntry, spec, **meta)
    assert fields(rules.is_called_plainly(one, DOMAIN)) == sidecar
    assert fields(rules.is_called_plainly(one, DOMAIN, ambient=True)) == ztunnel


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"template": {"serviceAccount": "vm", "labels": {"app": "vm"}}}, []),
        ({"template": {"labels": {TLS_MODE: "istio"}}}, []),
        ({"template": {"labels": {TLS_MODE: "disabled"}}}, [f"spec.template.labels[{TLS_MODE}]"]),
        ({"metadata": {"labels": {TLS_MODE: ""}}}, [f"spec.metadata.labels[{TLS_MODE}]"]),
    ],
)
def test_a_workload_group_must_not_disable_tls(spec: Json, expected: list[str]) -> None:
    assert fields(rules.group_is_called_plainly(made(objects.WorkloadGroup, spec))) == expected


def known(*hosts: str, **more: Any) -> Json:
    return {"hosts": list(hosts), **more}


CLOSED, OPEN = {"mode": "REGISTRY_ONLY"}, {"mode": "ALLOW_ANY"}
HIDES, HIDES_OTHERS = ["spec.egress"], ["(spec.egress)"]


@pytest.mark.parametrize(
    ("egress", "expected"),
    [
        ([], []),
        ([known("*/*")], []),
        ([known("*/*.svc.cluster.local")], []),
        ([known("*/*.local", "./*")], []),
        ([known("./*", "istio-system/*")], HIDES_OTHERS),
        ([known("*/*", "./*", "./shop.mendix.svc.cluster.local")], []),
        ([known("mendix/*.mendix.svc.cluster.local")], HIDES_OTHERS),
        ([known("~/*")], HIDES),
        ([known()], HIDES),
        ([known("istio-system/*")], HIDES),
        ([known("./shop.mendix.svc.cluster.local")], HIDES),
        ([known("./*.example.com")], HIDES),
        # Only the name of a namespace is known.
        ([known("*/*", "./shop.mendix.svc.cluster.local")], HIDES),
        ([known("*/*", "crm/shop.crm.svc.cluster.local")], HIDES_OTHERS),
        ([known("*/*", "crm/*")], []),
        # Calls to its own port.
        ([known("*/*", port={"number": 80})], HIDES),
        ([known("~/*", port={"number": 80}), known("*/*")], HIDES),
        ([known("~/*", port={"number": 80}, bind="127.0.0.1"), known("*/*")], []),
        ([known("~/*", bind="unix:///run/out"), known("*/*")], []),
        ([known("*/*", captureMode="IPTABLES")], []),
        ([known("*/*", captureMode="NONE")], HIDES),
        ([known("*/*", bind="10.0.0.1")], HIDES),
    ],
)
def test_a_sidecar_must_know_the_services_that_its_workloads_call(
    egress: list[Json], expected: list[str]
) -> None:
    for policy in (None, OPEN, {}):
        one = made(objects.Sidecar, {"egress": egress, "outboundTrafficPolicy": policy})
        assert fields(rules.hides(one, DOMAIN)) == expected
    closed = made(objects.Sidecar, {"egress": egress, "outboundTrafficPolicy": CLOSED})
    assert fields(rules.hides(closed, DOMAIN)) == []


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        ({"defaultEndpoint": "127.0.0.1:8080"}, []),
        ({"captureMode": "DEFAULT"}, []),
        ({"captureMode": "NONE"}, ["spec.ingress[0].captureMode"]),
        ({"tls": {"mode": "ISTIO_MUTUAL"}}, []),
        ({"tls": {"mode": "SIMPLE"}}, ["spec.ingress[0].tls"]),
        ({"tls": {}}, ["spec.ingress[0].tls"]),
    ],
)
def test_a_sidecar_takes_in_by_the_mesh_alone(ingress: Json, expected: list[str]) -> None:
    one = made(objects.Sidecar, {"ingress": [{"port": {"number": 8080}, **ingress}]})
    assert fields(rules.takes_in(one)) == expected


def test_an_envoy_filter_is_named_by_what_it_changes() -> None:
    patches = [{"applyTo": "CLUSTER", "patch": {"operation": "MERGE"}}, {"applyTo": "HTTP_FILTER"}]
    (found,) = rules.patches(made(objects.EnvoyFilter, {"configPatches": patches}))
    assert found.values == ("CLUSTER", "HTTP_FILTER")
    assert list(rules.patches(made(objects.EnvoyFilter, {}))) == []


def test_a_proxy_config_may_give_harmless_variables_alone() -> None:
    given = {"DRY_RUN": "true", "TZ": "UTC", "ISTIO_DUAL_STACK": "false", "TEAM": "shop"}
    one = made(objects.ProxyConfig, {"environmentVariables": given, "concurrency": 2})
    assert fields(rules.variables(one)) == [
        f"spec.environmentVariables[{name}]" for name in ("DRY_RUN", "ISTIO_DUAL_STACK", "TEAM")
    ]
    assert list(rules.variables(made(objects.ProxyConfig, {}))) == []


@pytest.mark.parametrize(
    ("now", "before", "within"),
    [
        (["*/*"], ["~/*", "*/*"], False),
        (["./*", "istio-system/*"], ["istio-system/*"], True),
        (["*/*", "crm/shop.crm.svc.cluster.local"], ["*/*"], False),
        (["./*", "crm/*"], ["./*"], True),
        (["./shop"], ["./crm"], False),
    ],
)
def test_a_changed_sidecar_may_know_more_but_not_less(
    now: list[str], before: list[str], within: bool
) -> None:
    new, old = (made(objects.Sidecar, {"egress": [known(*hosts)]}) for hosts in (now, before))
    assert rules.sidecar_within(new, old) == within


def test_lists_that_are_too_long_are_not_read() -> None:
    many = ["api.example.com"] * 1025
    with pytest.raises(msgspec.ValidationError, match=r"length <= 1024 - at `\$.spec.hosts`"):
        made(objects.ServiceEntry, entry(*many))
