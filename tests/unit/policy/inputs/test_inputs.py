"""The allow-lists: allowed input is admitted and harmless, and nothing else is admitted."""

import copy
import json
import re
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given
from hypothesis import settings as configure
from hypothesis import strategies as st

from tests.standins import istio as istiod
from tests.standins import linkerd as injector
from tests.unit.policy import strategies
from tests.unit.policy.inputs import knobs
from tests.unit.policy.inputs.explained import unexplained
from tests.unit.policy.inputs.knobs import CONFIG_KEYS, OWN, SETTINGS, lists, saying
from tests.unit.policy.judge import broken, judge, mesh, settings, whole_patch
from tests.unit.policy.test_laws import applied
from webhook.policy import checks, inputs
from webhook.policy.inputs import Input, forms, istio, linkerd
from webhook.policy.mesh import ALLOWED, RECORD
from webhook.policy.settings import Settings

Json = dict[str, Any]

law = configure(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

MESHES = ("linkerd", "istio", "ambient")
#: The installation options of a mesh's injector.
LINKERDS = {
    "native": injector.InjectorConfig(tracing=True),
    "classic": injector.InjectorConfig(native=False),
    "CNI": injector.InjectorConfig(cni=True),
    "classic, CNI": injector.InjectorConfig(native=False, cni=True),
}
ISTIOS = {
    "native": istiod.InjectorConfig(),
    "classic": istiod.InjectorConfig(native=False),
    "CNI": istiod.InjectorConfig(cni=True),
    "classic, CNI": istiod.InjectorConfig(native=False, cni=True),
}
POD = knobs.mendix_pods()[0]


def injected(by: str, pod: Json, shape: str = "native") -> Json:
    """Return a pod after our mutation and the mesh's stand-in; ambient has none."""
    pod = applied(pod, whole_patch(pod, by=by, given=SETTINGS))
    if by == "istio":
        return istiod.inject(pod, ISTIOS[shape])
    return injector.inject(pod, None, LINKERDS[shape]).pod if by == "linkerd" else pod


# Allowed input.


#: Failures are reported at once: they name a key, and shrinking a pod takes minutes.
_REPORTED = (Phase.explicit, Phase.reuse, Phase.generate)


@pytest.mark.parametrize(
    ("by", "key"),
    [
        *(("linkerd", key) for key in knobs.keys("linkerd")),
        *(("istio", key) for key in knobs.keys("istio")),
        *(("ambient", key) for key in knobs.keys("ambient") if "ambient" in key),
    ],
)
@configure(law, max_examples=3, phases=_REPORTED)
@given(data=st.data())
def test_whatever_the_lists_allow_is_admitted_and_explains_what_the_injector_does(
    by: str, key: str, data: st.DataObject
) -> None:
    pod, shape = data.draw(knobs.pods(by)), data.draw(st.sampled_from(sorted(LINKERDS)))
    annotations, labels = data.draw(knobs.allowed(by, key))
    asking = saying(pod, annotations, labels)
    made = injected(by, asking, shape)
    assert broken(judge(made, by=by, given=SETTINGS)) == []
    assert unexplained(by, injected(by, pod, shape), made, annotations, labels) == []
    template = strategies.workload("Deployment", copy.deepcopy(asking))
    assert broken(judge(template, by=by, given=SETTINGS)) == []


def test_every_harmless_key_of_the_proxy_s_configuration_is_drawn() -> None:
    assert CONFIG_KEYS.keys() == istio.HARMLESS_KEYS.keys()


def test_every_key_that_a_pattern_cannot_draw_has_a_strategy() -> None:
    known = {*istio.ANNOTATIONS, *istio.LABELS, *linkerd.ANNOTATIONS, *linkerd.LABELS}
    assert known >= OWN.keys()
    for by in ("linkerd", "istio"):
        for key, one in lists(by)[0].listed.items():
            if one.may == "bypass" or (not one.form.pattern and one.may == "harmless"):
                assert key in OWN or key in (knobs.VOLUME, knobs.MOUNT), key


# Input that is not allowed.


def _judged(by: str, *, label: bool = False) -> dict[str, Input]:
    """The keys that authors can set and that the mesh judges: without sidecars, not a sidecar's."""
    return {
        key: one
        for key, one in lists(by)[label].listed.items()
        if one.may != "injector" and by in checks.all_checks()[one.check].check.meshes
    }


#: Texts that no value of a simple type contains.
HOSTILE = st.sampled_from(
    ("\n", "\r", "\x00", "\x1b", "\x7f", "\x85", "\u2028", '"', "'", "$(X)", "\n    - x", '": "')
)
#: Texts that neither a text value contains, nor a structured value between its parts.
CONTROL = st.sampled_from(("\x00", "\x1b", "\x07", "\x7f"))
_WORD = r"[A-Za-z][A-Za-z0-9.-]{0,20}[A-Za-z0-9]"
#: Domains that each mesh reads.
DOMAINS = {
    "linkerd": ("config.linkerd.io/", "config.alpha.linkerd.io/", "config.beta.linkerd.io/",
                "linkerd.io/"),
    "istio": ("istio.io/", "sidecar.istio.io/", "traffic.sidecar.istio.io/", "next.istio.io/",
              "proxy.istio.io/", "prometheus.istio.io/"),
}  # fmt: skip
DOMAINS["ambient"] = DOMAINS["istio"]
_LABEL_DOMAINS = {"linkerd": ("linkerd.io/",), "istio": ("istio.io/", "next.istio.io/")}
_LABEL_DOMAINS["ambient"] = _LABEL_DOMAINS["istio"]


def is_denied(by: str, key: str, value: str, place: str = "annotations") -> bool:
    """Whether a key and its value are denied in a template, in a final pod, and by the record."""
    said: Json = {"annotations": {}, "labels": {}, place: {key: value}}
    asking = saying(POD, **said)
    template = strategies.workload("Deployment", copy.deepcopy(asking))
    # Without our mutation, and with it: an injector may remove the key, or fail on its value.
    without = saying(injected(by, POD), **said)
    without = saying(without, {RECORD: ""}, {})
    del without["metadata"]["annotations"][RECORD]
    recorded = applied(asking, whole_patch(asking, by=by, given=SETTINGS))
    record = recorded["metadata"]["annotations"][RECORD]
    used_up = saying(injected(by, POD), {RECORD: record}, {})
    field = f"metadata.{place}[{key}]"
    return all(
        any(v.level == "deny" and v.field.endswith(field) for v in verdict.violations)
        for verdict in (judge(obj, by=by, given=SETTINGS) for obj in (template, without, used_up))
    )


@pytest.mark.parametrize("by", MESHES)
@law
@given(data=st.data())
def test_any_other_key_that_the_mesh_reads_is_denied(by: str, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(("annotations", "labels")))
    domains = DOMAINS[by] if place == "annotations" else _LABEL_DOMAINS[by]
    key = data.draw(st.sampled_from(domains)) + data.draw(st.from_regex(_WORD, fullmatch=True))
    listed = lists(by)[place == "labels"]
    assume(key not in listed.listed and not key.startswith(tuple(listed.prefixes)))
    assume(by == "ambient" or key not in ("istio.io/dataplane-mode",))
    assert is_denied(by, key, data.draw(st.sampled_from(("true", "", "8080"))), place)


@pytest.mark.parametrize("key", ["prometheus_io_port", "prometheus.io_path", "prometheus-io/scrape",
                                 "prometheus_istio_io/scrape-targets"])  # fmt: skip
def test_istio_reads_scrape_annotations_in_any_spelling(key: str) -> None:
    assert is_denied("istio", key, "8080")


@pytest.mark.parametrize("key", ["prometheus.io/job", "prometheus.io/scrape_interval",
                                 "prometheus.io/scheme", "prometheus.io/ports"])  # fmt: skip
def test_istio_does_not_read_the_other_annotations_of_prometheus(key: str) -> None:
    assert _problem("istio", settings(), key, 'anything "quoted"') is None


#: Multus' annotation, as names or as JSON.
NETWORKS = "k8s.v1.cni.cncf.io/networks"


def test_further_networks_don_t_leave_the_quotes_that_istio_puts_them_in() -> None:
    assert is_denied("istio", NETWORKS, "a', traffic.sidecar.istio.io/excludeOutboundPorts: '443")


@pytest.mark.parametrize("by", MESHES)
@law
@given(data=st.data())
def test_no_value_holds_a_line_break_a_quote_or_a_reference(by: str, data: st.DataObject) -> None:
    label = data.draw(st.booleans())
    listed = _judged(by, label=label)
    key = data.draw(st.sampled_from(sorted(listed)))
    form = listed[key].form
    free = form in (forms.TEXT, forms.BUCKETS) or key == NETWORKS or not form.pattern
    start = data.draw(OWN[key]) if key in OWN else "8080"
    at, hostile = data.draw(st.integers(0, len(start))), data.draw(CONTROL if free else HOSTILE)
    place = "labels" if label else "annotations"
    assert is_denied(by, key, start[:at] + hostile + start[at:], place)


@pytest.mark.parametrize("by", MESHES)
@law
@given(data=st.data())
def test_a_value_of_another_type_is_denied(by: str, data: st.DataObject) -> None:
    listed = _judged(by)
    keys = [key for key, one in listed.items() if one.form.pattern]
    key = data.draw(st.sampled_from(sorted(keys)))
    value = data.draw(
        st.text(max_size=12) | st.sampled_from(("yes", "-1", "1e99", "0x10", "a b", "é", "٣", "{}"))
    )
    assume(not re.fullmatch(listed[key].form.pattern, value, re.ASCII))
    assert is_denied(by, key, value)


@pytest.mark.parametrize(
    ("by", "key"),
    [(by, key) for by in ("linkerd", "istio") for key in lists(by)[0].listed],
)
def test_a_value_that_is_longer_than_its_form_is_denied_unread(by: str, key: str) -> None:
    listed = lists(by)[0]
    form = listed.listed[key].form
    problem = listed.problem(key, "1" * (form.longest + 1), submitted=False)
    assert problem is not None
    assert form.wrong("1" * 3_000_000) == [f"is longer than {form.longest} characters"]


@pytest.mark.parametrize(
    "unit", ["1", "1,", " ", " ,", "1 - ", "a", ".", "1m", "[", '"a": [', "a:"]
)
def test_no_form_needs_long_for_its_longest_values(unit: str) -> None:
    """A pattern that backtracks would need years."""
    found = [one.form for by in ("linkerd", "istio") for one in lists(by)[0].listed.values()]
    started = time.process_time()
    for form in set(found):
        for end in ("", "!", '"'):
            form.wrong((unit * form.longest)[: form.longest - 1] + end)
    assert time.process_time() - started < 2


# Structured values.


@law
@given(st.sampled_from(sorted(CONFIG_KEYS)), HOSTILE)
def test_no_leaf_of_a_configuration_is_hostile(key: str, hostile: str) -> None:
    value: Any = {"server": hostile} if key == "proxyHeaders" else {"sampling": hostile}
    if key not in ("proxyHeaders", "tracing"):
        value = [f"a{hostile}"]
    assert is_denied("istio", "proxy.istio.io/config", json.dumps({key: value}))


@law
@given(st.sampled_from(sorted(istio.HARMLESS_ENV)), HOSTILE)
def test_no_variable_of_the_proxy_s_metadata_is_hostile(name: str, hostile: str) -> None:
    text = json.dumps({"proxyMetadata": {name: f"1{hostile}"}})
    assert is_denied("istio", "proxy.istio.io/config", text)


@law
@given(st.sampled_from(sorted(linkerd.HARMLESS_ENV)), HOSTILE)
def test_no_additional_variable_is_hostile(name: str, hostile: str) -> None:
    text = json.dumps([{"name": name, "value": f"1{hostile}"}])
    assert is_denied("linkerd", linkerd.CONFIG + "proxy-additional-env", text)


NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,30}", fullmatch=True)


