"""Whether plaintext gets into a namespace: policy objects, running pods, rights and settings."""

from pathlib import Path

import pytest

from tests.unit.cluster import policies
from tests.unit.cluster.world import World, meshed, owned, unmeshed
from tests.unit.policy.judge import settings
from webhook.cluster.audit import Audited, Auditor, Report
from webhook.cluster.judge import Judge, restarting
from webhook.cluster.judge.outdated import CurrentProxies
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.cluster.namespaces.scope import target
from webhook.cluster.plaintext.acceptance import PlaintextPolicy, assess
from webhook.cluster.plaintext.policies import PolicyObjects
from webhook.policy import plaintext
from webhook.policy import settings as settings_of
from webhook.policy.settings import Settings

DEFAULTS = Settings()
HERE = "mendix"


def world(mesh: str, *, pods: int = 1) -> World:
    made = World()
    made.install()
    made.namespace(HERE, mesh)
    for number in range(pods):
        made.pod(HERE, f"shop-{number}", owned(meshed(mesh), "Deployment", "shop"))
    return made


def report(made: World, folder: Path, given: Settings = DEFAULTS) -> Report:
    with made.serving(folder) as server:
        inventory = Inventory(server.cluster)
        enrollment = Enrollment.read(server.cluster)
        chosen = [target(one, enrollment, "linkerd") for one in inventory.namespaces()]
        auditor = Auditor(inventory, Judge(given), CurrentProxies(server.cluster, given),
                          PolicyObjects(server.cluster, given))  # fmt: skip
        return auditor.audit(chosen)


def audited(made: World, folder: Path, given: Settings = DEFAULTS) -> Audited:
    return next(one for one in report(made, folder, given).namespaces if one.name == HERE)


def found(made: World, folder: Path, given: Settings = DEFAULTS) -> PlaintextPolicy:
    one = audited(made, folder, given).plaintext
    assert one is not None
    return one


def test_pods_that_are_older_than_their_closed_namespace_need_a_restart(tmp_path: Path) -> None:
    """As after `discover --enroll --strict`: Linkerd's policy reaches only new pods."""
    made = world("linkerd", pods=0)
    made.namespace(HERE, "linkerd", annotations={policies.POLICY: "all-authenticated"})
    old = meshed()
    del old["metadata"]["annotations"][policies.POLICY]
    made.pod(HERE, "shop-0", owned(old, "Deployment", "shop"))
    one = audited(made, tmp_path)
    assert one.plaintext
    gap = next(one for one in one.plaintext.gaps if one.pods)
    assert gap.fix == "restart the pods: mendix-mesh restart -n mendix"
    (finding,) = [
        finding for row in one.workloads for finding in row.findings
        if finding.check == "inbound-policy-outdated"
    ]  # fmt: skip
    assert finding.reason.endswith("(none; new pods: all-authenticated)")
    assert finding.fix.startswith("restart the workload: mendix-mesh restart -n mendix deployment/")
    assert one.fix == "mendix-mesh restart -n mendix"
    made.pod(HERE, "debug", old)
    plaintext = audited(made, tmp_path).plaintext
    assert plaintext
    assert {gap.fix for gap in plaintext.gaps if gap.pods} == {gap.fix, restarting.RECREATE}


@pytest.mark.parametrize("mesh", ["istio", "ambient"])
def test_istio_takes_plaintext_until_a_policy_says_strict(tmp_path: Path, mesh: str) -> None:
    made = world(mesh)
    before = found(made, tmp_path)
    assert (before.accepts, before.level) == ("yes", "warning")
    assert before.because == [
        "all ports of shop-0: no PeerAuthentication sets STRICT, and Istio's default is PERMISSIVE"
    ]
    policies.peer(made, "istio-system", "default", "STRICT")
    after = found(made, tmp_path)
    assert (after.accepts, after.level, after.gaps) == ("no", "", [])
    assert after.because == ["PeerAuthentication istio-system/default is STRICT"]


def test_the_root_namespace_is_the_mesh_s_own(tmp_path: Path) -> None:
    made = world("istio")
    policies.peer(made, "mesh-config", "default", "STRICT")
    assert found(made, tmp_path).accepts == "yes"
    made.config_map("istio-system", "istio", mesh="rootNamespace: mesh-config\n")
    assert found(made, tmp_path).accepts == "no"


