"""The fields of live objects that are read, and the workload of a pod."""

import datetime
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.cluster.apiserver import HttpRequest, Reply, serving, status
from webhook.cluster.kinds.inventory import BadPod, Inventory, LivePod, Namespace, Workload, decode

NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def pod(
    *owner: str, name: str = "shop-1", labels: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": "mendix", "labels": labels or {}}
    if owner:
        version, kind, of = owner
        reference = {"apiVersion": version, "kind": kind, "name": of, "controller": True}
        meta["ownerReferences"] = [reference]
    return {"metadata": meta, **more}


def live(obj: dict[str, Any]) -> LivePod:
    return decode(json.dumps(obj).encode())


def test_a_pod_is_read_for_policy_and_for_how_it_does() -> None:
    statuses = [{"name": "app", "ready": True, "restartCount": 3}]
    obj = pod(
        spec={"containers": [{"name": "app", "image": "a:1"}], "nodeName": "n"},
        status={"phase": "Running", "containerStatuses": statuses,
                "initContainerStatuses": [{"name": "linkerd-proxy", "ready": False,
                                           "started": True}],
                "conditions": [{"type": "Ready", "status": "True"}]},
    )  # fmt: skip
    obj["metadata"] |= {"uid": "u", "creationTimestamp": "2026-03-01T12:00:00Z"}
    read = live(obj)
    assert (read.kind, read.api_version, read.name, read.namespace) == (
        "Pod", "v1", "shop-1", "mendix",
    )  # fmt: skip
    assert read.spec
    assert [container.name for container in read.spec.containers or ()] == ["app"]
    assert (read.metadata.uid, read.metadata.creation_timestamp) == ("u", NOON)
    assert (read.is_ready, read.has_ended, read.is_leaving) == (True, False, False)
    proxy, app = read.container("linkerd-proxy"), read.container("app")
    assert proxy
    assert app
    assert (proxy.ready, proxy.started, app.ready) == (False, True, True)
    assert read.container("other") is None


@pytest.mark.parametrize(
    ("phase", "ended"),
    [("Pending", False), ("Running", False), ("Succeeded", True), ("Failed", True)],
)
def test_a_pod_has_ended_when_its_phase_says_so(phase: str, ended: bool) -> None:
    assert live(pod(status={"phase": phase})).has_ended is ended


def test_a_pod_that_cannot_be_decoded_is_reported_and_not_left_out(tmp_path: Path) -> None:
    bad = pod(name="odd", spec={"containers": "none"})
    with serving(lambda _: Reply(body={"items": [pod(), bad]}), tmp_path) as server:
        good, odd = Inventory(server.cluster).pods("mendix")
    assert isinstance(good, LivePod)
    assert isinstance(odd, BadPod)
    assert (odd.namespace, odd.name) == ("mendix", "odd")
    assert "$.spec.containers" in odd.why


HASH = {"pod-template-hash": "7fd5"}


@pytest.mark.parametrize(
    ("obj", "kind", "name"),
    [
        (pod(), "Pod", "shop-1"),
        (pod("apps/v1", "ReplicaSet", "shop-7fd5", labels=HASH), "Deployment", "shop"),
        (pod("apps/v1", "StatefulSet", "db"), "StatefulSet", "db"),
        (pod("batch/v1", "Job", "import"), "Job", "import"),
        (pod("privatecloud.mendix.com/v1alpha1", "Build", "shop-build"), "Build", "shop-build"),
    ],
)
def test_a_pods_workload_is_mostly_known_without_asking(
    tmp_path: Path, obj: dict[str, Any], kind: str, name: str
) -> None:
    with serving(lambda _: status(404, "NotFound", "no"), tmp_path) as server:
        found = Inventory(server.cluster).workload(live(obj))
    assert (found.kind, found.name, found.namespace) == (kind, name, "mendix")
    assert server.requests == []


def owned(request: HttpRequest) -> Reply:
    """A Job of a CronJob, a ReplicaSet of a Rollout, and a Job without an owner."""
    owners = {
        "/apis/batch/v1/namespaces/mendix/jobs/import-29543210": ("batch/v1", "CronJob", "import"),
        "/apis/apps/v1/namespaces/mendix/replicasets/web-1": ("argoproj.io/v1", "Rollout", "web"),
        "/apis/batch/v1/namespaces/mendix/jobs/report-20260301": (),
    }
    return Reply(body=pod(*owners[request.target]))


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (("batch/v1", "Job", "import-29543210"),
         Workload("mendix", "batch/v1", "CronJob", "import")),
        (("apps/v1", "ReplicaSet", "web-1"),
         Workload("mendix", "argoproj.io/v1", "Rollout", "web")),
        (("batch/v1", "Job", "report-20260301"),
         Workload("mendix", "batch/v1", "Job", "report-20260301")),
    ],
)  # fmt: skip
def test_an_owner_that_may_have_an_owner_is_read_once(
    tmp_path: Path, owner: tuple[str, ...], expected: Workload
) -> None:
    with serving(owned, tmp_path) as server:
        inventory = Inventory(server.cluster)
        assert [inventory.workload(live(pod(*owner))) for _ in range(3)] == [expected] * 3
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [403, 404])
def test_an_owner_that_is_gone_or_must_not_be_seen_ends_the_chain(
    tmp_path: Path, code: int
) -> None:
    with serving(lambda _: status(code, "", "no"), tmp_path) as server:
        found = Inventory(server.cluster).workload(live(pod("apps/v1", "ReplicaSet", "web-1")))
    assert (found.kind, found.name) == ("ReplicaSet", "web-1")


def test_namespaces_are_read_page_by_page(tmp_path: Path) -> None:
    items = [{"metadata": {"name": name, "labels": {"a": "b"}}} for name in ("x", "y")]
    with serving(lambda _: Reply(body={"items": items}), tmp_path) as server:
        found = list(Inventory(server.cluster).namespaces("a=b"))
    assert [one.name for one in found] == ["x", "y"]
    assert found[0].labels == {"kubernetes.io/metadata.name": "x", "a": "b"}
    assert "labelSelector=a%3Db" in server.targets[0]


def managed(manager: str, hour: int, *labels: str) -> dict[str, Any]:
    of_labels: dict[str, Any] = {".": {}, **{f"f:{label}": {} for label in labels}}
    fields = {"f:metadata": {"f:labels": of_labels}}
    return {"manager": manager, "time": f"2026-03-01T{hour:02}:00:00Z", "fieldsV1": fields}


def test_when_a_label_was_set_is_what_the_api_server_noted() -> None:
    fields = [managed("helm", 10, "team"), managed("kubectl-label", 12, "mesh"),
              {"manager": "status", "time": "2026-03-01T08:00:00Z"}]  # fmt: skip
    read = _namespace(managedFields=fields)
    assert read.labelled("mesh") == NOON
    assert read.labelled("other") is None
    assert _namespace().labelled("mesh") is None


def _namespace(**meta: Any) -> Namespace:
    return msgspec.json.decode(
        json.dumps({"metadata": {"name": "mendix", **meta}}).encode(), type=Namespace
    )
