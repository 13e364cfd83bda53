"""The doctor's conclusions. tests/cluster/ has the findings that need a real cluster."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.certificates import Authority
from tests.standins.linkerd_config import InjectorConfig
from tests.standins.linkerd_values import values
from tests.unit.cluster import mendix, policies
from tests.unit.cluster.apiserver import Reply, status
from tests.unit.cluster.hospital import MUTATING, Hospital, bundle
from tests.unit.cluster.world import CONFIGURATION, Json, meshed, unmeshed
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.cluster.doctor import Diagnosis, apply, examine, repairs
from webhook.cluster.doctor.facts import Facts, Place, places
from webhook.cluster.doctor.findings import Repair, all_findings
from webhook.cluster.doctor.findings.kubernetes_old import NEEDED
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.policy import meshes
from webhook.policy.settings import Exemption, Ingress, Istio, LevelChange, Linkerd, Settings
from webhook.version import VERSION

Examine = Callable[..., Diagnosis]
DAY_2 = Path(__file__).parents[4] / "docs" / "day-2.md"


@pytest.fixture
def diagnose(tmp_path: Path) -> Examine:
    """Examine namespaces of a hospital; all of them are enrolled in its mesh."""

    def run(hospital: Hospital, *names: str, settings: Settings | None = None) -> Diagnosis:
        read = settings or Settings()
        known = meshes.load(read)
        for name in names:
            if f"/api/v1/namespaces/{name}" not in hospital.objects:
                hospital.namespace(name, hospital.mesh)
        with hospital.serving(tmp_path) as server:
            enrollment = Enrollment.read(server.cluster)
            inventory = Inventory(server.cluster)
            places = []
            for name in names:
                namespace = inventory.namespace(name)
                enrolled = enrollment.of(namespace)
                places.append(
                    Place(namespace, enrolled, known[enrolled.mesh if enrolled else "unknown"])
                )
            return examine(Facts(server.cluster, read), places)

    return run


def ids(found: Diagnosis) -> list[str]:
    return [one.id for one in found.findings]


@pytest.mark.parametrize("mesh", ["linkerd", "istio"])
def test_nothing_is_found_if_all_is_well(diagnose: Examine, mesh: str) -> None:
    hospital = Hospital(mesh)
    if mesh == "istio":
        hospital.namespace("mendix", mesh)
        hospital.objects["/api/v1/namespaces/mendix"]["metadata"]["labels"]["istio.io/rev"] = (
            "default"
        )
    found = diagnose(hospital, "mendix")
    assert (found.findings, found.unchecked) == ([], [])
    assert [one.meshed for one in found.namespaces] == ["yes"]
    assert found.is_good


def test_a_mutating_webhook_for_controllers_alone_does_not_count_for_pods(
    diagnose: Examine,
) -> None:
    hospital = Hospital()
    rules = [{"operations": ["CREATE"], "resources": ["deployments"]}]
    hospital.configuration("00-mendix-mesh", "linkerd.mutate.mendix-mesh.io",
                           path="/mutate/linkerd", rules=rules)  # fmt: skip
    found = diagnose(hospital, "mendix")
    (missing,) = (one for one in found.findings if one.id == "webhook-missing")
    assert (
        missing.evidence == "no mutating webhook of mendix-mesh is called for the namespace's pods"
    )


def test_a_finding_is_reported_once_for_all_its_namespaces(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.probed = Reply(body=unmeshed())
    found = diagnose(hospital, "a", "b")
    (one,) = found.findings
    assert (one.id, one.severity, one.namespaces) == ("probe-unmeshed", "error", ["a", "b"])
    assert not found.is_good


@pytest.mark.parametrize(("ready", "expected"), [(False, ["unready"]), (None, []), (True, [])])
def test_an_unknown_endpoint_counts_as_ready(
    diagnose: Examine, ready: bool | None, expected: list[str]
) -> None:
    hospital = Hospital()
    hospital.endpoints("linkerd", ready=ready)
    found = diagnose(hospital, "mendix")
    assert ids(found) == expected
    if expected:
        assert "does not exist" in found.findings[0].evidence


def test_what_is_not_ready_is_reported_if_its_deployment_cannot_be_read(diagnose: Examine) -> None:
    hospital = Hospital("istio")
    hospital.endpoints("istio", ready=False)
    hospital.forbidden = ["/apis/apps/v1/namespaces/istio/deployments/mm"]
    found = diagnose(hospital, "mendix")
    assert "unready" in ids(found)
    assert "deployments" in found.unchecked[0].why


def test_what_a_deployment_says_of_its_pods(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.endpoints("linkerd", ready=False)
    where = "/apis/apps/v1/namespaces/linkerd/deployments/mm"
    hospital.add(where, {"spec": {"replicas": 3}, "status": {"readyReplicas": 0}})
    (one,) = diagnose(hospital, "mendix").findings
    assert "its Deployment has 0 of 3 pods ready" in one.evidence


@pytest.mark.parametrize(
    ("deployment", "says", "fix"),
    [
        ({"spec": {"replicas": 0}}, "its Deployment is scaled to zero",
         "kubectl -n linkerd scale deployment/mm --replicas=2"),
        ({"message": "pods \"x\" is forbidden: exceeded quota: small, requested: pods=1"},
         "exceeded quota: small", "kubectl -n linkerd edit resourcequota small"),
        ({"message": "failed quota: all: must specify limits.cpu for: linkerd-proxy"},
         "must specify limits.cpu", "give these containers defaults with a LimitRange: echo '"),
    ],
)  # fmt: skip
def test_the_reasons_why_a_server_has_no_pod_are_distinguished(
    diagnose: Examine, deployment: Json, says: str, fix: str
) -> None:
    hospital = Hospital()
    hospital.endpoints("linkerd", ready=False)
    failure = {"type": "ReplicaFailure", "status": "True", "message": deployment.get("message")}
    conditions = [failure] if "message" in deployment else []
    spec = deployment.get("spec", {"replicas": 1})
    where = "/apis/apps/v1/namespaces/linkerd/deployments/mm"
    hospital.add(where, {"spec": spec, "status": {"conditions": conditions}})
    (one,) = diagnose(hospital, "mendix").findings
    assert says in one.evidence
    assert fix in one.fix


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("exceeded quota: small, requested: pods=1, used: pods=9, limited: pods=9", "is full"),
        ("failed quota: all: must specify limits.cpu for: linkerd-proxy",
         "requires limits that a container lacks"),
    ],
)  # fmt: skip
def test_a_quota_of_the_namespace_is_the_cause_of_a_denied_pod(
    diagnose: Examine, message: str, says: str
) -> None:
    hospital = Hospital()
    hospital.probed = status(403, "Forbidden", f'pods "probe" is forbidden: {message}')
    cause, consequence = diagnose(hospital, "mendix").findings
    assert (cause.id, cause.because) == ("quota", [])
    assert f"a ResourceQuota {says}: " in cause.evidence
    assert (consequence.id, consequence.because) == ("probe-unmeshed", ["quota"])
    assert consequence.fix == "fix quota first"


def test_a_cause_in_one_namespace_explains_nothing_in_another(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.namespace("a", hospital.mesh)
    meta = hospital.objects["/api/v1/namespaces/a"]["metadata"]
    meta["annotations"] = {"linkerd.io/inject": "maybe"}
    hospital.probed = Reply(body=unmeshed())
    found = diagnose(hospital, "a", "b")
    because = {one.id: one.because for one in found.findings}
    assert because == {"inject-annotation-invalid": [], "probe-unmeshed": []}
    assert [one.because for one in diagnose(hospital, "a").findings] == [
        [], ["inject-annotation-invalid"],
    ]  # fmt: skip


DENIED = {"linkerd.io/inject": "disabled"}
APIS = "/apis/privatecloud.mendix.com/v1alpha1/namespaces"


def operated(hospital: Hospital, where: str) -> None:
    """Let a namespace have an operator."""
    mendix.define(hospital)
    mendix.operator(hospital, where)


def test_what_an_environment_sets_is_a_finding_of_its_mendixapp(diagnose: Examine) -> None:
    hospital = Hospital()
    operated(hospital, "mendix")
    spec = {"runtimeDeploymentPodAnnotations": DENIED}
    hospital.add(f"{APIS}/mendix/mendixapps/shop", {"spec": spec})
    hospital.add(f"{APIS}/mendix/mendixapps/crm", {"spec": {}})
    (one,) = diagnose(hospital, "mendix").findings
    assert one.id == "operator-settings"
    assert one.evidence.startswith("MendixApp shop runtimeDeploymentPodAnnotations: ")
    assert "edit mendixapps.privatecloud.mendix.com shop" in one.fix
    assert "Mendix Portal" in one.fix


@pytest.mark.parametrize("overridden", [False, True])
def test_a_global_operators_main_namespace_is_read_for_what_it_manages(
    diagnose: Examine, overridden: bool
) -> None:
    hospital = Hospital()
    operated(hospital, "main")
    name = "operatorconfigurations/mendix-operator-configuration"
    spec: Json = {
        "managedNamespaces": ["mendix"], "runtimeDeploymentPodAnnotations": DENIED,
    }  # fmt: skip
    hospital.add(f"{APIS}/main/{name}", {"spec": spec})
    own = {"runtimeDeploymentPodAnnotations": {"linkerd.io/inject": "enabled"}}
    hospital.add(f"{APIS}/mendix/{name}", {"spec": own if overridden else {}})
    found = diagnose(hospital, "mendix").findings
    assert [one.id for one in found] == ([] if overridden else ["operator-settings"])
    if not overridden:
        assert found[0].evidence.startswith("OperatorConfiguration main/mendix-operator-conf")
        assert found[0].fix.endswith("kubectl -n main rollout restart deployment/mendix-operator")
    assert diagnose(hospital, "another").findings == []


def test_istiods_roots_are_compared_with_its_ca_bundle(diagnose: Examine) -> None:
    hospital = Hospital("istio")
    hospital.namespace("mendix", "istio", labels={"mendix-mesh.io/mesh": "istio",
                                                  "istio.io/rev": "default"})  # fmt: skip
    root = Authority("another")
    data = {"root-cert_pem": root.pem.decode()}
    hospital.add(
        "/api/v1/namespaces/istio/configmaps/istio-ca-root-cert",
        {"data": {"root-cert.pem": data["root-cert_pem"]}},
    )
    found = diagnose(hospital, "mendix")
    assert ids(found) == ["ca-bundle"]
    assert found.findings[0].evidence.endswith("ConfigMap istio/istio-ca-root-cert")
    assert found.findings[0].fix.endswith("kubectl -n istio rollout restart deployment/mm")
    webhook = hospital.objects[f"{MUTATING}/injector"]["webhooks"][0]
    webhook["clientConfig"]["caBundle"] = bundle(root)
    assert ids(diagnose(hospital, "mendix")) == []


@pytest.mark.parametrize(("ready", "severity"), [(0, "error"), (1, "warning"), (3, None)])
def test_agents_that_are_ready_on_some_nodes_are_a_warning(
    diagnose: Examine, ready: int, severity: str | None
) -> None:
    hospital = Hospital("ambient")
    for name in ("istio-cni-node", "ztunnel"):
        hospital.add(
            f"/apis/apps/v1/namespaces/istio-system/daemonsets/{name}",
            {"status": {"desiredNumberScheduled": 3, "numberReady": ready}},
        )
    found = diagnose(hospital, "mendix")
    assert {one.severity for one in found.findings} == ({severity} if severity else set())
    assert len(found.findings) == (2 if severity else 0)


def differing(hospital: Hospital, **change: Any) -> None:
    """Set a value in Linkerd's own configuration."""
    text = yaml.safe_dump(values(InjectorConfig(**change)))
    hospital.config_map("linkerd", "linkerd-config", values=text)


