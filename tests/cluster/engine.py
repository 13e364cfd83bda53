"""The API server's own policies, for the tests' own namespaces, and webhooks without a server.

Other tests share the cluster, with an installed release and the injectors. So these namespaces have
a label of their own instead of the mesh's, and are hidden from Linkerd's injector.
"""

import contextlib
import secrets
from collections.abc import Iterator, Sequence

import pytest

from tests.chart import helm
from tests.cluster.api import Api, Json, StatusError
from tests.cluster.istio import HIDDEN
from tests.cluster.plane import ControlPlane

MESHES = ("linkerd", "istio", "ambient")
_LABEL = "tests.mendix-mesh.io/engine"
#: Since this version of Kubernetes, the API server has MutatingAdmissionPolicy.
OPTS_IN = (1, 36)
opts_in = pytest.mark.kubernetes(
    ".".join(map(str, OPTS_IN)), reason="MutatingAdmissionPolicy, which opts pods in"
)


@contextlib.contextmanager
def installed(
    plane: ControlPlane, kinds: Sequence[str], configuration: str, settings: Json
) -> Iterator[None]:
    """Install these kinds of policies in mode enforce, and the webhooks that they need."""
    values = {"engine": "policy", "policyDelaySeconds": 0, "settings": settings}
    rendered = helm.render(values)
    made = [_own(one) for kind in kinds for one in rendered.of_kind(kind) if _is_wanted(one)]
    # The tests wait for denials, so they come after advice: the API server looks for new policies
    # and bindings only once a second.
    made.sort(key=lambda one: (one["kind"], not one["metadata"]["name"].endswith("-advice")))
    webhooks = rendered.one(configuration)
    webhooks["webhooks"] = [
        {**one, "clientConfig": {"url": "https://127.0.0.1:9/"}, "timeoutSeconds": 10,
         "namespaceSelector": _selector(one["name"].split(".")[1])}
        for one in webhooks["webhooks"]
        if one["name"].startswith("special-pods.") and ".enforce." in one["name"]
    ]  # fmt: skip
    webhooks["metadata"] = {"name": f"00-special-{secrets.token_hex(3)}"}
    for one in (*made, webhooks):
        plane.api.create(one)
    try:
        yield
    finally:
        for one in (*made, webhooks):
            plane.api.delete(one["kind"], one["metadata"]["name"])


def namespace(plane: ControlPlane, mesh: str = "") -> str:
    """Create a namespace to which the policies of a mesh apply, or none. Return its name."""
    labels = {**HIDDEN, _LABEL: mesh} if mesh else HIDDEN
    return plane.new_namespace("engine", labels=labels)


def needs_server(api: Api, new: Json) -> bool | StatusError:
    """Try to create a pod. Return whether it is sent to the webhook, or another error."""
    try:
        api.create(new, dry_run=True)
    except StatusError as error:
        if "failed calling webhook" in error.message and "connection refused" in error.message:
            return True
        return error
    return False


def _is_wanted(one: Json) -> bool:
    """Return whether an object is not a binding of another mode."""
    return not one["metadata"]["name"].removesuffix("-advice").endswith(("-warn", "-audit"))


def _own(one: Json) -> Json:
    """Return a policy or a binding with a name of its own, for the tests' namespaces."""
    made = {**one, "metadata": {"name": f"tests-{one['metadata']['name']}"}}
    if "policyName" in one["spec"]:
        policy = one["spec"]["policyName"]
        mesh = policy.removeprefix("mendix-mesh-").removesuffix("-advice")
        matched = {**one["spec"]["matchResources"], "namespaceSelector": _selector(mesh)}
        made["spec"] = {
            **one["spec"], "policyName": f"tests-{policy}", "matchResources": matched
        }  # fmt: skip
    return made


def _selector(mesh: str) -> Json:
    return {"matchLabels": {_LABEL: mesh}}
