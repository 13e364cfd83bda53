"""The texts of verdicts, as a user sees them in a terminal."""

from tests.fixtures.changes import Change, annotation, changed, drop, put
from tests.fixtures.meshes import linkerd
from tests.unit.policy.judge import Json, judge
from webhook.policy import messages
from webhook.policy.checks import Violation


def named(name: str, *changes: Change) -> Json:
    pod = changed(linkerd.app(), put("/metadata/name", name), *changes)
    del pod["metadata"]["labels"]
    return pod


def violation(field: str = "spec.x", reason: str = "is wrong", fix: str = "fix it") -> Violation:
    return Violation("some-check", field, reason, fix, "deny")


def test_a_denial_has_the_object_the_field_the_reason_and_the_fix() -> None:
    verdict = judge(named("shop-debug", put("/spec/hostNetwork", True)))
    assert messages.denial(verdict) == (
        "pod shop-debug would run outside the linkerd mesh:\n"
        "  host-network  spec.hostNetwork  uses the node's network, where no mesh can capture "
        "traffic; "
        "author: remove hostNetwork: true"
    )


def test_a_denial_names_everything_at_once_and_aligned() -> None:
    pod = named(
        "shop-debug",
        put("/spec/hostNetwork", True),
        annotation("linkerd.io/inject", "disabled"),
        put("/spec/containers/0/securityContext/capabilities", {"add": ["NET_ADMIN", "CHOWN"]}),
    )
    assert messages.denial(judge(pod)).splitlines() == [
        "pod shop-debug would run outside the linkerd mesh:",
        "  capture-capability  spec.containers[mendix].securityContext.capabilities.add  "
        "can change the firewall rules that redirect traffic to the proxy (NET_ADMIN); "
        "author: remove it; an application needs no network administration",
        "  host-network        spec.hostNetwork                                          "
        "uses the node's network, where no mesh can capture traffic; author: remove hostNetwork: "
        "true",
        "  opted-out           metadata.annotations[linkerd.io/inject]                   "
        "opts the pod out of the mesh (disabled); author: remove it, or ask an admin for an "
        "exemption",
    ]


def test_a_pod_without_a_proxy_gets_the_places_to_look_at() -> None:
    assert messages.denial(judge(named("shop"))).splitlines()[1] == (
        "  proxy-missing  spec.initContainers  has no linkerd-proxy container; "
        "admin: check that the injector runs and the namespace does not disable it, then try again"
    )


def test_a_namespace_of_no_mesh_gets_the_fix_to_name_one() -> None:
    assert messages.denial(judge(named("shop"), by="unknown")) == (
        "pod shop would run outside any mesh:\n"
        "  unknown-mesh  metadata.namespace  is in a namespace whose label mendix-mesh.io/mesh "
        "has an unknown value; namespace's owner: set the label to linkerd, istio or ambient"
    )


def test_a_long_denial_is_cut_by_whole_violations() -> None:
    ports = [{"name": f"c{n}", "image": "x", "securityContext": {"privileged": True}}
             for n in range(30)]  # fmt: skip
    lines = messages.denial(judge(named("shop", put("/spec/containers", ports)))).splitlines()
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "  and more violations"


def test_values_of_an_author_stay_on_their_line_and_short() -> None:
    evil = "x\n  all is well\x1b[0m" + "y" * 1000
    subnets = ["--subnets-to-ignore", ",".join([evil, *(f"10.0.{n}.0/24" for n in range(200))])]
    pod = linkerd.injected()
    pod["spec"]["initContainers"][0]["args"] += subnets
    lines = messages.denial(judge(pod)).splitlines()[1:]
    assert all("x?  all is well?[0m" in line for line in lines)
    assert any("and 193 more" in line for line in lines)
    assert all(len(line) < 500 for line in lines)


def test_a_warning_is_whole_if_it_fits() -> None:
    assert messages.warning(violation()) == "some-check: spec.x is wrong; fix it"


def test_in_a_warning_the_reason_gives_way_first() -> None:
    assert messages.warning(violation(reason="r" * 100)) == "some-check: spec.x: fix it"


def test_in_a_warning_the_field_gives_way_next() -> None:
    text = messages.warning(violation(field="f" * 100, reason="is bad"))
    assert text == "some-check: is bad; fix it"
    long = messages.warning(violation(field="f" * 100, reason="r" * 100))
    assert long == "some-check: fix it"


def test_a_warning_that_fits_in_no_way_is_cut() -> None:
    text = messages.warning(violation(fix="x" * 200))
    assert len(text) == 119
    assert text.endswith("x…")


def test_a_warning_is_one_line() -> None:
    assert messages.warning(violation(reason="a\n  b")) == "some-check: spec.x a b; fix it"


def test_a_denial_comes_without_warnings() -> None:
    assert messages.warnings(judge(named("shop", put("/spec/hostNetwork", True)))) == []


def test_warn_warns_of_everything_and_audit_of_advice_alone() -> None:
    pod = named("shop", put("/spec/hostNetwork", True), put("/spec/serviceAccountName", "default"))
    warned = messages.warnings(judge(pod, mode="warn"))
    assert [text.partition(":")[0] for text in warned] == ["host-network", "shared-identity"]
    audited = messages.warnings(judge(pod, mode="audit"))
    assert [text.partition(":")[0] for text in audited] == ["shared-identity"]


def test_an_open_inbound_policy_is_reported_with_the_setting_that_closes_it() -> None:
    pod = linkerd.injected(drop("/metadata/annotations/config.linkerd.io~1default-inbound-policy"))
    assert messages.warnings(judge(pod)) == [
        "accepts-plaintext: admin: set settings.linkerd.inboundPolicy to all-authenticated"
    ]
