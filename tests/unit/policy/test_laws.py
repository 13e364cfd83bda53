"""Properties of any object, tested with generated examples."""

import contextlib
import copy
import itertools
import json
import re
from typing import Any

import jsonpatch
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import settings as configure
from hypothesis import strategies as st

from tests.fixtures import generate
from tests.fixtures.changes import RECORD
from tests.fixtures.fixture import Fixture
from tests.fixtures.meshes import ambient, istio
from tests.standins import istio as istiod
from tests.standins import linkerd as injector
from tests.standins.linkerd import InjectorConfig
from tests.unit.policy import strategies
from tests.unit.policy.judge import DEFAULTS, broken, judge, mesh, settings, whole_patch
from webhook.policy import checks, messages
from webhook.policy.mutate import mutate
from webhook.policy.pod import objects, workload
from webhook.policy.pod.request import Request
from webhook.policy.settings import Settings
from webhook.policy.validate import MODES, Mode, Verdict, validate

Json = dict[str, Any]

law = configure(max_examples=200)

usual_settings = st.sampled_from(
    [
        DEFAULTS,
        settings(
            optOut="override",
            linkerd={"inboundPolicy": "all-authenticated"},
            istio={"revision": "canary", "nativeSidecars": False},
        ),
    ]
)
odd_settings = settings(
    linkerd={"proxyGid": 2102, "skipOutboundPorts": "1-65535", "skipSubnets": ["10.0.0.0/8"]},
    istio={"proxyUid": None, "excludeOutboundIPRanges": ["10.0.0.0/8"], "templates": ["gateway"]},
    allow=[{"reason": "ours", "namespaces": ["*"], "outboundPorts": "1-65535"}],
    levels=[{"check": "root-capable", "level": "deny", "reason": "ours"}],
)
all_settings = usual_settings | st.just(odd_settings)
#: The installation options of a mesh's injector.
INSTALLED: dict[str, list[Any]] = {
    "linkerd": [
        InjectorConfig(native=native, cni=cni, await_proxy=wait)
        for native, cni, wait in itertools.product((True, False), repeat=3)
    ],
    "istio": [
        istiod.InjectorConfig(native=native, cni=cni, hold=wait)
        for native, cni, wait in itertools.product((True, False), repeat=3)
    ],
    "ambient": [None],
}
MESHES = list(INSTALLED)
all_meshes = st.sampled_from([*MESHES, "unknown"])
#: The keys that mutation may set, whatever an author wrote there.
OWN_KEYS = {"linkerd.io/inject", istio.INJECT, istio.CONFIG, ambient.MODE, RECORD}
operations = st.sampled_from(["CREATE", "UPDATE"])


def applied(obj: Json, patch: list[Json]) -> Json:
    result: Json = jsonpatch.apply_patch(copy.deepcopy(obj), patch)
    return result


def injected(by: str, pod: Json, config: Any) -> Json:
    """Return a pod after the mesh's injector; ambient has none."""
    if by == "ambient":
        return pod
    if by == "istio":
        made = istiod.inject(pod, config)
        assert istio.STATUS in made["metadata"]["annotations"]
        return made
    injection = injector.inject(pod, None, config)
    assert injection.skipped == ()
    return injection.pod


def rest(obj: Json) -> Json:
    """Return the object without labels and annotations, also in its template."""
    obj = copy.deepcopy(obj)
    for holder in (obj, _template(obj)):
        if isinstance(holder, dict):
            meta = holder.get("metadata") or {}
            holder["metadata"] = {
                key: value for key, value in meta.items() if key not in ("labels", "annotations")
            }
    return obj


def _template(obj: Json) -> Any:
    return objects.template_of(obj) if obj.get("kind") != "Pod" else None


@law
@given(
    strategies.objects | strategies.ingresses, all_meshes, all_settings, operations, st.booleans()
)
def test_mutating_twice_is_mutating_once(
    obj: Json, by: str, given: Settings, operation: str, ingress: bool
) -> None:
    more: Json = {"by": by, "operation": operation, "ingress": ingress, "given": given}
    once = applied(obj, whole_patch(obj, **more))
    assert whole_patch(once, **more) == []


@law
@given(strategies.objects | strategies.ingresses, all_meshes, all_settings, operations)
def test_mutating_touches_labels_and_annotations_alone(
    obj: Json, by: str, given: Settings, operation: str
) -> None:
    patched = applied(obj, whole_patch(obj, by=by, operation=operation, given=given))
    assert rest(patched) == rest(obj)


