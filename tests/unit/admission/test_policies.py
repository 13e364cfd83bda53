"""Reviews of the meshes' policy objects, on the wire."""

from typing import Any

import pytest

from tests.unit.admission.reviews import Json, review
from tests.unit.serving.clients import Client, FlaskClient
from webhook.admission.app import create_app
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy import plaintext
from webhook.policy.plaintext.review import KINDS
from webhook.policy.settings import parse
from webhook.serving.health import Health

LEVELS = [{"check": check, "level": "deny", "reason": "x"} for check in plaintext.CHECKS]


@pytest.fixture(scope="module")
def strict() -> FlaskClient:
    """A server whose settings require that no object accepts plaintext."""
    settings = parse({"levels": LEVELS}, checks=plaintext.ids())
    return FlaskClient(create_app(Reviewer(settings, Metrics("test")), Health()))


def peer(mode: Any, name: str = "all") -> Json:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": name, "namespace": "mendix"},
        "spec": {"mtls": {"mode": mode}},
    }


@pytest.mark.parametrize("mesh", ["istio", "ambient"])
def test_what_accepts_plaintext_is_denied(strict: FlaskClient, mesh: str) -> None:
    answer = strict.review(f"/validate/{mesh}/enforce", review(peer("PERMISSIVE")))
    assert not answer["allowed"]
    (cause,) = answer["status"]["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("plaintext-accepted", "spec.mtls.mode")
    assert strict.review(f"/validate/{mesh}/enforce", review(peer("STRICT")))["allowed"]


def test_an_update_is_held_against_what_was(strict: FlaskClient) -> None:
    def is_admitted(now: str, before: str) -> bool:
        update = review(peer(now), old=peer(before), operation="UPDATE")
        return bool(strict.review("/validate/istio/enforce", update)["allowed"])

    assert is_admitted("PERMISSIVE", "PERMISSIVE")
    assert not is_admitted("UNSET", "STRICT")


@pytest.mark.parametrize(
    "is_admitted",
    [
        review(peer("PERMISSIVE"), subresource="status"),
        review(None, old=peer("STRICT"), operation="DELETE", kind="PeerAuthentication"),
    ],
    ids=["status", "deletion"],
)
def test_what_changes_no_policy_is_admitted(strict: FlaskClient, is_admitted: Json) -> None:
    assert strict.review("/validate/istio/enforce", is_admitted)["allowed"]


def test_by_default_it_is_a_warning(client: Client) -> None:
    answer = client.review("/validate/istio/enforce", review(peer("PERMISSIVE")))
    assert answer["allowed"]
    assert ": plaintext-accepted" in answer["warnings"][0]


def test_a_kind_of_another_mesh_is_ignored(strict: FlaskClient) -> None:
    answer = strict.review("/validate/linkerd/enforce", review(peer("PERMISSIVE")))
    assert answer == {"uid": answer["uid"], "allowed": True}
    assert "PeerAuthentication" not in KINDS["linkerd"]


def test_what_cannot_be_read_is_denied_in_enforce_alone(strict: FlaskClient) -> None:
    broken = review(peer({"a": 1}))
    assert not strict.review("/validate/istio/enforce", broken)["allowed"]
    assert strict.review("/validate/istio/warn", broken)["allowed"]


def test_a_namespace_is_judged_by_its_own_name(strict: FlaskClient) -> None:
    annotations = {"config.linkerd.io/default-inbound-policy": "audit"}
    obj = {"apiVersion": "v1", "kind": "Namespace",
           "metadata": {"name": "mendix", "annotations": annotations}}  # fmt: skip
    answer = strict.review("/validate/linkerd/enforce", review(obj, namespace=""))
    assert answer["status"]["message"].startswith("Namespace mendix would weaken mutual TLS:")
