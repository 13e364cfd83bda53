"""Closing namespaces to plaintext on the real API server: audit, discover, chart, webhook.

Istio's CRDs are its own; Linkerd's are a stand-in.
"""

import contextlib
import copy
from collections.abc import Iterator

import pytest

from tests.cluster import command
from tests.cluster.api import Json, StatusError, wait_for
from tests.cluster.command import Command
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster, configured
from tests.cluster.plane import ControlPlane
from tests.cluster.test_audit import only
from tests.cluster.test_plaintext_istio import policy
from tests.cluster.workloads import pod
from tests.fixtures.cases import POLICY_OBJECTS
from tests.standins import linkerd_policy, mendix
from tests.standins import mendix_manifests as manifests

ANNOTATION = "config.linkerd.io/default-inbound-policy"
LEVELS = [{"check": "plaintext-accepted", "level": "deny", "reason": "no plaintext"}]


@pytest.fixture(scope="module")
def linkerd_crds(plane: ControlPlane) -> None:
    plane.api.define(*linkerd_policy.custom_resource_definitions())


@pytest.fixture(scope="module")
def cluster(mesh_cluster: MeshCluster, istio_crds: None, linkerd_crds: None) -> MeshCluster:
    """A cluster without the operators that other tests left: each may be a Global Operator."""
    api = mesh_cluster.api

    def left(kind: str) -> list[Json]:
        found = [one["metadata"] for one in api.list(kind)]
        return [meta for meta in found if meta["name"].startswith("mendix-operator")]

    for kind in ("Deployment", "Pod"):
        for meta in left(kind):
            with contextlib.suppress(StatusError):  # It may be gone with the other.
                api.delete(kind, meta["name"], meta["namespace"], grace=0)
    wait_for(lambda: not left("Pod"), seconds=60, why="operators of other tests to be gone")
    return mesh_cluster


@pytest.fixture(scope="module")
def auditor(cluster: MeshCluster) -> Command:
    """The command with the rights of docs/rbac.yaml."""
    return command.as_account(cluster.plane, "mendix-mesh-enroller", "mendix-mesh-strict")


@pytest.fixture(scope="module")
def guarded(cluster: MeshCluster) -> Iterator[MeshCluster]:
    """The release with the setting that no object may accept plaintext, and a strict namespace."""
    api = cluster.api
    named = cluster.plane.new_namespace("named")
    probe = cluster.enroll("enforce", mesh="istio")

    def closes() -> bool:
        return bool(api.denial(policy(probe, "probe", "PERMISSIVE")))

    values = {
        "reviewMeshPolicies": True,
        "settings": {"levels": LEVELS},
        "namespaces": [{"name": named, "mesh": "istio", "strict": True}],
    }
    with configured(cluster, values, closes):
        found = api.get("PeerAuthentication", "mendix-mesh", named)
        assert found["spec"] == {"mtls": {"mode": "STRICT"}}
        yield cluster


def plaintext(auditor: Command, namespace: str) -> Json:
    found: Json = only(auditor.audit("-n", namespace))["plaintext"]
    return found


def test_audit_says_whether_plaintext_gets_in(cluster: MeshCluster, auditor: Command) -> None:
    where = cluster.enroll("enforce", mesh="ambient")
    cluster.api.create(pod(where, "shop", labels={"app": "shop"}))
    # As the node's agent does.
    redirected = {"metadata": {"annotations": {"ambient.istio.io/redirection": "enabled"}}}
    cluster.api.patch("Pod", "shop", where, redirected, subresource="status")
    found = plaintext(auditor, where)
    assert (found["accepts"], found["unread"]) == ("yes", [])
    cluster.api.create(policy(where, "all", "STRICT"))
    selector = {"matchLabels": {"app": "shop"}}
    ports = {"8900": {"mode": "PERMISSIVE"}}
    cluster.api.create(policy(where, "metrics", None, selector=selector, portLevelMtls=ports))
    found = plaintext(auditor, where)
    assert found["accepts"] == "partly"
    assert found["because"] == [
        f"port 8900 of shop: PeerAuthentication {where}/metrics is PERMISSIVE for port 8900"
    ]
    table = auditor("audit", "-n", where, codes=(0, 1)).out
    assert "PLAINTEXT" in table.splitlines()[0]
    assert f"plaintext accepted by parts of {where}" in table