def test_the_namespaces_own_policy_overrides_the_root(tmp_path: Path) -> None:
    made = world("istio")
    made.forbidden = ["/api/v1/namespaces/istio-system"]
    policies.peer(made, HERE, "default", "STRICT")
    assert found(made, tmp_path).accepts == "no"


def test_a_workload_s_own_policy_makes_it_partly(tmp_path: Path) -> None:
    made = world("istio", pods=5)
    policies.peer(made, HERE, "default", "STRICT")
    labels = made.objects[f"/api/v1/namespaces/{HERE}/pods/shop-0"]["metadata"]["labels"]
    selector = {"matchLabels": dict([next(iter(labels.items()))])}
    ports = {"8080": {"mode": "PERMISSIVE"}}
    policies.peer(made, HERE, "shop", "UNSET", selector=selector, portLevelMtls=ports)
    one = found(made, tmp_path)
    assert one.accepts == "partly"
    (gap,) = one.gaps
    assert (gap.ports, gap.pods, gap.examples) == ("port 8080", 5, ["shop-0", "shop-1", "shop-2"])
    assert one.because == ["port 8080 of shop-0, shop-1, shop-2 and 2 more: PeerAuthentication "
                           "mendix/shop is PERMISSIVE for port 8080"]  # fmt: skip


def test_a_pod_outside_the_mesh_takes_in_anything(tmp_path: Path) -> None:
    made = world("istio")
    policies.peer(made, HERE, "default", "STRICT")
    made.pod(HERE, "old", unmeshed("istio"))
    one = found(made, tmp_path)
    assert one.accepts == "partly"
    assert one.because == ["all ports of old: the pod is outside the mesh, so it accepts plaintext"]


@pytest.mark.parametrize(
    ("default", "accepts"), [("all-authenticated", "no"), ("all-unauthenticated", "yes")]
)
def test_linkerd_s_default_is_the_cluster_s(tmp_path: Path, default: str, accepts: str) -> None:
    made = world("linkerd", pods=0)
    policies.default_inbound(made, default)
    open_proxy = meshed()
    for container in open_proxy["spec"]["initContainers"]:
        for variable in container.get("env", ()):
            if variable["name"] == "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY":
                variable["value"] = "all-unauthenticated"
    open_proxy["metadata"]["annotations"].pop(policies.POLICY, None)
    made.pod(HERE, "shop", open_proxy)
    one = audited(made, tmp_path)
    assert one.plaintext
    assert one.plaintext.accepts == accepts
    # The check of pods reads only the policy with which the proxy started, and must agree.
    checks = {finding.check for row in one.workloads for finding in row.findings}
    assert ("accepts-plaintext" in checks) == (accepts == "yes")


def test_a_server_that_is_opened_is_found(tmp_path: Path) -> None:
    made = world("linkerd")
    policies.default_inbound(made, "all-authenticated")
    policies.linkerd(made, "servers", HERE, "http", podSelector={}, port=8080)
    assert found(made, tmp_path).accepts == "no"
    policies.linkerd(made, "authorizationpolicies", HERE, "all", requiredAuthenticationRefs=[],
                     targetRef={"kind": "Server", "name": "http"})  # fmt: skip
    one = found(made, tmp_path)
    assert one.accepts == "partly"
    assert [gap.ports for gap in one.gaps] == ["port 8080"]


def test_policies_of_another_namespace_do_not_count(tmp_path: Path) -> None:
    made = world("linkerd")
    policies.default_inbound(made, "all-authenticated")
    policies.linkerd(made, "servers", "other", "http", podSelector={}, port=8080,
                     accessPolicy="all-unauthenticated")  # fmt: skip
    assert found(made, tmp_path).accepts == "no"


def test_new_pods_count_too(tmp_path: Path) -> None:
    made = world("linkerd")
    made.objects[f"/api/v1/namespaces/{HERE}/pods/shop-0"]["metadata"]["annotations"][
        policies.POLICY
    ] = "all-authenticated"
    one = found(made, tmp_path)
    assert one.accepts == "partly"
    assert one.because[0].startswith("all ports of pods that are created now: ")
    closing = settings(linkerd={"inboundPolicy": "all-authenticated"})
    assert found(made, tmp_path, closing).accepts == "no"