@law
@given(NAME)
def test_no_other_key_or_variable_is_set(name: str) -> None:
    assume(name not in istio.HARMLESS_KEYS and name not in istio.HARMLESS_ENV)
    assume(name not in ("interceptionMode", "discoveryAddress", "proxyMetadata"))
    assume(name not in linkerd.HARMLESS_ENV and name not in (istio.HARMLESS_KEYS["tracing"] or ()))
    for said in ({name: "1"}, {"proxyMetadata": {name: "1"}}, {"tracing": {name: "1"}}):
        assert is_denied("istio", "proxy.istio.io/config", json.dumps(said))
    text = json.dumps([{"name": name, "value": "1"}])
    assert is_denied("linkerd", linkerd.CONFIG + "proxy-additional-env", text)


_VARIABLE = '{"name": "LINKERD2_PROXY_LOG", "value": "debug"}'


@pytest.mark.parametrize(
    ("by", "key", "text"),
    [
        *(("linkerd", linkerd.CONFIG + "proxy-additional-env", text) for text in (
            "{", "null", "1", "{}", "[1]", "[null]", "[[]]", "[{}]", '[{"value": "1"}]',
            _VARIABLE, f"[{_VARIABLE}, x]", '[{"Name": "LINKERD2_PROXY_LOG"}]',
            '[{"name": "LINKERD2_PROXY_LOG", "Name": "LD_PRELOAD"}]', "[" * 8000,
            '[{"name": "LINKERD2_PROXY_LOG", "name": "LD_PRELOAD"}]',
            '[{"name": "LINKERD2_PROXY_LOG", "valueFrom": {}}]',
        )),
        *(("istio", key, text) for key in (knobs.VOLUME, knobs.MOUNT, knobs.DATADOG) for text in (
            "", "{", "null", "[]", '{"x": 1}', "[" * 4000, '{"x": {}, "X": {}}',
        )),
        *(("istio", "proxy.istio.io/config", text) for text in (
            "interception_mode: NONE", "interceptionMode: NONE", "a: &a b", "- concurrency: 2",
            "discoveryAddress: evil.io:15012", "concurrency: 2\nconcurrency: 3", "{" * 30_000,
            "proxyMetadata: [TZ]", "proxyMetadata: {TZ: [UTC]}", "concurrency: !!str 2",
        )),
    ],
)  # fmt: skip
def test_what_can_be_read_in_another_way_is_denied(by: str, key: str, text: str) -> None:
    assert is_denied(by, key, text)


