"""The API server's own policies opt pods in as the mutating webhook does.

The webhook has no server here, so a pod that it must see is denied.
"""

import copy
from collections import Counter
from collections.abc import Iterator

import jsonpatch
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as configure

from tests.cluster import engine
from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.engine import MESHES
from tests.cluster.plane import ControlPlane
from tests.cluster.test_engine import PODS
from tests.cluster.workloads import pod
from tests.fuzz import edits
from tests.unit.policy.judge import whole_patch
from webhook.policy.mesh import ALLOWED, RECORD

pytestmark = engine.opts_in

KINDS = ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")


@pytest.fixture(scope="module")
def places(plane: ControlPlane) -> Iterator[dict[str, str]]:
    """An enforced namespace of each mesh; in `plain` nothing happens."""
    with engine.installed(plane, KINDS, "MutatingWebhookConfiguration", {}):
        made = {mesh: engine.namespace(plane, mesh) for mesh in MESHES}
        for mesh in MESHES:
            wait_for(
                lambda where=made[mesh]: in_force(plane.api, where),  # type: ignore[misc]
                why=f"the policies of {mesh} to be in force",
            )
        yield {**made, "plain": engine.namespace(plane)}


def in_force(api: Api, where: str) -> bool:
    """Return whether the policies, and the webhook's condition, are in force."""
    special = pod(where)
    special["metadata"]["annotations"] = {
        "proxy.istio.io/config": "{}", "config.linkerd.io/proxy-additional-env": "[]"
    }  # fmt: skip
    got = sent(api, pod(where))
    keys = (
        {**got["metadata"].get("labels", {}), **got["metadata"].get("annotations", {})}
        if got
        else {}
    )
    return sent(api, special) is None and any(
        "linkerd.io" in key or "istio.io" in key for key in keys
    )


def sent(api: Api, new: Json) -> Json | None:
    """Return the pod as it would be stored; None if the webhook must see it."""
    try:
        return api.create(new, dry_run=True)
    except StatusError as error:
        if "failed calling webhook" in error.message and "connection refused" in error.message:
            return None
        raise


@pytest.mark.parametrize("mesh", MESHES)
def test_random_pods_get_the_webhook_s_opt_in_or_are_sent_to_it(
    plane: ControlPlane, places: dict[str, str], mesh: str
) -> None:
    pods: list[Json] = []

    @configure(max_examples=PODS, phases=[Phase.generate], database=None, deadline=None,
               derandomize=True, suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(edits.submitted(mesh))
    def collect(document: Json) -> None:
        pods.append(document)

    collect()
    counts: Counter[str] = Counter()
    for document in pods:
        new = copy.deepcopy(document)
        new["spec"].pop("serviceAccountName", None)
        new["metadata"]["namespace"] = places["plain"]
        try:
            stored = plane.api.create(new, dry_run=True)
        except StatusError:
            counts["invalid"] += 1
            continue
        new["metadata"]["namespace"] = places[mesh]
        got = sent(plane.api, new)
        counts["special" if got is None else "ordinary"] += 1
        if got is None:
            continue
        wanted = jsonpatch.apply_patch(stored, whole_patch(stored, by=mesh))
        for place in ("labels", "annotations"):
            expected = wanted["metadata"].get(place, {})
            assert got["metadata"].get(place, {}) == expected, document
    print(mesh, counts)
    assert counts["ordinary"] > counts["special"]


@pytest.mark.parametrize("mesh", MESHES)
def test_a_record_that_the_author_set_is_replaced(
    plane: ControlPlane, places: dict[str, str], mesh: str
) -> None:
    got = sent(plane.api, pod(places[mesh], annotations={RECORD: "proxy-brought spec.x, more"}))
    assert got is not None
    assert got["metadata"]["annotations"][RECORD] == ALLOWED


@pytest.mark.parametrize("mesh", MESHES)
def test_a_record_does_not_hide_what_the_author_set(
    plane: ControlPlane, places: dict[str, str], mesh: str
) -> None:
    special = {"proxy.istio.io/config": "{}", "config.linkerd.io/proxy-image": "evil.io/proxy"}
    assert sent(plane.api, pod(places[mesh], annotations={RECORD: ALLOWED, **special})) is None


OWNER = {"apiVersion": "v1", "kind": "Shop", "name": "x", "uid": "1"}


@pytest.mark.parametrize("key", ["apiVersion", "kind", "name"])
@pytest.mark.parametrize("mesh", MESHES)
def test_a_pod_whose_owner_an_injector_could_misread_is_sent_to_the_webhook(
    plane: ControlPlane, places: dict[str, str], mesh: str, key: str
) -> None:
    new = pod(places[mesh])
    new["metadata"]["ownerReferences"] = [{**OWNER, key: 'x" y'}]
    assert sent(plane.api, new) is None
    new["metadata"]["ownerReferences"] = [OWNER]
    assert sent(plane.api, new) is not None


@pytest.mark.parametrize("mesh", MESHES)
def test_a_pod_with_a_name_that_is_not_validated_yet_is_sent_to_the_webhook(
    plane: ControlPlane, places: dict[str, str], mesh: str
) -> None:
    """Without the webhook, the API server would say which name is invalid."""
    for place, key in (("metadata", "name"), ("container", "name"), ("container", "image")):
        new = pod(places[mesh])
        (new["metadata"] if place == "metadata" else new["spec"]["containers"][0])[key] = 'x" y'
        assert sent(plane.api, new) is None, (place, key)
    assert sent(plane.api, pod(places[mesh], labels={"version": 'x" y'})) is None