def test_settings_that_differ_from_the_mesh_are_reported_with_the_line_to_set(
    diagnose: Examine,
) -> None:
    hospital = Hospital()
    differing(hospital, proxy_uid=3000, inbound_port=5143, skip_outbound="")
    where = "ConfigMap linkerd/linkerd-config"
    found = diagnose(hospital, "mendix").findings
    assert {(one.id, one.severity, one.evidence) for one in found} == {
        (
            "settings-differ", "error",
            f"settings.linkerd.proxyUid is 2102, the mesh uses 3000 ({where}: proxy.uid); "
            f"settings.linkerd.inboundPort is 4143, the mesh uses 5143 ({where}: "
            "proxy.ports.inbound); to match the mesh: settings: {linkerd: {proxyUid: 3000, "
            "inboundPort: 5143}}",
        ),
        (
            "settings-differ", "warning",
            f"settings.linkerd.skipOutboundPorts is 4567,4568, the mesh uses '' ({where}: "
            "proxyInit.ignoreOutboundPorts); to match the mesh: settings: {linkerd: "
            "{skipOutboundPorts: ''}}",
        ),
    }  # fmt: skip


def test_settings_that_are_the_meshs_are_no_finding(diagnose: Examine) -> None:
    hospital = Hospital()
    differing(hospital, skip_subnets="10.1.0.0/16")
    settings = Settings(linkerd=Linkerd(skip_subnets=["10.1.0.0/16"]))
    assert ids(diagnose(hospital, "mendix", settings=settings)) == []
    assert ids(diagnose(hospital, "mendix")) == ["settings-differ"]


