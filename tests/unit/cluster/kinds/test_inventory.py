"""The fields of live objects that are read, and the workload of a pod."""

import datetime
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.cluster.apiserver import HttpRequest, Reply, serving, status
from webhook.cluster.kinds.inventory import Inventory, LivePod, Namespace, Workload, decode

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


@pytest.mark.parametrize(
    ("phase", "ended"),
    [("Pending", False), ("Running", False), ("Succeeded", True), ("Failed", True)],
)
def test_a_pod_has_ended_when_its_phase_says_so(phase: str, ended: bool) -> None:
    assert live(pod(status={"phase": phase})).has_ended is ended


HASH = {"pod-template-hash": "7fd5"}


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


def managed(manager: str, hour: int, *labels: str) -> dict[str, Any]:
    of_labels: dict[str, Any] = {".": {}, **{f"f:{label}": {} for label in labels}}
    fields = {"f:metadata": {"f:labels": of_labels}}
    return {"manager": manager, "time": f"2026-03-01T{hour:02}:00:00Z", "fieldsV1": fields}


def _namespace(**meta: Any) -> Namespace:
    return msgspec.json.decode(
        json.dumps({"metadata": {"name": "mendix", **meta}}).encode(), type=Namespace
    )
