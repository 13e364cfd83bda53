"""The texts of verdicts, as a user sees them in a terminal."""

from tests.fixtures.changes import Change, annotation, changed, drop, put
from tests.fixtures.meshes import linkerd
from tests.unit.policy.judge import Json, judge
from webhook.policy import messages
from webhook.policy.checks import Violation
from webhook.policy.validate import Verdict


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
        "can change the firewall rules that redirect traffic to the proxy, or the proxy itself "
        "(NET_ADMIN); "
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


def warning(subject: str = "pod shop", more: int = 0, **given: str) -> str:
    verdict = Verdict("warned", "linkerd", "warn", subject)
    return messages.warning(verdict, violation(**given), more=more)


START = "mendix-mesh (linkerd) pod shop: some-check"


def test_a_warning_names_product_mesh_and_pod() -> None:
    assert warning() == f"{START}: spec.x is wrong; fix it"
    assert warning("pod shop-7f-* (Mendix app leader)", 2) == (
        "mendix-mesh (linkerd) pod shop-7f-*: some-check: spec.x is wrong; fix it (+2 more)"
    )


def test_a_typo_is_not_said_to_leave_the_mesh() -> None:
    typo = judge(changed(linkerd.injected(), annotation("config.linkerd.io/injct", "x")))
    first = messages.denial(typo).splitlines()[0]
    assert first.endswith(" sets what its author is not allowed to set in the linkerd mesh:")


def test_a_long_warning_loses_the_reason_then_the_fix_then_the_field() -> None:
    long = "x" * 100
    explain = "mendix-mesh explain some-check"
    assert warning(reason=long) == f"{START}: spec.x: fix it"
    assert warning(reason=long, fix=long) == f"{START}: spec.x; {explain}"
    assert warning(field=long, reason="is bad") == f"{START}: is bad; fix it"
    assert warning(field=long, reason=long, fix="use TCP") == f"{START}: use TCP"
    assert warning(field=long, reason=long, fix=long) == f"{START}; {explain}"


def test_a_fix_does_not_stand_alone_if_it_says_it() -> None:
    field = f"metadata.annotations[{'f' * 40}]"
    fix = "remove it, or ask an admin for an exemption"
    assert warning(field=field, reason="x" * 100, fix=fix) == f"{START}: {field}"


def test_the_longest_warning_still_fits() -> None:
    text = warning("customresource " + "n" * 300, 12, fix="x" * 100)
    assert len(text) < 120
    assert text.endswith("…: some-check; mendix-mesh explain some-check (+12 more)")


def test_a_warning_is_one_line() -> None:
    assert warning(reason="a\n  b") == f"{START}: spec.x a b; fix it"


def test_a_denial_comes_without_warnings() -> None:
    assert messages.warnings(judge(named("shop", put("/spec/hostNetwork", True)))) == []


def test_warn_warns_of_violations_and_gives_one_line_of_advice() -> None:
    pod = named("shop", put("/spec/hostNetwork", True), put("/spec/serviceAccountName", "default"))
    first, second = messages.warnings(judge(pod, mode="warn"))
    assert first.startswith("mendix-mesh (linkerd) pod shop: host-network: ")
    assert second.startswith("mendix-mesh (linkerd) pod shop: shared-identity: ")
    pod["spec"]["containers"][0]["ports"] = [{"containerPort": 53, "protocol": "UDP"}]
    *_, last = messages.warnings(judge(pod, mode="warn"))
    assert last.endswith(" (+1 more)")


def test_authors_get_no_advice_that_only_an_admin_can_follow() -> None:
    pod = linkerd.injected(drop("/metadata/annotations/config.linkerd.io~1default-inbound-policy"))
    verdict = judge(pod)
    assert [v.check for v in verdict.violations] == ["accepts-plaintext"]
    assert messages.warnings(verdict) == []