def test_audit_reads_linkerd_s_policies(cluster: MeshCluster, auditor: Command) -> None:
    where = cluster.enroll("enforce")
    cluster.api.create(pod(where, "shop", annotations={ANNOTATION: "all-authenticated"}))
    server = {"podSelector": {}, "port": 8080}
    cluster.api.create(linkerd_policy.policy("Server", where, "http", **server))
    reference = {"kind": "Server", "name": "http"}
    opening = linkerd_policy.policy("AuthorizationPolicy", where, "all", targetRef=reference,
                                    requiredAuthenticationRefs=[])  # fmt: skip
    cluster.api.create(opening)
    found = plaintext(auditor, where)
    assert found["accepts"] == "partly"
    assert (
        "port 8080 of shop: AuthorizationPolicy all lets any client use Server http"
        in (found["because"])
    )


def test_strict_enrolls_if_no_client_is_cut_off(cluster: MeshCluster, auditor: Command) -> None:
    mendix.install_crds(cluster.api)
    where = cluster.plane.new_namespace("mendix")
    cluster.api.create(manifests.operator_configuration(where))
    cluster.api.create(pod(where, "old"))
    arguments = ("discover", "--enroll", "--strict", "--mesh", "istio", "-n", where, "--yes")
    denied = auditor(*arguments, codes=(1,))
    assert f"cut off: Pod {where}/old" in denied.err
    assert MESH_LABEL not in cluster.api.get("Namespace", where)["metadata"]["labels"]
    cluster.api.delete("Pod", "old", where, grace=0)
    done = auditor(*arguments)
    assert "could not check" not in done.err
    stored = cluster.api.get("PeerAuthentication", "default", where)
    assert stored["spec"] == {"mtls": {"mode": "STRICT"}}
    # Without pods, there is nothing that could accept plaintext.
    assert plaintext(auditor, where) is None


def test_strict_annotates_a_namespace_of_linkerd(cluster: MeshCluster, auditor: Command) -> None:
    mendix.install_crds(cluster.api)
    where = cluster.plane.new_namespace("mendix")
    cluster.api.create(manifests.operator_configuration(where))
    auditor("discover", "--enroll", "--strict", "--mesh", "linkerd", "-n", where, "--yes")
    made = cluster.api.create(pod(where, "shop"))
    # The injector copies it to every new pod.
    assert made["metadata"]["annotations"][ANNOTATION] == "all-authenticated"
    assert plaintext(auditor, where)["accepts"] == "no"


def test_by_default_the_webhook_leaves_policies_alone(cluster: MeshCluster) -> None:
    where = cluster.enroll("enforce", mesh="istio")
    cluster.api.create(policy(where, "loose", "PERMISSIVE"))
    assert cluster.api.warnings == []


def test_a_policy_that_accepts_plaintext_is_denied(guarded: MeshCluster) -> None:
    api, where = guarded.api, guarded.enroll("enforce", mesh="istio")
    with pytest.raises(StatusError) as denied:
        api.create(policy(where, "loose", "PERMISSIVE"))
    assert (
        f"PeerAuthentication {where}/loose would weaken mutual TLS:\n"
        "  plaintext-accepted  spec.mtls.mode  accepts clients without mutual TLS (PERMISSIVE); "
        "set it to STRICT"
    ) in str(denied.value)
    api.create(policy(where, "all", "STRICT"))
    with pytest.raises(StatusError, match="no longer rejects plaintext"):
        api.patch("PeerAuthentication", "all", where, {"spec": {"mtls": None}})
    api.delete("PeerAuthentication", "all", where)


#: An entry that sends plaintext to an address in the cluster.
OPENING: Json = {
    "hosts": ["db.internal"],
    "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
    "location": "MESH_EXTERNAL",
    "resolution": "STATIC",
    "endpoints": [{"address": "10.244.7.7"}],
}


def networking(kind: str, namespace: str, name: str, spec: Json) -> Json:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


@pytest.mark.parametrize("obj", POLICY_OBJECTS, ids=lambda obj: obj["kind"])
def test_a_policy_object_with_a_verdict_gets_it_here(guarded: MeshCluster, obj: Json) -> None:
    made = copy.deepcopy(obj)
    mesh = "linkerd" if made["apiVersion"].startswith("policy.linkerd.io/") else "istio"
    made["metadata"]["namespace"] = guarded.enroll("enforce", mesh=mesh)
    with pytest.raises(StatusError, match=f"{made['kind']} .* would weaken mutual TLS"):
        guarded.api.create(made)


def test_a_proxy_config_with_variables_that_undo_proxies_is_denied(guarded: MeshCluster) -> None:
    api, where = guarded.api, guarded.enroll("enforce", mesh="istio")
    made = networking("ProxyConfig", where, "x", {"environmentVariables": {"DRY_RUN": "true"}})
    made["apiVersion"] = "networking.istio.io/v1beta1"
    with pytest.raises(StatusError, match="proxy-config"):
        api.create(made)
    api.create({**made, "spec": {"environmentVariables": {"TZ": "UTC"}, "concurrency": 2}})