@pytest.mark.parametrize(
    "volume",
    [
        {"x": {"hostPath": {"path": "/"}}},
        {"x": {"HostPath": {"path": "/"}}},
        {"x": {"emptyDir": {}, "hostPath": {"path": "/"}}},
        {"x": {"name": "istio-data", "emptyDir": {}}},
        {"x": {"nfs": {"server": "evil.io", "path": "/"}}},
        {"x": "emptyDir"},
        {"istio-data": {"emptyDir": {}}},
        {'x"\n  - hostPath: {path: /}\n    name: "y': {"emptyDir": {}}},
        {"X": {"emptyDir": {}}},
        {"": {"emptyDir": {}}},
        {"x": {}},
        ["x"],
    ],
)
def test_a_user_s_volume_is_one_source_with_a_plain_name(volume: Any) -> None:
    assert is_denied("istio", knobs.VOLUME, json.dumps(volume))


@pytest.mark.parametrize(
    "mount",
    [
        {"x": {"mountPath": "/etc/istio/proxy"}},
        {"x": {"mountPath": "/tmp/../usr/local/bin"}},
        {"x": {"mountPath": "/"}},
        {"x": {}},
        {"x": {"mountPath": "/tmp/a", "subPathExpr": "$(POD_NAME)"}},
        {"x": {"mountPath": "/tmp/a", "MountPath": "/usr/local/bin"}},
        {"x": {"mountPath": "/tmp/a", "mountPropagation": "Bidirectional"}},
        {'x"\n  securityContext: {privileged: true}\n  #': {"mountPath": "/tmp/a"}},
        {"x": {"mountPath": ["/tmp/a"]}},
        {"x": {"mountPath": "/tmp/a\n"}},
        {"x": {"mountPath": "/tmp/a", "readOnly": {}}},
        {"x": {"mountPath": "/tmp/a", "subPath": 1}},
    ],
)
def test_a_user_s_mount_is_a_path_of_its_own_with_a_plain_name(mount: Any) -> None:
    assert is_denied("istio", knobs.MOUNT, json.dumps(mount))


