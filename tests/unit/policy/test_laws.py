"""What holds of any object whatever: no example is special."""

import contextlib
import copy
import json
from typing import Any

import jsonpatch
import msgspec
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as configure
from hypothesis import strategies as st

from tests.fixtures import generate
from tests.fixtures.fixture import load
from tests.standins.linkerd import InjectorConfig, inject
from tests.unit.policy import strategies
from tests.unit.policy.judge import DEFAULTS, broken, judge, mesh, patch_for, settings
from webhook.policy import checks, messages, objects
from webhook.policy.mutate import mutate
from webhook.policy.request import Request
from webhook.policy.settings import Settings
from webhook.policy.validate import MODES, Mode, Verdict, validate

Json = dict[str, Any]

law = configure(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])

usual_settings = st.sampled_from(
    [DEFAULTS, settings(optOut="override", linkerd={"inboundPolicy": "all-authenticated"})]
)
odd_settings = settings(
    linkerd={"proxyGid": 2102, "skipOutboundPorts": "1-65535", "skipSubnets": ["10.0.0.0/8"]},
    levels=[{"check": "root-capable", "level": "deny", "reason": "ours"}],
)
all_settings = usual_settings | st.just(odd_settings)
injectors = st.sampled_from(
    [
        InjectorConfig(native=native, cni=cni, await_proxy=wait)
        for native in (True, False)
        for cni in (True, False)
        for wait in (True, False)
    ]
)
all_meshes = st.sampled_from(["linkerd", "unknown"])
operations = st.sampled_from(["CREATE", "UPDATE"])


def applied(obj: Json, patch: list[Json]) -> Json:
    result: Json = jsonpatch.apply_patch(copy.deepcopy(obj), patch)
    return result


def rest(obj: Json) -> Json:
    """The object without labels and annotations, of its own and its template's."""
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
@given(strategies.objects | strategies.ingresses, all_settings, operations, st.booleans())
def test_mutating_twice_is_mutating_once(
    obj: Json, given: Settings, operation: str, ingress: bool
) -> None:
    more: Json = {"operation": operation, "ingress": ingress, "given": given}
    once = applied(obj, patch_for(obj, **more))
    assert patch_for(once, **more) == []


@law
@given(strategies.objects | strategies.ingresses, all_settings, operations)
def test_mutating_touches_labels_and_annotations_alone(
    obj: Json, given: Settings, operation: str
) -> None:
    patched = applied(obj, patch_for(obj, operation=operation, given=given))
    assert rest(patched) == rest(obj)


@law
@given(strategies.objects, all_settings)
def test_mutating_removes_and_changes_nothing_but_the_mesh_s_own_keys(
    obj: Json, given: Settings
) -> None:
    patched = applied(obj, patch_for(obj, given=given))
    for before, after in ((obj, patched), (_template(obj), _template(patched))):
        for place in ("labels", "annotations"):
            old = ((before or {}).get("metadata") or {}).get(place) or {}
            new = ((after or {}).get("metadata") or {}).get(place) or {}
            assert {k: v for k, v in old.items() if k != "linkerd.io/inject"}.items() <= new.items()


@pytest.mark.parametrize("kind", strategies.KINDS)
@configure(law, max_examples=40)
@given(template=strategies.sound_templates(), config=injectors, given=usual_settings)
def test_a_workload_that_is_mutated_and_injected_is_admitted(
    kind: str, template: Json, config: InjectorConfig, given: Settings
) -> None:
    obj = strategies.workload(kind, template)
    obj = applied(obj, patch_for(obj, given=given))
    assert broken(judge(obj, given=given, final=False)) == []
    pod = strategies.pod_of(obj)
    pod = applied(pod, patch_for(pod, given=given))
    injection = inject(pod, None, config)
    assert injection.skipped == ()
    assert broken(judge(injection.pod, given=given)) == []


@pytest.mark.parametrize("kind", ["Job", "CronJob", "Pod"])
@configure(law, max_examples=20)
@given(template=strategies.sound_templates())
def test_a_pod_that_must_end_gets_a_proxy_that_ends(kind: str, template: Json) -> None:
    template["spec"]["restartPolicy"] = "Never"
    obj = strategies.workload(kind, template)
    pod = strategies.pod_of(applied(obj, patch_for(obj)))
    injection = inject(pod, None, InjectorConfig(native=False))
    names = [container["name"] for container in injection.pod["spec"]["initContainers"]]
    assert "linkerd-proxy" in names


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
    for name in ("linkerd", "unknown"):
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
        objects.convert(obj)
    except objects.UndecodableError:
        return
    verdict = judge(obj, old, by=by, mode=mode, given=given, final=final)
    for violation in verdict.violations:
        assert violation.check in checks.ids()
        assert violation.field
        assert violation.reason
        assert violation.fix
    _is_one_line_each(verdict)
    assert verdict.allowed or mode == "enforce"


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
@given(strategies.specs, st.none() | strategies.metadata, all_settings)
def test_a_pod_may_always_lose_a_finalizer_or_get_a_label(
    spec: Json, meta: Json | None, given: Settings
) -> None:
    old = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    labels = {**((meta or {}).get("labels") or {}), "x": "y"}
    new = {**old, "metadata": {**(meta or {}), "labels": labels, "finalizers": None}}
    assert judge(new, old, given=given).outcome == "admitted"


@pytest.mark.parametrize(
    "path",
    [fixture.path for fixture in generate.fixtures() if len(fixture.documents) == 1],
    ids=lambda path: f"{path.parts[-3]}/{path.stem}",
)
def test_no_violator_is_locked_in_when_it_runs_already(path: Any) -> None:
    (old,) = load(path)
    new = copy.deepcopy(old)
    new["metadata"]["labels"]["touched"] = "yes"
    assert judge(new, old).outcome == "admitted"