def test_a_meshs_configuration_that_is_forbidden_is_reported(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.forbidden.append("/api/v1/namespaces/linkerd/configmaps")
    found = diagnose(hospital, "mendix")
    assert "settings-differ" in {one.id for one in found.unchecked}


def test_ambient_is_compared_with_what_counts_for_it_alone(diagnose: Examine) -> None:
    hospital = Hospital("ambient")
    for name in ("istio-cni-node", "ztunnel"):
        hospital.add(
            f"/apis/apps/v1/namespaces/istio-system/daemonsets/{name}",
            {"status": {"desiredNumberScheduled": 3, "numberReady": 3}},
        )
    text = "global: {hub: r.example.com, proxy: {clusterDomain: corp.example}, platform: openshift}"
    hospital.config_map("istio-system", "istio-sidecar-injector", values=text)
    (one,) = diagnose(hospital, "mendix").findings
    assert one.evidence.endswith(
        "settings: {clusterDomain: corp.example, istio: {proxyImages: [r.example.com/proxyv2]}}"
    )


def test_revisions_are_tags_too_but_not_what_a_tag_has_taken_over(diagnose: Examine) -> None:
    hospital = Hospital("istio")
    never = {"matchLabels": {"istio.io/deactivated": "never-match"}}
    name = "rev.namespace.sidecar-injector.istio.io"
    hospital.configuration("injector", name, labels={"istio.io/rev": "default"},
                           namespaceSelector=never)  # fmt: skip
    hospital.configuration("tag", name, labels={"istio.io/rev": "1-31", "istio.io/tag": "prod"})
    settings = Settings(istio=Istio(revision="stable"))
    found = diagnose(hospital, "mendix", settings=settings)
    (one,) = [one for one in found.findings if one.id == "revision-unknown"]
    assert one.evidence == "settings.istio.revision is stable; installed: prod"
    settings = Settings(istio=Istio(revision="prod"))
    assert ids(diagnose(hospital, "mendix", settings=settings)) == []


def test_what_is_forbidden_is_reported_once_a_finding(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.forbidden.append("/apis/discovery.k8s.io/v1/namespaces/mendix-mesh/endpointslices")
    found = diagnose(hospital, "a", "b")
    assert (found.findings, found.is_good) == ([], True)
    (one,) = found.unchecked
    assert (one.id, one.namespaces) == ("unready", ["a", "b"])
    assert 'User "someone" cannot get' in one.why


def test_a_forbidden_probe_proves_nothing(diagnose: Examine) -> None:
    hospital = Hospital()
    message = 'pods is forbidden: User "x" cannot create resource "pods" in API group ""'
    hospital.probed = status(403, "Forbidden", message)
    found = diagnose(hospital, "mendix")
    assert [one.meshed for one in found.namespaces] == ["unknown"]
    assert found.findings == []
    assert {"probe-unmeshed", "pod-security"} <= {one.id for one in found.unchecked}


@pytest.mark.parametrize(
    "lenient",
    [
        {"exemptions": [Exemption(checks=["proxy-missing"], namespaces=["*"], reason="old")]},
        {"levels": [LevelChange(check="proxy-missing", level="warning", reason="old")]},
    ],
    ids=["exempt", "advice"],
)
def test_what_settings_admit_is_not_meshed_because_of_that(
    diagnose: Examine, lenient: dict[str, Any]
) -> None:
    hospital = Hospital()
    hospital.probed = Reply(body=unmeshed())
    found = diagnose(hospital, "mendix", settings=Settings(**lenient))
    assert ids(found) == ["probe-unmeshed"]
    assert [one.meshed for one in found.namespaces] == ["no"]


def test_a_denial_of_anyone_else_is_shown(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.probed = status(403, "Forbidden", 'admission webhook "x.example.com" denied it')
    (one,) = diagnose(hospital, "mendix").findings
    assert one.id == "probe-unmeshed"
    assert one.evidence == 'the dry-run pod was denied: admission webhook "x.example.com" denied it'


def test_an_expired_login_is_reported(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.probed = status(401, "Unauthorized", "Unauthorized")
    with pytest.raises(ClusterError, match="you are not logged in"):
        diagnose(hospital, "mendix")


def test_a_namespace_that_is_gone_meanwhile_is_reported_and_not_fatal(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.probed = status(404, "NotFound", 'namespaces "mendix" not found')
    found = diagnose(hospital, "mendix")
    assert [one.meshed for one in found.namespaces] == ["unknown"]
    assert {one.why for one in found.unchecked} == {'namespaces "mendix" not found'}
    assert found.findings == []


def test_a_cluster_that_fails_is_an_error(diagnose: Examine, waits: list[float]) -> None:
    hospital = Hospital()
    hospital.failing.append(MUTATING)
    with pytest.raises(ClusterError, match="etcd is gone"):
        diagnose(hospital, "mendix")
    assert waits


def test_the_docs_list_every_finding_and_its_severity() -> None:
    section = DAY_2.read_text().partition("\n## doctor\n")[2]
    listed = {
        cells[1].strip(" `"): cells[2].strip()
        for line in section.splitlines()
        if (cells := line.split("|")) and line.startswith("| `")
    }
    entries = all_findings().items()
    wanted = {name: entry.rule.severity for name, entry in entries}
    assert listed == wanted, "docs/day-2.md, doctor: a row for each finding, with its severity"


def test_every_finding_has_its_meaning_its_fix_and_its_source() -> None:
    for entry in all_findings().values():
        assert all((entry.rule.means, entry.rule.fix, entry.rule.source))
        assert set(entry.rule.meshes) <= {"linkerd", "istio", "ambient", "unknown"}


DEMANDED = Settings(
    levels=[LevelChange(check="plaintext-accepted", level="deny", reason="none gets in")]
)


@pytest.mark.parametrize(
    ("mode", "settings", "severity"),
    [(None, None, "warning"), ("STRICT", DEMANDED, None), (None, DEMANDED, "error"),
     ("PERMISSIVE", DEMANDED, "error")],
)  # fmt: skip
def test_plaintext_is_an_error_if_the_settings_say_so(
    diagnose: Examine, mode: str | None, settings: Settings | None, severity: str | None
) -> None:
    hospital = Hospital("ambient")
    hospital.pod("mendix", "shop", meshed("ambient"))
    if mode:
        policies.peer(hospital, "mendix", "all", mode)
    found = diagnose(hospital, "mendix", settings=settings).findings
    severities = [one.severity for one in found if one.id == "plaintext-accepted"]
    assert severities == ([severity] if severity else [])


def test_plaintext_that_gets_in_in_part_is_a_warning(diagnose: Examine) -> None:
    hospital = Hospital("ambient")
    policies.peer(hospital, "mendix", "all", "STRICT")
    pod = meshed("ambient")
    pod["metadata"]["labels"]["app"] = "shop"
    hospital.pod("mendix", "shop", pod)
    selector = {"matchLabels": {"app": "shop"}}
    policies.peer(hospital, "mendix", "loose", "PERMISSIVE", selector=selector)
    found = diagnose(hospital, "mendix").findings
    (one,) = [one for one in found if one.id == "plaintext-accepted"]
    assert one.severity == "warning"
    assert one.evidence == "all ports of shop: PeerAuthentication mendix/loose is PERMISSIVE"


def test_a_rule_that_makes_clients_speak_plaintext(diagnose: Examine) -> None:
    hospital = Hospital("ambient")
    policies.rule(hospital, "mendix", "shop", "shop", "DISABLE")
    found = diagnose(hospital, "mendix").findings
    (one,) = [one for one in found if one.id == "client-plaintext"]
    assert one.evidence == (
        "DestinationRule mendix/shop: spec.trafficPolicy.tls.mode is DISABLE for shop"
    )


def test_policies_that_must_not_be_read_are_reported(diagnose: Examine) -> None:
    hospital = Hospital("ambient")
    hospital.pod("mendix", "shop", meshed("ambient"))
    hospital.forbidden = ["/apis/security.istio.io", "/apis/networking.istio.io"]
    unchecked = {one.id for one in diagnose(hospital, "mendix").unchecked}
    assert unchecked == {"plaintext-accepted", "client-plaintext"}


def deployment(version: str = VERSION, *, chart: str = "", mesh: str = "mendix-mesh") -> Json:
    """Our server's Deployment, by the name of the Service in a hospital."""
    container = {"name": mesh, "image": f"registry.example.com:5000/mendix-mesh:{version}"}
    volume = {"name": "tls", "secret": {"secretName": "tls"}}
    pod = {"containers": [container], "volumes": [volume]}
    labels = {"app.kubernetes.io/version": chart or version}
    return {"metadata": {"labels": labels}, "spec": {"template": {"spec": pod}}}


OUR_DEPLOYMENT = "/apis/apps/v1/namespaces/mendix-mesh/deployments/mm"


def label_configurations(hospital: Hospital, version: str) -> None:
    for where in (CONFIGURATION, f"{MUTATING}/00-mendix-mesh"):
        labels = {"app.kubernetes.io/version": version}
        hospital.objects[where]["metadata"]["labels"] = labels


def test_equal_versions_are_no_finding(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.add(OUR_DEPLOYMENT, deployment())
    label_configurations(hospital, VERSION)
    hospital.add("/version", {"gitVersion": "v1.30.0-gke.1"})
    assert ids(diagnose(hospital, "mendix")) == []


@pytest.mark.parametrize("tag", ["v{}", "{}"])
def test_a_server_of_another_version_than_the_command(diagnose: Examine, tag: str) -> None:
    hospital = Hospital()
    hospital.add(OUR_DEPLOYMENT, deployment(tag.format("99.1.0"), chart="99.1.0"))
    label_configurations(hospital, "99.1.0")
    (found,) = diagnose(hospital, "mendix").findings
    assert found.id == "versions-differ"
    assert found.evidence == f"the server has version 99.1.0, this command has {VERSION}"


def test_a_half_upgraded_chart(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.add(OUR_DEPLOYMENT, deployment(chart="99.1.0"))
    label_configurations(hospital, "98.0.0")
    findings = {one.evidence for one in diagnose(hospital, "mendix").findings}
    assert findings == {
        f"Deployment mendix-mesh/mm runs version {VERSION}, but its chart has version 99.1.0",
        "00-mendix-mesh has version 98.0.0, the Deployment has 99.1.0",
        "mendix-mesh has version 98.0.0, the Deployment has 99.1.0",
    }


def test_an_image_without_a_version_is_not_compared(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.add(OUR_DEPLOYMENT, deployment("latest", chart=VERSION))
    assert ids(diagnose(hospital, "mendix")) == []


def test_an_api_server_that_is_too_old(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.add("/version", {"gitVersion": "v1.29.15+k3s1"})
    (found,) = diagnose(hospital, "mendix").findings
    assert (found.id, found.severity) == ("kubernetes-old", "error")
    assert found.evidence == "the API server has version v1.29.15+k3s1"


def test_what_kubernetes_is_needed_is_the_charts_word() -> None:
    text = (DAY_2.parents[1] / "charts" / "mendix-mesh" / "Chart.yaml").read_text()
    assert yaml.safe_load(text)["kubeVersion"] == f">={NEEDED[0]}.{NEEDED[1]}.0-0"


def versioned(mesh: str, version: str) -> Json:
    """Return a meshed pod with a proxy of a version."""
    made = meshed(mesh)
    made["metadata"]["annotations"].pop("linkerd.io/proxy-version", None)
    for one in made["spec"]["initContainers"] + made["spec"]["containers"]:
        if one["name"] in ("linkerd-proxy", "istio-proxy"):
            one["image"] = f"{one['image'].rpartition(':')[0]}:{version}"
    return made


@pytest.mark.parametrize(
    ("mesh", "now", "has", "skewed"),
    [
        ("linkerd", "stable-2.14.10", "stable-2.13.1", False),
        ("linkerd", "stable-2.14.10", "stable-2.12.6", True),
        ("linkerd", "enterprise-2.19.1", "stable-2.14.10", True),
        ("linkerd", "stable-2.13.1", "stable-2.14.0", True),
        ("linkerd", "edge-26.8.3", "edge-24.1.1", False),
        ("linkerd", "stable-2.14.10", "edge-24.1.1", False),
        ("linkerd", "cafe", "stable-2.14.10", False),
        ("istio", "1.27.1", "1.26.0-distroless", False),
        ("istio", "1.27.1", "1.25.3", True),
        ("istio", "1.27.1", "1.28.0", True),
    ],
)
def test_proxies_that_do_not_go_with_the_control_plane(
    diagnose: Examine, mesh: str, now: str, has: str, skewed: bool
) -> None:
    hospital = Hospital(mesh)
    probe = versioned(mesh, now)
    probe["metadata"]["namespace"] = "mendix"
    hospital.probed = Reply(body=probe)
    for name in ("a", "b"):
        hospital.pod("mendix", name, versioned(mesh, has))
    hospital.pod("mendix", "new", versioned(mesh, now))
    findings = [one for one in diagnose(hospital, "mendix").findings if one.id == "proxy-skew"]
    assert bool(findings) == skewed
    if skewed:
        assert findings[0].evidence == (
            f"pod mendix/a and 1 more has proxy version {has}; new pods get {now}"
        )


def fixed(hospital: Hospital, tmp_path: Path, *names: str) -> list[str]:
    """Apply every repair and return them. Afterwards nothing is left to fix."""
    read = Settings()
    with hospital.serving(tmp_path) as server:
        enrollment = Enrollment.read(server.cluster)

        def planned() -> list[Repair]:
            found = places(Inventory(server.cluster), enrollment, read, names)
            return repairs(Facts(server.cluster, read), found)

        first = planned()
        for one in first:
            apply(server.cluster, [one], dry_run=True)
        assert planned() == first
        for one in first:
            apply(server.cluster, [one], dry_run=False)
        assert planned() == []
        return [one.what for one in first]


def meta_of(hospital: Hospital, name: str = "mendix") -> Json:
    found: Json = hospital.objects[f"/api/v1/namespaces/{name}"]["metadata"]
    return found


def test_a_misspelled_mesh_and_mode_are_fixed(tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.namespace("mendix", "linkred", "Enforce")
    assert fixed(hospital, tmp_path, "mendix") == [
        "namespace mendix: change label mendix-mesh.io/mode=Enforce to enforce",
        "namespace mendix: change label mendix-mesh.io/mesh=linkred to linkerd",
    ]
    assert meta_of(hospital)["labels"] == {
        "mendix-mesh.io/mesh": "linkerd",
        "mendix-mesh.io/mode": "enforce",
    }


@pytest.mark.parametrize(("mesh", "mode"), [("kuma", "enforce"), ("linkerd", "wran"), ("", "x")])
def test_what_is_unclear_or_would_lower_the_mode_is_not_fixed(
    tmp_path: Path, mesh: str, mode: str
) -> None:
    hospital = Hospital()
    hospital.namespace("mendix", mesh, mode)
    assert fixed(hospital, tmp_path, "mendix") == []


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("true", "enabled"), ("Enabled", "enabled"), ("enable", "enabled"), ("disable", "disable"),
     ("false", "false"), ("disabled", "disabled")],
)  # fmt: skip
def test_an_invalid_opt_in_is_fixed_if_it_means_yes(
    tmp_path: Path, value: str, wanted: str
) -> None:
    hospital = Hospital()
    hospital.namespace("mendix", "linkerd", annotations={"linkerd.io/inject": value})
    fixed(hospital, tmp_path, "mendix")
    assert meta_of(hospital)["annotations"]["linkerd.io/inject"] == wanted


@pytest.mark.parametrize("annotations", [None, {"team": "shop"}])
def test_an_opt_in_is_moved_to_where_it_counts(
    tmp_path: Path, annotations: dict[str, str] | None
) -> None:
    hospital = Hospital()
    hospital.namespace("mendix", "linkerd")
    meta = meta_of(hospital)
    meta["labels"]["linkerd.io/inject"] = "enabled"
    if annotations:
        meta["annotations"] = annotations
    (what,) = fixed(hospital, tmp_path, "mendix")
    assert what == (
        "namespace mendix: move linkerd.io/inject=enabled from its labels to its annotations"
    )
    meta = meta_of(hospital)
    assert "linkerd.io/inject" not in meta["labels"]
    assert meta["annotations"] == {**(annotations or {}), "linkerd.io/inject": "enabled"}


@pytest.mark.parametrize(
    ("mesh", "key", "value"),
    [("istio", "istio-injection", "enabled"), ("ambient", "istio.io/dataplane-mode", "ambient")],
)
def test_istios_opt_ins_become_labels(tmp_path: Path, mesh: str, key: str, value: str) -> None:
    hospital = Hospital(mesh)
    hospital.namespace("mendix", mesh, annotations={key: value})
    fixed(hospital, tmp_path, "mendix")
    meta = meta_of(hospital)
    assert meta["labels"][key] == value
    assert meta["annotations"] == {}


def test_a_mark_that_contradicts_another_is_not_moved(tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.namespace("mendix", "linkerd", annotations={"linkerd.io/inject": "disabled"})
    meta_of(hospital)["labels"]["linkerd.io/inject"] = "enabled"
    assert fixed(hospital, tmp_path, "mendix") == []
    istio = Hospital("istio")
    istio.namespace("mendix", "istio", annotations={"istio-injection": "enabled"})
    meta_of(istio)["labels"]["istio.io/rev"] = "canary"
    assert fixed(istio, tmp_path, "mendix") == []
    # The label would call the default injector, which is not there.
    del meta_of(istio)["labels"]["istio.io/rev"]
    istio.objects[f"{MUTATING}/injector"]["metadata"]["labels"]["istio.io/rev"] = "1-24"
    assert fixed(istio, tmp_path, "mendix") == []


def test_our_ca_bundle_is_fixed_from_the_servers_secret(diagnose: Examine, tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.namespace("mendix", "linkerd")
    hospital.add(OUR_DEPLOYMENT, deployment())
    label_configurations(hospital, VERSION)
    other = Authority("other")
    pair = other.issue("mendix-mesh", hosts=["mm"])
    data = {"tls.crt": pair.cert, "ca.crt": other.pem}
    encoded = {key: base64.b64encode(pem).decode() for key, pem in data.items()}
    hospital.add("/api/v1/namespaces/mendix-mesh/secrets/tls", {"data": encoded})
    assert ids(diagnose(hospital, "mendix")) == ["ca-bundle", "ca-bundle"]
    assert fixed(hospital, tmp_path, "mendix") == [
        "00-mendix-mesh (mutatingwebhookconfigurations): set caBundle to ca.crt of the server's "
        "Secret",
        "mendix-mesh (validatingwebhookconfigurations): set caBundle to ca.crt of the server's "
        "Secret",
    ]
    assert ids(diagnose(hospital, "mendix")) == []


def test_our_ca_bundle_stays_if_the_secret_has_no_better_one(tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.namespace("mendix", "linkerd")
    hospital.add(OUR_DEPLOYMENT, deployment())
    pair = Authority("other").issue("mendix-mesh", hosts=["mm"])
    data = {"tls.crt": pair.cert, "ca.crt": Authority("third").pem}
    encoded = {key: base64.b64encode(pem).decode() for key, pem in data.items()}
    hospital.add("/api/v1/namespaces/mendix-mesh/secrets/tls", {"data": encoded})
    assert fixed(hospital, tmp_path, "mendix") == []


def test_what_must_not_be_read_is_not_fixed(tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.namespace("mendix", "linkerd", annotations={"linkerd.io/inject": "true"})
    hospital.forbidden.append("/apis/apps")
    assert len(fixed(hospital, tmp_path, "mendix")) == 1


def test_what_has_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.namespace("mendix", "linkred")
    read = Settings()
    with hospital.serving(tmp_path) as server:
        enrollment = Enrollment.read(server.cluster)
        found = places(Inventory(server.cluster), enrollment, read, ["mendix"])
        (repair,) = repairs(Facts(server.cluster, read), found)
        meta_of(hospital)["labels"]["mendix-mesh.io/mesh"] = "istio"
        with pytest.raises(StatusError):
            apply(server.cluster, [repair], dry_run=False)
    assert meta_of(hospital)["labels"]["mendix-mesh.io/mesh"] == "istio"


def _not_enrolled(diagnose: Examine, hospital: Hospital) -> str:
    hospital.namespace("mendix")
    (found,) = [one for one in diagnose(hospital, "mendix").findings if one.id == "not-enrolled"]
    return found.fix


def test_a_namespace_is_enrolled_in_the_mesh_that_is_there(diagnose: Examine) -> None:
    hospital = Hospital("istio")
    command = "kubectl label namespace mendix mendix-mesh.io/mesh=istio mendix-mesh.io/mode=warn"
    assert _not_enrolled(diagnose, hospital) == command
    hospital.configuration("linkerd", "linkerd-proxy-injector.linkerd.io")
    assert _not_enrolled(diagnose, hospital).startswith("linkerd, istio are installed, and ")
    hospital.forbidden = [MUTATING]
    assert _not_enrolled(diagnose, hospital).startswith("run mendix-mesh discover --enroll, or ")


def test_an_invalid_mode_is_found_in_every_mesh(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.namespace("mendix", "linkerd", "wran")
    (found,) = diagnose(hospital, "mendix").findings
    assert (found.id, found.severity) == ("mode-unknown", "warning")
    assert found.evidence == "the namespace's label mendix-mesh.io/mode=wran is not a mode"


INGRESS, GATEWAY = "/apis/networking.k8s.io/v1", "/apis/gateway.networking.k8s.io/v1"


def ingress(hospital: Hospital, name: str, controller: str = "") -> None:
    """Add an Ingress of a class, and the class' object if a controller is given."""
    where = f"{INGRESS}/namespaces/mendix/ingresses/{name or 'none'}"
    hospital.add(where, {"spec": {"ingressClassName": name} if name else {}})
    if controller:
        hospital.add(f"{INGRESS}/ingressclasses/{name}", {"spec": {"controller": controller}})


def said(found: Diagnosis, finding: str) -> list[str]:
    return [one.evidence for one in found.findings if one.id == finding]


def test_an_ingress_controller_outside_the_mesh(diagnose: Examine) -> None:
    hospital = Hospital()
    ingress(hospital, "nginx", "nginx.org/ingress-controller")
    labels = {"app.kubernetes.io/name": "nginx-ingress"}
    for number in range(3):
        pod = unmeshed()
        pod["metadata"]["labels"] = labels
        hospital.pod("edge", f"ctrl-{number}", pod)
    assert said(diagnose(hospital, "mendix"), "ingress-outside-mesh") == [
        "ingress class nginx is served by F5's ingress controller, whose pod edge/ctrl-0 and 2 "
        "more is outside the mesh"
    ]
    for number in range(3):
        pod = meshed()
        pod["metadata"]["labels"] |= labels
        hospital.pod("edge", f"ctrl-{number}", pod)
    assert said(diagnose(hospital, "mendix"), "ingress-outside-mesh") == []


@pytest.mark.parametrize(
    ("name", "controller", "title"),
    [
        ("alb", "", "an Application Load Balancer of AWS"),
        ("public", "ingress.k8s.aws/alb", "an Application Load Balancer of AWS"),
        ("azure/application-gateway", "", "an Application Gateway of Azure"),
        ("gce", "", "a load balancer of Google Cloud"),
        ("openshift-default", "openshift.io/ingress-to-route", "OpenShift's router"),
    ],
)
def test_a_class_whose_controller_cannot_be_in_the_mesh(
    diagnose: Examine, name: str, controller: str, title: str
) -> None:
    hospital = Hospital()
    if "/" in name:
        annotations = {"kubernetes.io/ingress.class": name}
        where = f"{INGRESS}/namespaces/mendix/ingresses/shop"
        hospital.add(where, {"metadata": {"annotations": annotations}, "spec": {}})
    else:
        ingress(hospital, name, controller)
    assert said(diagnose(hospital, "mendix"), "ingress-outside-mesh") == [
        f"ingress class {name} is served by {title}, which can't be in the mesh"
    ]


def test_a_route_and_a_gateway_whose_controllers_cannot_be_in_the_mesh(diagnose: Examine) -> None:
    hospital = Hospital()
    hospital.add("/apis/route.openshift.io/v1/namespaces/mendix/routes/shop", {"spec": {}})
    parents = [{"name": "edge", "namespace": "infra"}, {"name": "shop", "kind": "Service"},
               {"name": "gone"}]  # fmt: skip
    hospital.add(f"{GATEWAY}/namespaces/mendix/httproutes/shop", {"spec": {"parentRefs": parents}})
    edge = {"spec": {"gatewayClassName": "gke-l7"}}
    hospital.add(f"{GATEWAY}/namespaces/infra/gateways/edge", edge)
    kind = {"spec": {"controllerName": "networking.gke.io/gateway"}}
    hospital.add(f"{GATEWAY}/gatewayclasses/gke-l7", kind)
    assert said(diagnose(hospital, "mendix"), "ingress-outside-mesh") == [
        "gateway class gke-l7 is served by a load balancer of Google Cloud, which can't be in the "
        "mesh",
        "each Route is served by OpenShift's router, which can't be in the mesh",
    ]


def test_an_unknown_controller_is_no_finding(diagnose: Examine) -> None:
    hospital = Hospital()
    ingress(hospital, "own", "example.com/own")
    ingress(hospital, "")
    assert ids(diagnose(hospital, "mendix")) == []


def test_settings_that_give_a_class_to_another_controller(diagnose: Examine) -> None:
    hospital = Hospital()
    ingress(hospital, "nginx", "nginx.org/ingress-controller")
    wrong = Settings(ingress=Ingress(classes={"nginx": "ingress-nginx"}))
    assert said(diagnose(hospital, "mendix", settings=wrong), "ingress-class") == [
        "settings.ingress.classes has nginx: ingress-nginx, but IngressClass nginx has "
        "spec.controller nginx.org/ingress-controller"
    ]
    for right in (
        Settings(ingress=Ingress(classes={"nginx": "f5-nginx"})),
        Settings(ingress=Ingress(classes={"nginx": "none"})),
        Settings(),
    ):
        assert ids(diagnose(hospital, "mendix", settings=right)) == []


def scaled(hospital: Hospital, kind: str, metric: Json, **more: Any) -> Json:
    """Add an autoscaler of a workload `shop`, and a pod of it in the mesh; give the pod."""
    hospital.add(
        "/apis/autoscaling/v2/namespaces/mendix/horizontalpodautoscalers/shop",
        {"spec": {"scaleTargetRef": {"kind": kind, "name": "shop"}, "metrics": [metric]}},
    )
    pod = meshed(hospital.mesh)
    for container in pod["spec"]["initContainers"]:
        container.pop("resources", None)
    pod["metadata"] |= more
    return hospital.pod("mendix", "shop-7d-x", pod)


CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}
OF_DEPLOYMENT: Json = {
    "labels": {"pod-template-hash": "7d"},
    "ownerReferences": [{"kind": "ReplicaSet", "name": "shop-7d", "apiVersion": "apps/v1"}],
}
OF_SET: Json = {"ownerReferences": [{"kind": "StatefulSet", "name": "shop"}]}


@pytest.mark.parametrize(
    ("kind", "marks"),
    [
        ("Deployment", OF_DEPLOYMENT),
        ("StatefulSet", OF_SET),
        ("MendixApp", {"labels": {"privatecloud.mendix.com/app": "shop"}}),
        ("MendixApp", {"labels": {"app": "shop"}}),
    ],
)
def test_a_proxy_without_a_request_blocks_the_autoscaler(
    diagnose: Examine, kind: str, marks: Json
) -> None:
    hospital = Hospital()
    pod = scaled(hospital, kind, CPU, **marks)
    assert said(diagnose(hospital, "mendix"), "autoscaler-blocked") == [
        f"HorizontalPodAutoscaler shop scales {kind} shop by its cpu utilization, but the "
        "container linkerd-proxy of pod shop-7d-x has no cpu request"
    ]
    for one in pod["spec"]["initContainers"]:
        one["resources"] = {"requests": {"cpu": "20m"}}
    assert said(diagnose(hospital, "mendix"), "autoscaler-blocked") == []


@pytest.mark.parametrize(
    "metric",
    [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue"}}},
        {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "mendix"}},
        {"type": "External", "external": {}},
    ],
)
def test_other_metrics_need_no_request_of_the_proxy(diagnose: Examine, metric: Json) -> None:
    hospital = Hospital()
    scaled(hospital, "Deployment", metric, **OF_DEPLOYMENT)
    assert said(diagnose(hospital, "mendix"), "autoscaler-blocked") == []


def test_pods_of_others_and_requests_of_whole_pods_do_not_block_an_autoscaler(
    diagnose: Examine,
) -> None:
    hospital = Hospital()
    pod = scaled(hospital, "Deployment", CPU, **OF_SET)
    assert said(diagnose(hospital, "mendix"), "autoscaler-blocked") == []
    pod["metadata"] |= OF_DEPLOYMENT
    pod["spec"]["resources"] = {"requests": {"cpu": "1"}}
    assert said(diagnose(hospital, "mendix"), "autoscaler-blocked") == []
    pod["spec"]["resources"] = {}
    pod["status"]["phase"] = "Failed"
    assert said(diagnose(hospital, "mendix"), "autoscaler-blocked") == []