# The admin's input.


def _allowing(by: str, key: str, *values: str) -> Settings:
    listed = [{"key": key, "reason": "ours", "values": list(values)}]
    return settings(**{"linkerd" if by == "linkerd" else "istio": {"annotations": listed}})


def _problem(by: str, given: Settings, key: str, value: str) -> inputs.Problem | None:
    listed = mesh(by, given).annotations
    assert listed is not None
    return listed.problem(key, value, submitted=False)


@pytest.mark.parametrize("by", MESHES)
@law
@given(data=st.data())
def test_the_settings_add_a_key_with_its_values_and_nothing_else(
    by: str, data: st.DataObject
) -> None:
    admins = [key for key, one in _judged(by).items() if one.may == "admin"]
    unknown = st.builds(str.__add__, st.sampled_from(DOMAINS[by]), st.just("shop-x"))
    key = data.draw(unknown | st.sampled_from(sorted(admins)))
    value, other = data.draw(st.lists(st.from_regex(r"x-[a-z0-9.]{1,9}", fullmatch=True),
                                      min_size=2, max_size=2, unique=True))  # fmt: skip
    given = _allowing(by, key, value)
    assert _problem(by, given, key, value) is None
    assert _problem(by, given, key, other) is not None
    assert _problem(by, given, key + "x", value) is not None
    assert _problem(by, _allowing(by, key), key, other) is None
    asking = saying(POD, {key: value}, {})
    template = strategies.workload("Deployment", asking)
    assert broken(judge(template, by=by, given=given)) == []
    assert broken(judge(template, by=by, given=SETTINGS)) != []