def test_ztunnel_reads_no_sidecar_and_other_labels(guarded: MeshCluster) -> None:
    api, where = guarded.api, guarded.enroll("enforce", mesh="ambient")
    api.create(networking("Sidecar", where, "x", {"egress": [{"hosts": ["istio-system/*"]}]}))
    entry = {"address": "10.244.7.7", "labels": {"app": "shop"}, "serviceAccount": "vm"}
    with pytest.raises(StatusError, match=r"networking\.istio\.io/tunnel"):
        api.create(networking("WorkloadEntry", where, "x", entry))


def test_what_was_open_before_can_be_changed_otherwise(guarded: MeshCluster) -> None:
    api, where = guarded.api, guarded.plane.new_namespace("late")
    api.create(networking("ServiceEntry", where, "x", OPENING))
    api.patch("Namespace", where, None, {"metadata": {"labels": {MESH_LABEL: "istio"}}})

    other = networking("ServiceEntry", where, "y", OPENING)
    wait_for(lambda: api.denial(other), why="the namespace to be enforced")
    api.patch("ServiceEntry", "x", where, {"metadata": {"annotations": {"owner": "team"}}})
    more = {"spec": {"endpoints": [*OPENING["endpoints"], {"address": "10.244.7.8"}]}}
    with pytest.raises(StatusError, match=r"spec\.endpoints"):
        api.patch("ServiceEntry", "x", where, more)


def test_in_warn_it_is_admitted_with_a_warning(guarded: MeshCluster) -> None:
    where = guarded.enroll("warn", mesh="ambient")
    guarded.api.create(policy(where, "loose", "DISABLE"))
    (warning,) = guarded.api.warnings
    assert "plaintext-accepted" in warning


def test_linkerd_s_policies_and_annotation_are_guarded(guarded: MeshCluster) -> None:
    api, where = guarded.api, guarded.enroll("enforce")
    with pytest.raises(StatusError, match="accessPolicy"):
        api.create(linkerd_policy.policy("Server", where, "http", podSelector={}, port=8080,
                                         accessPolicy="all-unauthenticated"))  # fmt: skip
    granted = {"server": {"name": "http"}, "client": {"unauthenticated": True}}
    with pytest.raises(StatusError, match="accepts clients without mutual TLS"):
        api.create(linkerd_policy.policy("ServerAuthorization", where, "all", **granted))
    reference, by_network = (
        {"kind": kind, "name": "all"} for kind in ("Server", "NetworkAuthentication")
    )
    anyone = {"networks": [{"cidr": "0.0.0.0/0"}]}
    with pytest.raises(StatusError, match="matches every client"):
        api.create(linkerd_policy.policy("NetworkAuthentication", where, "all", **anyone))
    wanted = {"targetRef": reference, "requiredAuthenticationRefs": [by_network]}
    with pytest.raises(StatusError, match="NetworkAuthentication"):
        api.create(linkerd_policy.policy("AuthorizationPolicy", where, "all", **wanted))
    egress = {"networks": [{"cidr": "10.0.0.0/8"}], "trafficPolicy": "Allow"}
    with pytest.raises(StatusError, match="client-plaintext"):
        api.create(linkerd_policy.policy("EgressNetwork", where, "all", **egress))
    api.create(linkerd_policy.policy("EgressNetwork", where, "all", trafficPolicy="Allow"))
    api.patch("Namespace", where, None, annotated("all-authenticated"))
    with pytest.raises(StatusError, match="no longer rejects plaintext"):
        api.patch("Namespace", where, None, annotated(None))
    with pytest.raises(StatusError, match="all-unauthenticated"):
        api.patch("Namespace", where, None, annotated("all-unauthenticated"))
    # As for pods, the alternative is the mode.
    api.patch("Namespace", where, None, {"metadata": {"labels": {MODE_LABEL: "warn"}}})
    wait_for(lambda: loosened(guarded, where), why="warn to hold")


def annotated(policy_: str | None) -> Json:
    return {"metadata": {"annotations": {ANNOTATION: policy_}}}


def loosened(cluster: MeshCluster, where: str) -> bool:
    try:
        cluster.api.patch("Namespace", where, None, annotated("all-unauthenticated"))
    except StatusError:
        return False
    return True


def test_a_namespace_with_guarded_policies_can_be_deleted(guarded: MeshCluster) -> None:
    where = guarded.enroll("enforce", mesh="istio")
    guarded.api.create(policy(where, "all", "STRICT"))
    guarded.api.delete("Namespace", where)
    wait_for(lambda: not guarded.api.exists("Namespace", where), why="the namespace to go")