@law
@given(strategies.objects, all_meshes, all_settings)
def test_mutating_removes_and_changes_nothing_but_the_mesh_s_own_keys(
    obj: Json, by: str, given: Settings
) -> None:
    patched = applied(obj, whole_patch(obj, by=by, given=given))
    for before, after in ((obj, patched), (_template(obj), _template(patched))):
        for place in ("labels", "annotations"):
            old = ((before or {}).get("metadata") or {}).get(place) or {}
            new = ((after or {}).get("metadata") or {}).get(place) or {}
            assert {k: v for k, v in old.items() if k not in OWN_KEYS}.items() <= new.items()


@pytest.mark.parametrize("by", MESHES)
@pytest.mark.parametrize("kind", strategies.KINDS)
@configure(law, max_examples=40)
@given(data=st.data(), given=usual_settings)
def test_a_workload_that_is_mutated_and_injected_is_admitted(
    kind: str, by: str, data: st.DataObject, given: Settings
) -> None:
    obj = strategies.workload(kind, data.draw(strategies.sound_templates(by)))
    obj = applied(obj, whole_patch(obj, by=by, given=given))
    assert broken(judge(obj, by=by, given=given, final=False)) == []
    pod = strategies.pod_of(obj)
    pod = applied(pod, whole_patch(pod, by=by, given=given))
    pod = injected(by, pod, data.draw(st.sampled_from(INSTALLED[by])))
    assert broken(judge(pod, by=by, given=given)) == []


@pytest.mark.parametrize("by", ["linkerd", "istio"])
@pytest.mark.parametrize("kind", strategies.KINDS)
@configure(law, max_examples=40)
@given(data=st.data(), given=usual_settings)
def test_what_the_injector_made_is_denied_if_anyone_else_brings_it(
    kind: str, by: str, data: st.DataObject, given: Settings
) -> None:
    pod = strategies.pod_of(strategies.workload("Pod", data.draw(strategies.sound_templates(by))))
    pod = applied(pod, whole_patch(pod, by=by, given=given))
    pod = injected(by, pod, data.draw(st.sampled_from(INSTALLED[by])))
    template = {place: pod[place] for place in ("metadata", "spec")}
    brought = strategies.workload(kind, copy.deepcopy(template))
    brought = applied(brought, whole_patch(brought, by=by, given=given))
    for final in (True, False):
        verdict = judge(brought, by=by, given=given, final=final)
        assert broken(verdict) == ["proxy-brought"]
    # A pod that started under an exemption or another mode can still be changed.
    touched = copy.deepcopy(brought)
    touched["metadata"]["labels"] = {**(brought["metadata"].get("labels") or {}), "x": "y"}
    assert judge(touched, brought, by=by, given=given).allowed


@law
@given(strategies.pods, st.sampled_from(MESHES), all_settings)
def test_no_pod_with_a_container_of_the_mesh_s_own_is_stored_unmarked(
    obj: Json, by: str, given: Settings
) -> None:
    """No opt-out or unusual value hides it, except in fields for the injector and in gateways."""
    patched = applied(obj, whole_patch(obj, by=by, given=given))
    pod = workload.pod_of(objects.convert(obj), mesh(by, given), Request())
    assert pod is not None
    own = [placed for placed in pod.mesh_containers if not mesh(by, given).fills_in(placed)]
    judged = judge(patched, by=by, given=given)
    if own and not mesh(by, given).is_infrastructure(pod):
        assert "proxy-brought" in broken(judged)
        assert {v.field for v in judged.violations if v.check == "proxy-brought"} == {
            placed.field() for placed in own
        }
    else:
        record = ((patched.get("metadata") or {}).get("annotations") or {}).get(RECORD, "")
        assert by == "unknown" or not re.search(r"proxy-brought spec\.\w*ontainers", record)


@pytest.mark.parametrize(
    ("by", "config"),
    [
        ("linkerd", InjectorConfig(native=False)),
        ("istio", istiod.InjectorConfig(native=False)),
        ("istio", istiod.InjectorConfig(native=False, cni=True)),
    ],
)
@pytest.mark.parametrize("kind", ["Job", "CronJob", "Pod"])
@configure(law, max_examples=20)
@given(data=st.data())
def test_a_pod_that_must_end_gets_a_proxy_that_ends(
    kind: str, by: str, config: Any, data: st.DataObject
) -> None:
    template = data.draw(strategies.sound_templates(by))
    template["spec"]["restartPolicy"] = "Never"
    obj = strategies.workload(kind, template)
    pod = strategies.pod_of(applied(obj, whole_patch(obj, by=by)))
    pod = injected(by, pod, config)
    names = [container["name"] for container in pod["spec"]["initContainers"]]
    assert f"{by}-proxy" in names
    assert broken(judge(pod, by=by)) == []


