"""The API server's own policies decide as policy does, with no server of ours behind them.

A special pod is sent to the webhook. Here nothing answers, so it is denied as one that needs an
answer. All other pods are ordinary, and their verdict and its checks must be policy's.
"""

import copy
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as configure

from tests.chart import helm
from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import pod
from tests.fixtures.generate import fixtures
from tests.fuzz import edits
from webhook.policy import meshes, messages
from webhook.policy.mesh import ALLOWED, RECORD
from webhook.policy.pod.objects import convert
from webhook.policy.pod.request import Request
from webhook.policy.settings import Settings
from webhook.policy.validate import Verdict, validate

VALUES: Json = {"engine": "policy", "policyDelaySeconds": 0}
PODS = int(os.environ.get("MENDIX_MESH_PODS", "300"))
MESHES = ("linkerd", "istio", "ambient")
KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


#: What the API server puts before a policy's warning.
_ADVICE = re.compile(
    r"Validation failed for ValidatingAdmissionPolicy 'mendix-mesh-\w+-advice' with binding '.*?': "
)


class Answer(NamedTuple):
    """What became of a new pod: `special`, `denied` or `admitted`, with what was said."""

    outcome: str
    said: str


@pytest.fixture(scope="module")
def engine(plane: ControlPlane) -> Iterator[ControlPlane]:
    """The policies, and the webhook with no server."""
    rendered = helm.render(VALUES)
    configuration = rendered.one("ValidatingWebhookConfiguration")
    kept = [one for one in configuration["webhooks"] if "special-pod" in str(one)]
    for one in kept:
        one["clientConfig"] = {"url": "https://127.0.0.1:9/"}
        one["rules"] = [rule for rule in one["rules"] if rule["resources"] == ["pods"]]
        one["timeoutSeconds"] = 1
    configuration["webhooks"] = kept
    configuration["metadata"] = {"name": f"special-{secrets.token_hex(3)}"}
    made = [*(one for kind in KINDS for one in rendered.of_kind(kind)), configuration]
    for one in made:
        plane.api.create(one)
    yield plane
    for one in made:
        plane.api.delete(one["kind"], one["metadata"]["name"])


@pytest.fixture(scope="module")
def places(engine: ControlPlane) -> dict[str, str]:
    """An enforced namespace of each mesh. `plain` is outside."""
    made = {"plain": engine.new_namespace("engine")}
    for mesh in MESHES:
        made[mesh] = engine.new_namespace("engine", labels={"mendix-mesh.io/mesh": mesh})
    for where in made.values():
        metadata = {"name": "shop", "namespace": where}
        engine.api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    for mesh in MESHES:
        new = pod(made[mesh], "probe", hostNetwork=True)
        new["metadata"].setdefault("annotations", {})[RECORD] = ALLOWED
        wait_for(
            lambda new=new: answer(engine.api, new).outcome == "denied",  # type: ignore[misc]
            why=f"the policies of {mesh} to be in force",
        )
    return made


def answer(api: Api, new: Json) -> Answer:
    try:
        api.create(new, dry_run=True)
    except StatusError as error:
        if "failed calling webhook" in error.message and "connection refused" in error.message:
            return Answer("special", "")
        return Answer("denied", error.message)
    return Answer("admitted", "\n".join(api.warnings))


def judged(stored: Json, mesh: str, namespace: str) -> Verdict:
    settings = Settings()
    request = Request(operation="CREATE", object=convert(stored), namespace=namespace)
    return validate(request, meshes.load(settings)[mesh], "enforce", settings)


def as_stored(api: Api, document: Json, places: dict[str, str], mesh: str) -> Json | None:
    """Return a pod as the API server completes it, for a namespace of the mesh."""
    new = copy.deepcopy(document)
    new["metadata"]["namespace"] = places["plain"]
    new["metadata"].setdefault("annotations", {}).setdefault(RECORD, ALLOWED)
    try:
        stored = api.create(new, dry_run=True)
    except StatusError:
        return None
    for key in ("uid", "creationTimestamp", "managedFields", "resourceVersion"):
        stored["metadata"].pop(key, None)
    stored.pop("status", None)
    stored["metadata"]["namespace"] = places[mesh]
    return stored


def difference(got: Answer, verdict: Verdict, name: str) -> str:
    """Return how an answer differs from policy's verdict; empty if it does not."""
    if got.outcome == "special":
        return ""
    expected = "denied" if verdict.outcome == "denied" else "admitted"
    if got.outcome != expected:
        return f"{name}: {got.outcome}, policy: {verdict.outcome} {verdict.violations} {got.said}"
    if expected == "admitted":
        said = [text for line in got.said.splitlines() if (text := _ADVICE.sub("", line)) != line]
        wanted = messages.warnings(verdict)
        return "" if said == wanted else f"{name}: warned {said}, policy: {wanted}"
    for one in verdict.violations:
        if one.level != "deny":
            continue
        if f"{one.check} {one.field} {one.reason}; {one.fix}" not in got.said:
            return f"{name}: not said: {one} in {got.said}"
    return ""


def test_every_fixture_gets_policy_s_verdict_or_is_special(
    engine: ControlPlane, places: dict[str, str]
) -> None:
    counts: Counter[str] = Counter()
    differences = []
    for fixture in fixtures():
        if fixture.mesh not in MESHES:
            continue
        stored = as_stored(engine.api, fixture.documents[-1], places, fixture.mesh)
        if stored is None:
            counts["invalid"] += 1
            continue
        got = answer(engine.api, stored)
        verdict = judged(stored, fixture.mesh, places[fixture.mesh])
        counts[f"{fixture.mesh} {(fixture.passes and 'passes') or 'fails'} {got.outcome}"] += 1
        if wrong := difference(got, verdict, f"{fixture.mesh} {fixture.check} {fixture.name}"):
            differences.append(wrong)
        if fixture.passes and got.outcome == "special" and len(fixture.documents) == 1:
            print("special though passing:", fixture.mesh, fixture.check, fixture.name)
    print(counts)
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("mesh", MESHES)
def test_random_pods_get_policy_s_verdict_or_are_special(
    engine: ControlPlane, places: dict[str, str], mesh: str
) -> None:
    """`MENDIX_MESH_PODS` sets how many of each mesh."""
    pods: list[Json] = []

    @configure(max_examples=PODS, phases=[Phase.generate], database=None, deadline=None,
               derandomize=True, suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(edits.lives(mesh))
    def collect(life: edits.Life) -> None:
        if life.stored is not None:
            pods.append(life.stored)

    collect()
    counts: Counter[str] = Counter()
    differences = []

    def send(document: Json) -> None:
        stored = as_stored(engine.api, document, places, mesh)
        if stored is None:
            counts["invalid"] += 1
            return
        got = answer(engine.api, stored)
        counts[got.outcome] += 1
        if wrong := difference(got, judged(stored, mesh, places[mesh]), mesh):
            differences.append(f"{wrong}\n{json.dumps(stored)}")

    for one in pods:
        send(one)
        # The same as if nothing had been recorded: then the containers alone have to show it.
        one["metadata"].setdefault("annotations", {})[RECORD] = ALLOWED
        send(one)
    print(mesh, counts)
    assert not differences, f"{len(differences)} differences, the first:\n{differences[0]}"
