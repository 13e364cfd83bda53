"""The fix, as a command."""

import shlex

import pytest

from webhook.cluster.dashboard.fixes import Subject, command
from webhook.cluster.judge import Origin


def subject(kind: str = "Deployment", role: str = "", name: str = "shop") -> Subject:
    return Subject("mendix", "linkerd", kind, name, role, "shop-1")


@pytest.mark.parametrize(
    ("check", "level", "origin", "typed"),
    [
        ("proxy-missing", "deny", "before-enrollment", "mendix-mesh restart -n mendix"),
        ("proxy-missing", "deny", "escaped", "mendix-mesh doctor -n mendix"),
        ("proxy-outdated", "warning", "", "mendix-mesh restart -n mendix --outdated"),
        ("inbound-policy-outdated", "warning", "", "mendix-mesh restart -n mendix"),
        ("proxy-not-ready", "warning", "", "kubectl -n mendix logs shop-1 -c linkerd-proxy"),
        ("host-network", "deny", "admitted", "kubectl -n mendix edit deployment/shop"),
        ("host-network", "exempt", "", ""),
    ],
)
def test_a_finding_has_the_command_that_fixes_it(
    check: str, level: str, origin: Origin, typed: str
) -> None:
    assert command(subject(), check, level, origin) == typed


def test_if_nothing_is_enrolled_a_restart_is_not_advised() -> None:
    assert command(subject()._replace(is_enrolled=False), "proxy-outdated", "warning", "") == ""


def test_what_the_operator_owns_is_fixed_where_the_operator_reads() -> None:
    typed = command(subject(role="app leader"), "host-network", "deny", "")
    assert typed == "kubectl -n mendix edit mendixapps.privatecloud.mendix.com"


def test_a_bare_pod_is_shown_for_it_cannot_be_edited() -> None:
    typed = command(subject("Pod", name="x"), "host-network", "deny", "")
    assert typed == "kubectl -n mendix get pod x -o yaml"


def test_an_unknown_kind_has_no_completions() -> None:
    assert command(subject("Rollout; rm"), "host-network", "deny", "") == ""


@pytest.mark.parametrize("name", ["x; rm -rf ~", "$(id)", "a'b", "a\nb", "-n"])
def test_a_hostile_name_stays_one_word_of_the_shell(name: str) -> None:
    for kind in ("Pod", "Deployment"):
        typed = command(subject(kind, name=name), "host-network", "deny", "")
        words = shlex.split(typed)
        assert words[:3] == ["kubectl", "-n", "mendix"]
        assert sum(name in word for word in words) >= 1
        assert len(words) == (8 if kind == "Pod" else 5)
