"""Texts that annotations can insert: Linkerd pastes some values into text without quotes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.standins.linkerd import Injection, InjectionError, InjectorConfig, inject

Json = dict[str, Any]

CONFIG = "config.linkerd.io/"
TRACE = "resource.opentelemetry.io/"
EVIL = {"name": "LINKERD2_PROXY_LOG", "value": "evil"}
ENV = f"env: [{json.dumps(EVIL)}]"
CNI = InjectorConfig(cni=True)
TRACED = InjectorConfig(tracing=True)


def pod(annotations: dict[str, str] | None = None, owner: str = "") -> Json:
    container = {"name": "app", "image": "app", "ports": [{"containerPort": 8080}]}
    made: Json = {
        "kind": "Pod",
        "metadata": {
            "name": "shop",
            "namespace": "mendix",
            "annotations": {"linkerd.io/inject": "enabled", **(annotations or {})},
        },
        "spec": {"containers": [container]},
    }
    if owner:
        made["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": owner}]
    return made


def injected(
    annotation: str = "", value: str = "", config: InjectorConfig | None = None
) -> Injection:
    made = inject(pod({annotation: value} if annotation else {}), None, config or InjectorConfig())
    assert made.skipped == ()
    return made


def containers(injection: Injection) -> dict[str, Json]:
    spec = injection.pod["spec"]
    return {c.get("name", ""): c for c in [*spec["initContainers"], *spec["containers"]]}


@pytest.mark.parametrize("config", [InjectorConfig(), InjectorConfig(native=False), CNI])
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (CONFIG + "image-pull-policy", "Always\n" + ENV),
        (CONFIG + "proxy-image", f"evil/proxy:1\n{ENV}\n#"),
    ],
)
def test_a_line_break_in_a_pasted_value_writes_the_whole_env_of_each_container(
    annotation: str, value: str, config: InjectorConfig
) -> None:
    found = containers(injected(annotation, value, config))
    del found["app"]
    assert len(found) == 2
    assert [container["env"] for container in found.values()] == [[EVIL], [EVIL]]


def test_a_line_break_in_a_trace_attribute_replaces_the_variables_before_it() -> None:
    value = f"v\nenv:\n- {json.dumps(EVIL)}"
    env = containers(injected(TRACE + "zzz", value, TRACED))["linkerd-proxy"]["env"]
    assert env[0] == EVIL
    names = [entry["name"] for entry in env]
    assert names[1] == "LINKERD2_PROXY_INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL"
    assert names.count("LINKERD2_PROXY_LOG") == 1


def test_a_pasted_value_writes_any_field_that_the_template_does_not_write_after_it() -> None:
    value = "Always\nimage: evil\nworkingDir: /evil\nname: evil\nsecurityContext: {}"
    proxy = containers(injected(CONFIG + "image-pull-policy", value))["linkerd-proxy"]
    assert (proxy["image"], proxy["workingDir"]) == ("evil", "/evil")
    assert proxy["securityContext"]["runAsUser"] == 2102


def test_the_debug_sidecars_values_are_pasted() -> None:
    config = InjectorConfig(debug=True)
    value = "Always\nsecurityContext: {privileged: true}"
    debug = containers(injected(CONFIG + "debug-image-pull-policy", value, config))["linkerd-debug"]
    assert debug["securityContext"] == {"privileged": True}


@pytest.mark.parametrize(
    "annotation",
    [
        "access-log",
        "proxy-log-format",
        "proxy-log-level",
        "proxy-require-identity-inbound-ports",
        "skip-outbound-ports",
        "skip-subnets",
    ],
)
def test_a_quoted_value_stays_in_its_place(annotation: str) -> None:
    value = f"x\"\n{ENV}\n- é😀\x85\t'"
    safe = json.dumps(containers(injected(CONFIG + annotation, "SAFE")))
    assert "SAFE" in safe
    expected = json.loads(safe.replace("SAFE", json.dumps(value)[1:-1]))
    assert containers(injected(CONFIG + annotation, value)) == expected


def test_a_quotation_mark_in_skip_inbound_ports_adds_arguments_of_the_init_container() -> None:
    value = '1"\n- --subnets-to-ignore\n- "0.0.0.0/0'
    args = containers(injected(CONFIG + "skip-inbound-ports", value))["linkerd-init"]["args"]
    at = args.index("--inbound-ports-to-ignore")
    assert args[at + 1 : at + 4] == ["4190,4191,1", "--subnets-to-ignore", "0.0.0.0/0"]


def test_a_pasted_value_can_rename_the_validator() -> None:
    value = "Always\nname: other"
    assert "other" in containers(injected(CONFIG + "image-pull-policy", value, CNI))


@pytest.mark.parametrize("annotation", [TRACE + "service.version", CONFIG + "trace-collector"])
def test_without_tracing_attributes_have_no_effect(annotation: str) -> None:
    assert containers(injected(annotation, "1\nenv: []")) == containers(injected())


def test_with_tracing_the_proxy_has_the_pods_attributes_in_their_order() -> None:
    annotations = {TRACE + "b": "2", TRACE + "a": "1"}
    injection = inject(pod(annotations), None, TRACED)
    proxy = containers(injection)["linkerd-proxy"]
    variables = {entry["name"]: entry.get("value") for entry in proxy["env"]}
    attributes = variables["LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES"]
    assert attributes.splitlines()[-2:] == ["a=1", "b=2"]
    volumes = [volume["name"] for volume in injection.pod["spec"]["volumes"]]
    assert volumes[-2:] == ["linkerd-podinfo", "linkerd-identity-token"]
    assert "linkerd-podinfo" in [mount["name"] for mount in proxy["volumeMounts"]]


@pytest.mark.parametrize(
    ("own", "of_namespace", "owner"),
    [
        ({"proxy-version": 'edge"'}, {}, ""),
        ({"proxy-version": "edge\n" + ENV}, {}, ""),
        ({}, {"proxy-version": "edge\\"}, ""),
        ({}, {"proxy-additional-env": json.dumps([EVIL])}, ""),
        ({}, {"image-pull-policy": "Always\n" + ENV}, ""),
        ({}, {}, 'shop"'),
    ],
)
def test_a_broken_patch_leaves_the_pod_bare(
    own: dict[str, str], of_namespace: dict[str, str], owner: str
) -> None:
    submitted = pod({CONFIG + name: value for name, value in own.items()}, owner)
    annotations = {CONFIG + name: value for name, value in of_namespace.items()}
    injection = inject(submitted, {"metadata": {"annotations": annotations}}, InjectorConfig())
    assert injection.skipped == ()
    assert injection.text
    assert not injection.patch
    assert injection.pod == submitted


def test_a_namespaces_variables_are_no_problem_if_the_pod_has_its_own() -> None:
    key = CONFIG + "proxy-additional-env"
    of = {"metadata": {"annotations": {key: json.dumps([EVIL])}}}
    injection = inject(pod({key: "[]"}), of, InjectorConfig())
    assert containers(injection)["linkerd-proxy"]["env"][-1] == EVIL


def test_a_skipped_pods_annotation_is_pasted_too() -> None:
    of = {"metadata": {"annotations": {CONFIG + "opaque-ports": '1"'}}}
    injection = inject(pod({"linkerd.io/inject": "disabled"}), of, InjectorConfig())
    assert injection.skipped
    assert injection.text
    assert not injection.patch


OPERATION = '"},{"op":"add","path":"/metadata/annotations/evil","value":"yes'


@pytest.mark.parametrize(("version", "owner"), [("edge" + OPERATION, ""), ("", "shop" + OPERATION)])
def test_quotes_can_add_operations_to_the_patch(version: str, owner: str) -> None:
    own = {CONFIG + "proxy-version": version} if version else {}
    injection = inject(pod(own, owner), None, InjectorConfig())
    assert "linkerd-proxy" in containers(injection)
    assert "/metadata/annotations/evil" in [operation["path"] for operation in injection.patch]


def test_an_operation_that_does_not_apply_is_an_error_of_the_api_server() -> None:
    injection = inject(pod(owner='x"},{"op":"remove","path":"/none'), None, InjectorConfig())
    assert injection.patch
    with pytest.raises(InjectionError):
        _ = injection.pod


@pytest.mark.parametrize("value", ["a: b", "Always\n- x", '"', "Always\n&a *b", "x\x07"])
def test_yaml_that_does_not_parse_leaves_a_container_without_a_name(value: str) -> None:
    for container in injected(CONFIG + "image-pull-policy", value).pod["spec"]["initContainers"]:
        assert container.keys() == {"Error"}


def test_yaml_reads_dates_and_times_as_strings() -> None:
    for value in ("1:30", "2026-01-01"):
        proxy = containers(injected(CONFIG + "image-pull-policy", value))["linkerd-proxy"]
        assert proxy["imagePullPolicy"] == value


P = "LINKERD2_PROXY_"
# An annotation's value, and the fields that it changes in the proxy's container (a variable without
# its prefix, or a field) and in the init container.
TABLE = [
    ("access-log", "json", "ACCESS_LOG", ""),
    (
        "admin-port",
        "5191",
        "ADMIN_LISTEN_ADDR livenessProbe ports readinessProbe startupProbe",
        "args",
    ),
    ("control-port", "5190", "CONTROL_LISTEN_ADDR", "args"),
    ("default-inbound-policy", "deny", "INBOUND_DEFAULT_POLICY", ""),
    ("default-inbound-policy", "nonsense", "", ""),
    ("enable-external-profiles", "true", "DESTINATION_PROFILE_SUFFIXES", ""),
    ("enable-gateway", "true", "INBOUND_GATEWAY_SUFFIXES", ""),
    ("image-pull-policy", "Always", "imagePullPolicy", "imagePullPolicy"),
    ("inbound-port", "5143", "INBOUND_LISTEN_ADDR ports", "args"),
    ("inbound-port", "4143", "", ""),
    ("opaque-ports", "", "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", ""),
    ("outbound-port", "5140", "OUTBOUND_LISTEN_ADDR OUTBOUND_LISTEN_ADDRS", "args"),
    ("pod-inbound-ports", "1", "", ""),
    ("proxy-admin-shutdown", "enabled", "SHUTDOWN_ENDPOINT_ENABLED", ""),
    ("proxy-await", "disabled", "startupProbe", ""),
    ("proxy-cpu-limit", "1500m", "CORES_MAX resources", "resources"),
    ("proxy-cpu-ratio-limit", "0.5", "CORES_MAX_RATIO", ""),
    ("proxy-cpu-request", "100m", "resources", "resources"),
    ("proxy-gid", "-1", "", ""),
    ("proxy-gid", "2102", "securityContext", "args"),
    ("proxy-image", "mirror.example.com/proxy", "image", "image"),
    ("proxy-log-format", "json", "LOG_FORMAT", ""),
    ("proxy-log-http-headers", "insecure", "LOG", ""),
    ("proxy-memory-limit", "256Mi", "resources", "resources"),
    ("proxy-metrics-hostname-labels", "true", "OUTBOUND_METRICS_HOSTNAME_LABELS", ""),
    ("proxy-require-identity-inbound-ports", "80", "INBOUND_PORTS_REQUIRE_IDENTITY", ""),
    ("proxy-uid", "0", "securityContext", "args"),
    ("proxy-version", "edge-1", "image", "image"),
    ("skip-inbound-ports", "4222", "", "args"),
    ("skip-outbound-ports", "", "", "args"),
    ("skip-subnets", "10.0.0.0/8", "", "args"),
    ("close-wait-timeout", "500ms", "", ""),
    ("shutdown-grace-period", "30s", "SHUTDOWN_GRACE_PERIOD", ""),
]


@pytest.mark.parametrize("config", [InjectorConfig(), CNI], ids=["init", "cni"])
@pytest.mark.parametrize(("annotation", "value", "of_proxy", "of_init"), TABLE)
def test_an_annotation_changes_these_fields_and_no_others(
    annotation: str, value: str, of_proxy: str, of_init: str, config: InjectorConfig
) -> None:
    before = containers(injected(config=config))
    after = containers(injected(CONFIG + annotation, value, config))
    assert after.keys() == before.keys()
    changed = {name: set(_changed(before[name], after[name])) for name in before}
    assert changed.pop("linkerd-proxy") == set(of_proxy.split())
    assert changed.pop("app") == set()
    # The validator's arguments are constant: with CNI, annotations do not change them.
    ((_, of_first),) = changed.items()
    assert of_first == set(of_init.split()) - ({"args"} if config.cni else set())


def _changed(before: Json, after: Json) -> Iterator[str]:
    for field in before.keys() | after.keys():
        if field == "env":
            old, new = _variables(before), _variables(after)
            yield from (
                name.removeprefix(P)
                for name in old.keys() | new.keys()
                if old.get(name) != new.get(name)
            )
        elif before.get(field) != after.get(field):
            yield field


def _variables(container: Json) -> Json:
    return {entry["name"]: entry for entry in container["env"]}