@pytest.mark.parametrize(
    ("mesh", "below"),
    [("istio", "/apis/security.istio.io"), ("linkerd", "/apis/policy.linkerd.io"),
     ("istio", "/api/v1/namespaces/istio-system"), ("linkerd", "/api/v1/namespaces/linkerd")],
)  # fmt: skip
def test_what_must_not_be_read_leaves_it_unknown(tmp_path: Path, mesh: str, below: str) -> None:
    made = world(mesh)
    made.forbidden = [below]
    pod = made.objects[f"/api/v1/namespaces/{HERE}/pods/shop-0"]
    pod["metadata"]["annotations"].pop(policies.POLICY, None)
    one = found(made, tmp_path)
    assert (one.accepts, one.level) == ("unknown", "")
    assert one.because == one.unread
    assert below in one.because[0]


def test_someone_with_rights_in_the_namespaces_alone_is_answered(tmp_path: Path) -> None:
    made = world("istio")
    policies.peer(made, "istio-system", "default", "STRICT")
    made.forbidden = [f"{policies.ISTIO}/v1/peerauthentications"]
    assert found(made, tmp_path).accepts == "no"
    made.forbidden.append(f"{policies.ISTIO}/v1/namespaces/istio-system")
    assert found(made, tmp_path).accepts == "unknown"


def test_if_pods_cannot_be_read_a_closed_policy_proves_nothing(tmp_path: Path) -> None:
    made = world("istio")
    policies.peer(made, "istio-system", "default", "STRICT")
    made.forbidden = [f"/api/v1/namespaces/{HERE}/pods"]
    one = found(made, tmp_path)
    assert one.accepts == "unknown"
    assert "pods" in one.because[0]


def test_a_pod_that_cannot_be_decoded_is_not_passed_over(tmp_path: Path) -> None:
    made = world("istio")
    policies.peer(made, "istio-system", "default", "STRICT")
    made.pod(HERE, "odd", meshed("istio"))["spec"]["hostNetwork"] = "yes"
    assert found(made, tmp_path).accepts == "unknown"


def test_an_unreadable_policy_is_not_passed_over(tmp_path: Path) -> None:
    made = world("istio")
    policies.peer(made, HERE, "default", "STRICT", portLevelMtls=7)
    one = found(made, tmp_path)
    assert one.accepts == "unknown"
    assert "a PeerAuthentication can't be read" in one.because[0]


def test_rules_that_make_clients_speak_plaintext_are_distinguished(tmp_path: Path) -> None:
    made = world("istio")
    policies.peer(made, "istio-system", "default", "STRICT")
    policies.rule(made, HERE, "shop", "shop", "DISABLE")
    policies.rule(made, HERE, "db", "db.example.com", "SIMPLE")
    policies.rule(made, "other", "x", "x", "DISABLE")
    one = found(made, tmp_path)
    assert one.accepts == "no"
    assert one.downgrades
    assert [(rule.rule, rule.mode) for rule in one.downgrades] == [("mendix/shop", "DISABLE")]
    made.forbidden = ["/apis/networking.istio.io"]
    one = found(made, tmp_path)
    assert (one.accepts, one.downgrades) == ("no", None)
    assert "destinationrules" in one.unread[0]


def test_the_settings_say_what_it_counts_as(tmp_path: Path) -> None:
    made = world("istio")
    level = {"check": "plaintext-accepted", "level": "deny", "reason": "x"}
    demanded = settings_of.parse({"levels": [level]}, checks=plaintext.ids())
    assert found(made, tmp_path, demanded).level == "deny"
    assert not report(made, tmp_path, demanded).is_good
    assert report(made, tmp_path).is_good
    exemption = {"checks": ["plaintext-accepted"], "namespaces": [HERE], "reason": "x"}
    exempt = settings_of.parse(
        {"levels": [level], "exemptions": [exemption]}, checks=plaintext.ids()
    )
    assert found(made, tmp_path, exempt).level == "exempt"
    assert report(made, tmp_path, exempt).is_good


def test_every_kind_is_listed_once_however_many_namespaces_there_are(tmp_path: Path) -> None:
    made = world("istio")
    for number in range(20):
        made.namespace(f"more-{number}", "istio")
    with made.serving(tmp_path) as server:
        known = PolicyObjects(server.cluster, DEFAULTS)
        for number in range(20):
            assess(known, f"more-{number}", "istio", annotations={}, enrolled=True).finished()
        assert len(server.targets) == 3
