"""Rights of a container, in all spellings: capture-capability, root-capable, proxy-uid."""

from typing import Any

import pytest

from tests.fixtures.changes import APP, drop, put
from tests.fixtures.meshes.linkerd import injected
from tests.unit.policy.judge import broken, judge

CONTEXT = APP + "/securityContext"


def found(level: str, **context: Any) -> list[str]:
    return broken(judge(injected(put(CONTEXT, context))), level)


@pytest.mark.parametrize("name", ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "Cap_Net_Raw", "all",
                                  "CAP_ALL", "SYS_ADMIN", "CAP_SYS_MODULE"])  # fmt: skip
def test_network_capabilities_are_denied_in_any_spelling(name: str) -> None:
    listed = {"add": ["CHOWN", name]}
    assert found("deny", runAsUser=1000, capabilities=listed) == ["capture-capability"]


@pytest.mark.parametrize(
    ("pod", "container", "capable"),
    [
        (None, None, True),
        (None, {"runAsUser": 0}, True),
        (None, {"runAsUser": 1}, False),
        (None, {"runAsNonRoot": True}, False),
        (None, {"runAsNonRoot": False}, True),
        ({"runAsUser": 1}, None, False),
        ({"runAsUser": 0}, None, True),
        ({"runAsUser": 0}, {"runAsUser": 1}, False),
        ({"runAsUser": 1}, {"runAsUser": 0}, True),
        ({"runAsNonRoot": True}, None, False),
        ({"runAsNonRoot": True}, {"runAsNonRoot": False}, True),
        ({"runAsNonRoot": True}, {"runAsUser": 0}, True),
        (None, {"capabilities": {"drop": ["ALL"]}}, False),
        (None, {"capabilities": {"drop": ["all"]}}, False),
        (None, {"capabilities": {"drop": ["SETUID"]}}, True),
        (None, {"capabilities": {"drop": ["NET_RAW"]}}, True),
        (None, {"capabilities": {"drop": ["CAP_SETUID", "net_raw"]}}, False),
        (None, {"capabilities": {"drop": ["ALL"], "add": ["SETUID"]}}, True),
        (None, {"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}, False),
    ],
)
def test_root_is_distinguished_from_others_by_pod_and_container(
    pod: dict[str, Any] | None, container: dict[str, Any] | None, capable: bool
) -> None:
    changes = [drop(CONTEXT)]
    if pod:
        changes.append(put("/spec/securityContext", pod))
    if container:
        changes.append(put(CONTEXT, container))
    verdict = judge(injected(*changes))
    assert broken(verdict, "warning") == (["root-capable"] if capable else [])


@pytest.mark.parametrize("kind", ["containers", "initContainers", "ephemeralContainers"])
def test_only_the_proxy_runs_as_its_user(kind: str) -> None:
    container = {"name": "extra", "image": "x", "securityContext": {"runAsUser": 2102}}
    pod = injected()
    pod["spec"].setdefault(kind, []).append(container)
    assert broken(judge(pod)) == ["proxy-uid"]


def test_a_container_that_takes_the_pod_s_user_is_named() -> None:
    pod = injected(put("/spec/securityContext", {"runAsUser": 2102}), drop(CONTEXT))
    (violation,) = judge(pod).violations
    assert violation.field == "spec.securityContext.runAsUser"
    assert violation.reason == "makes container mendix run as the proxy's user or group (2102)"
