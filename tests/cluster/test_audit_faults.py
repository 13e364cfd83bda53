"""Failures that only a real API server shows. Unit tests of `api.connection` have the others."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.cluster import command
from tests.cluster.mesh import MeshCluster
from tests.cluster.plane import ControlPlane
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests
from webhook.cluster.api.connection import Answer, Cluster
from webhook.cluster.api.connection import path as api_path
from webhook.cluster.api.errors import StatusError

PLANS = [f"plan-{number}" for number in range(7)]


def test_an_api_server_that_is_not_to_be_trusted_is_reported(mesh_cluster: MeshCluster) -> None:
    plane, url = mesh_cluster.plane, mesh_cluster.injector.url.rstrip("/")
    # Linkerd's injector: another server, with another CA's certificate.
    stranger = command.as_account(plane, server=url, ca=plane.ca)
    (line,) = stranger("audit", codes=[2]).err.splitlines()
    assert line.startswith(f"Error: can't trust {url}: ")
    assert "certificate" in line


def test_a_list_that_expires_while_it_is_read_loses_and_doubles_nothing(
    mesh_cluster: MeshCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lose the list's state between two pages: the API server's own 410 Gone.

    The API server remembers its state for minutes. So the token is replaced by one from before this
    kind was defined, and etcd is compacted.
    """
    plane = mesh_cluster.plane
    mendix.install_crds(plane.api)
    where = plane.new_namespace("mendix")
    for name in PLANS:
        plane.api.create(manifests.custom_resource("StoragePlan", name, where, {}))
    cluster = Cluster.connect(str(plane.kubeconfig))
    call, gone = cluster.call, list[int]()

    def late(*place: str, query: Mapping[str, str], **more: Any) -> Answer:
        if query["continue"] and not gone:
            forget(plane)
            query = {**query, "continue": aged(query["continue"])}
        try:
            return call(*place, query=query, **more)
        except StatusError as error:
            gone.append(error.code)
            raise

    monkeypatch.setattr(cluster, "call", late)
    found = [
        json.loads(bytes(raw))["metadata"]["name"]
        for page in cluster.pages(
            api_path(manifests.VERSION, "storageplans", where), partial=True, size=3
        )
        for raw in page.items
    ]
    assert found == PLANS
    assert gone == [httpx.codes.GONE]


def aged(token: str) -> str:
    """Return a list's token as if it were of long ago."""
    decoded = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    old = json.dumps({**decoded, "rv": 1}).encode()
    return base64.urlsafe_b64encode(old).decode().rstrip("=")


def forget(plane: ControlPlane) -> None:
    """Write an object and compact etcd up to this write."""
    plane.new_namespace("forget")
    with httpx.Client(base_url=plane.etcd, trust_env=False) as etcd:
        key = base64.b64encode(b"x").decode()
        header = etcd.post("/v3/kv/range", json={"key": key}).json()["header"]
        compacted = {"revision": int(header["revision"]), "physical": True}
        etcd.post("/v3/kv/compaction", json=compacted).raise_for_status()