#: Inherited from the namespace, so only its admin may set them.
_VERSION = linkerd.CONFIG + "proxy-version"


def test_what_a_pod_has_from_its_namespace_is_the_admin_s() -> None:
    namespace = {"metadata": {"name": "mendix", "annotations": {_VERSION: "edge-26.8.4"}}}
    marked = applied(POD, whole_patch(POD))
    assert marked["metadata"]["annotations"][RECORD] == ALLOWED
    made = injector.inject(marked, namespace, LINKERDS["native"]).pod
    assert made["metadata"]["annotations"][_VERSION] == "edge-26.8.4"
    assert broken(judge(made)) == []
    # Without the record, by the namespace's annotations, if they are known.
    del made["metadata"]["annotations"][RECORD]
    assert broken(judge(made, namespace_annotations={_VERSION: "edge-26.8.4"})) == []
    for known in (None, {}, {_VERSION: "edge-26.8.5"}):
        assert broken(judge(made, namespace_annotations=known)) == ["proxy-image-untrusted"]


def test_what_the_author_says_is_not_the_namespace_s() -> None:
    asking = saying(POD, {_VERSION: "edge-26.8.4"}, {})
    marked = applied(asking, whole_patch(asking))
    made = injector.inject(marked, None, LINKERDS["native"]).pod
    assert broken(judge(made)) == ["proxy-image-untrusted"]