@configure(law, max_examples=40)
@given(strategies.sound_templates("istio"))
def test_without_native_sidecars_the_task_waits_for_its_proxy(template: Json) -> None:
    given = settings(istio={"nativeSidecars": False})
    template["spec"]["restartPolicy"] = "Never"
    pod = strategies.pod_of(strategies.workload("Pod", template))
    pod = applied(pod, whole_patch(pod, by="istio", given=given))
    pod = injected("istio", pod, istiod.InjectorConfig(native=False))
    first = pod["spec"]["containers"][0]
    assert first["name"] == "istio-proxy"
    assert first["lifecycle"]["postStart"]["exec"]["command"] == ["pilot-agent", "wait"]
    assert broken(judge(pod, by="istio", given=given)) == []


@law
@given(st.binary() | strategies.json_values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"spec":{"containers":[{"envFrom":' + b"[" * 100_000)
@example(b'{"spec":{"securityContext":{"runAsUser":' + b"9" * 5000 + b"}}}")
@example(b'{"metadata":{"name":"\xff"}}')
def test_bytes_are_decoded_or_undecodable(data: bytes) -> None:
    with contextlib.suppress(objects.UndecodableError):
        _survives(Request(object=objects.decode(data)))


@law
@given(strategies.json_values | strategies.broken_objects())
@example({"metadata": {"name": "\ud800"}})
@example({"metadata": {1: "a"}})
def test_documents_are_converted_or_unconvertible(document: Any) -> None:
    with contextlib.suppress(objects.UndecodableError):
        _survives(Request(object=objects.convert(document)))


def test_a_document_that_contains_itself_is_unconvertible() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(objects.UndecodableError):
        objects.convert({"spec": {"containers": [{"envFrom": loop}]}})


def _survives(request: Request) -> None:
    for name in (*MESHES, "unknown"):
        assert msgspec.json.encode(mutate(request, mesh(name), DEFAULTS))
        for mode in MODES:
            assert msgspec.json.encode(validate(request, mesh(name), mode, DEFAULTS).outcome)


@law
@given(
    strategies.objects | strategies.broken_objects(),
    st.none() | strategies.objects,
    all_meshes,
    st.sampled_from(MODES),
    all_settings,
    st.booleans(),
)
def test_a_verdict_is_always_said_in_words_that_help(
    obj: Any, old: Any, by: str, mode: Mode, given: Settings, final: bool
) -> None:
    try:
        verdict = judge(obj, old, by=by, mode=mode, given=given, final=final)
    except objects.UndecodableError:
        # Of the whole object, or of the variables of a mesh's container, which are read late.
        assert objects_are_odd(obj, old)
        return
    for violation in verdict.violations:
        assert violation.check in checks.ids()
        assert violation.field
        assert violation.reason
        assert violation.fix
    _is_one_line_each(verdict)
    assert verdict.allowed or mode == "enforce"


def objects_are_odd(*objs: Any) -> bool:
    """Return whether one of them has a field of another type than in Kubernetes."""
    for obj in objs:
        try:
            pod = workload.pod_of(objects.convert(obj), mesh("linkerd"), Request()) if obj else None
            for placed in pod.containers if pod else ():
                _ = placed.variables
        except objects.UndecodableError:
            return True
    return False


def _is_one_line_each(verdict: Verdict) -> None:
    for warning in messages.warnings(verdict):
        assert len(warning) < 120
        assert warning.isprintable()
    if not verdict.allowed:
        first, *lines = messages.denial(verdict).splitlines()
        assert first.endswith("mesh:")
        denying = [v for v in verdict.violations if v.level == "deny"]
        assert len(lines) == min(len(denying), messages.MOST_VIOLATIONS + 1)
        assert all(line.startswith("  ") for line in lines)
    msgspec.json.encode(messages.denial(verdict))


@law
@given(strategies.objects, all_meshes, all_settings)
def test_an_update_that_changes_nothing_is_admitted(obj: Json, by: str, given: Settings) -> None:
    verdict = judge(obj, copy.deepcopy(obj), by=by, given=given)
    assert verdict.allowed
    assert messages.warnings(verdict) == []


@law
@given(strategies.specs, st.none() | strategies.metadata, all_meshes, all_settings)
def test_a_pod_may_always_lose_a_finalizer_or_get_a_label(
    spec: Json, meta: Json | None, by: str, given: Settings
) -> None:
    old = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    labels = {**((meta or {}).get("labels") or {}), "x": "y"}
    new = {**old, "metadata": {**(meta or {}), "labels": labels, "finalizers": None}}
    assert judge(new, old, by=by, given=given).outcome == "admitted"


@pytest.mark.parametrize(
    "fixture",
    [fixture for fixture in generate.fixtures() if len(fixture.documents) == 1],
    ids=lambda fixture: f"{fixture.check}/{fixture.name}",
)
def test_no_violator_is_locked_in_when_it_runs_already(fixture: Fixture) -> None:
    (old,) = fixture.documents
    new = copy.deepcopy(old)
    new["metadata"]["labels"]["touched"] = "yes"
    assert judge(new, old, by=fixture.mesh).outcome == "admitted"
