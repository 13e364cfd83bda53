"""How and since when namespaces are enrolled. tests/chart/ compares this with the chart."""

import datetime
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.cluster.apiserver import Reply, serving, status
from webhook.cluster.api.errors import ClusterError
from webhook.cluster.kinds.inventory import Namespace
from webhook.cluster.namespaces.enrollment import ENROLLED_AT, Enrollment
from webhook.policy.labels import MESH_LABEL, MODE_LABEL

INSTALLED = "2026-02-01T00:00:00Z"


def configuration() -> dict[str, Any]:
    """One entry, for namespaces with the mesh label or with the name `named`."""
    by_label = [{"key": MESH_LABEL, "operator": "In", "values": ["linkerd"]}]
    by_name = [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["named"]}]
    webhooks = [
        {
            "name": "x",
            "clientConfig": {"service": {"path": "/validate/linkerd/warn/ingress"}},
            "namespaceSelector": {"matchExpressions": where},
        }
        for where in (by_label, by_name)
    ]
    other = {"name": "y", "clientConfig": {"url": "https://example.com/other"}}
    return {
        "metadata": {"uid": "u1", "creationTimestamp": INSTALLED},
        "webhooks": [other, *webhooks],
    }


def namespace(name: str = "mendix", **meta: Any) -> Namespace:
    meta = {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z", **meta}
    return msgspec.json.decode(json.dumps({"metadata": meta}).encode(), type=Namespace)


def read(tmp_path: Path, reply: Reply) -> Enrollment:
    with serving(lambda _: reply, tmp_path) as server:
        return Enrollment.read(server.cluster)


def test_the_webhooks_path_says_mesh_mode_and_ingress(tmp_path: Path) -> None:
    enrollment = read(tmp_path, Reply(body=configuration()))
    found = enrollment.of(namespace(labels={MESH_LABEL: "linkerd", MODE_LABEL: "nonsense"}))
    assert found
    assert found[:3] == ("linkerd", "warn", True)
    assert enrollment.of(namespace()) is None
    assert (enrollment.uid, enrollment.notes) == ("u1", [])


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (status(404, "NotFound", "no"), "mendix-mesh has no webhook configuration in this cluster"),
        (status(403, "Forbidden", "you may not"), "you may not"),
    ],
)
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, None),
        ({MESH_LABEL: "istio"}, ("istio", "enforce", False)),
        ({MESH_LABEL: "ambient", MODE_LABEL: "audit"}, ("ambient", "audit", False)),
        ({MESH_LABEL: "linkred", MODE_LABEL: "wran"}, ("unknown", "enforce", False)),
    ],
)
def test_without_the_configuration_the_labels_count(
    tmp_path: Path, reply: Reply, why: str, labels: dict[str, str], expected: object
) -> None:
    enrollment = read(tmp_path, reply)
    found = enrollment.of(namespace(labels=labels))
    if found and reply.status == 404:
        # Nothing applies the mode.
        found = found._replace(mode=expected[1]) if not found.mode else None  # type: ignore[index]
    assert (found and found[:3]) == expected
    assert enrollment.is_installed == (reply.status == 403)
    assert enrollment.notes == [f"enrollment is read only from namespace labels: {why}"]


@pytest.mark.parametrize("body", [b"{}", b'{"metadata": {}, "webhooks": []}', b"nonsense"])
def test_a_configuration_that_is_not_ours_is_an_error(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(ClusterError, match="can't be decoded"):
        read(tmp_path, Reply(body=body))


MANAGED = [
    {
        "time": "2026-01-05T00:00:00Z",
        "fieldsV1": {"f:metadata": {"f:labels": {f"f:{MESH_LABEL}": {}}}},
    }
]


@pytest.mark.parametrize(
    ("name", "meta", "since"),
    [
        ("mendix", {"annotations": {ENROLLED_AT: "2026-01-03T00:00:00Z"}, "managedFields": MANAGED},
         "2026-01-03T00:00:00Z"),
        ("mendix", {"annotations": {ENROLLED_AT: "yesterday"}, "managedFields": MANAGED},
         "2026-01-05T00:00:00Z"),
        ("mendix", {"annotations": {ENROLLED_AT: "2026-01-03"}}, None),
        ("mendix", {"annotations": {ENROLLED_AT: "2025-01-01T00:00:00Z"}}, "2026-01-01T00:00:00Z"),
        ("named", {"labels": {}, "managedFields": MANAGED}, INSTALLED),
    ],
    ids=["by our annotation", "by the label's manager", "not known", "not before it was created",
         "by name since the installation"],
)  # fmt: skip
def test_since_when_a_namespace_is_enrolled(
    tmp_path: Path, name: str, meta: dict[str, Any], since: str | None
) -> None:
    enrollment = read(tmp_path, Reply(body=configuration()))
    found = enrollment.of(namespace(name, **{"labels": {MESH_LABEL: "linkerd"}, **meta}))
    assert found
    assert found.since == (since and datetime.datetime.fromisoformat(since))
