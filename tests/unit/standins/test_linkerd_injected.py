"""The stand-in injector's pods are those in the golden file, which `make golden` writes.

The file has the three kinds of injected pods, and for each case its differences to one of them.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonpatch
import pytest
import yaml

from tests.standins.linkerd import InjectionError, InjectorConfig, inject

Json = dict[str, Any]

GOLDEN = Path(__file__).with_name("linkerd.golden.yaml")
CONFIG, ALPHA, BETA = (f"config.{stage}linkerd.io/" for stage in ("", "alpha.", "beta."))
NATIVE = "proxy-enable-native-sidecar"
TRACE = "resource.opentelemetry.io/"
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
EVIL = {"name": "LINKERD2_PROXY_LOG", "value": "evil"}
ENV = f"env: [{json.dumps(EVIL)}]"
OPERATION = '"},{"op":"add","path":"/metadata/annotations/evil","value":"yes'


class Case(NamedTuple):
    """A pod's annotations, its namespace's, the injector's settings, and the pod's own fields."""

    own: dict[str, str] = {}  # noqa: RUF012
    of_namespace: dict[str, str] = {}  # noqa: RUF012
    config: InjectorConfig = InjectorConfig()
    container: Json = {}  # noqa: RUF012
    owners: tuple[tuple[str, str], ...] = ()
    owner: tuple[str, str] | None = None


KINDS = {
    "native": InjectorConfig(),
    "classic": InjectorConfig(native=False),
    "cni": InjectorConfig(cni=True),
}
CLASSIC, CNI = KINDS["classic"], KINDS["cni"]

#: Annotations of a pod below `config.linkerd.io/`.
VALUES = """
access-log=apache|access-log=json|admin-port=9191|close-wait-timeout=500ms|control-port=9190
default-inbound-policy=all|default-inbound-policy=audit|default-inbound-policy=deny
default-inbound-policy=nonsense|enable-debug-sidecar=true|enable-debug-sidecar=yes
enable-external-profiles=true|enable-gateway=true|image-pull-policy=Always|image-pull-policy=1:30
image-pull-policy=2026-01-01|inbound-port=9143|inbound-port=9_143|inbound-port=4143
opaque-ports=|opaque-ports=80, 90-95,x,|opaque-ports=http|outbound-port=9140|pod-inbound-ports=1,2
proxy-additional-env=|proxy-additional-env={|proxy-additional-env=[1]|proxy-additional-env=null
proxy-additional-env=[{"value": "x"}]|proxy-admin-shutdown=enabled|proxy-admin-shutdown=true
proxy-await=disabled|proxy-cpu-limit=3|proxy-cpu-limit=1500m|proxy-cpu-limit=a
proxy-cpu-ratio-limit=0.5|proxy-cpu-request=1500m|proxy-cpu-request=100m
proxy-disable-outbound-protocol-detect-timeout=true|proxy-gid=-1|proxy-gid=3000|proxy-gid=0
proxy-image=mirror:5000/l5d|proxy-inbound-connect-timeout=1m1.5s
proxy-inbound-connect-timeout=soon|proxy-inbound-discovery-cache-unused-timeout=1m
proxy-log-format=json|proxy-log-http-headers=insecure|proxy-log-http-headers=all
proxy-log-level=debug|proxy-memory-limit=64Mi|proxy-metrics-hostname-labels=t
proxy-outbound-connect-timeout=2s|proxy-require-identity-inbound-ports=80|proxy-uid=3000
proxy-uid=0|proxy-uid=root|proxy-version=edge-1|proxy-version=|shutdown-grace-period=30s
skip-inbound-ports=80|skip-inbound-ports=1-65535|skip-inbound-ports=|skip-outbound-ports=5432
skip-outbound-ports=|skip-subnets=10.0.0.0/8|trace-collector=1
"""

#: Values that Linkerd pastes into text without quotes, and values that it quotes.
PASTED = {
    "pull policy writes env": (CONFIG + "image-pull-policy", f"Always\n{ENV}"),
    "pull policy writes other fields": (
        CONFIG + "image-pull-policy",
        "Always\nimage: evil\nworkingDir: /evil\nname: other\nsecurityContext: {}",
    ),
    "image writes env": (CONFIG + "proxy-image", f"evil/proxy:1\n{ENV}\n#"),
    "inbound ports add arguments": (
        CONFIG + "skip-inbound-ports", '1"\n- --subnets-to-ignore\n- "0.0.0.0/0',
    ),
    "version breaks the patch": (CONFIG + "proxy-version", 'edge"'),
    "version with a line break breaks the patch": (CONFIG + "proxy-version", f"edge\n{ENV}"),
    "version adds an operation": (CONFIG + "proxy-version", f"edge{OPERATION}"),
    "attribute without tracing": (TRACE + "service.version", "1\nenv: []"),
    **{
        f"{name} is quoted": (CONFIG + name, f"x\"\n{ENV}\n- é😀\x85\t'")
        for name in (
            "access-log", "proxy-log-format", "proxy-log-level", "skip-outbound-ports",
            "proxy-require-identity-inbound-ports", "skip-subnets",
        )
    },
    **{
        f"pull policy does not parse, {number}": (CONFIG + "image-pull-policy", value)
        for number, value in enumerate(("a: b", "Always\n- x", '"', "Always\n&a *b", "x\x07"))
    },
}  # fmt: skip


def cases() -> Iterator[tuple[str, str, Case]]:
    """Yield the kind of each case's pod, the case's name, and the case."""
    for row in filter(None, VALUES.replace("\n", "|").split("|")):
        name, _, value = row.partition("=")
        yield "native", row, Case({CONFIG + name: value}, config=KINDS["native"])
        if name.startswith(("skip-", "proxy-uid", "proxy-gid", "inbound-", "image-")):
            yield "cni", row, Case({CONFIG + name: value}, config=CNI)
    for what, (key, value) in PASTED.items():
        for kind, config in KINDS.items():
            yield kind, what, Case({key: value}, config=config)
    both = {CONFIG + "proxy-image": "evil", CONFIG + "proxy-version": "1"}
    for kind, name, case in (
        ("native", "image and version", Case(both)),
        ("classic", "without await", Case({CONFIG + "proxy-await": "disabled"}, config=CLASSIC)),
        ("classic", "waits before exit",
         Case({ALPHA + "proxy-wait-before-exit-seconds": "9"}, config=CLASSIC)),
        ("native", "waits before exit", Case({ALPHA + "proxy-wait-before-exit-seconds": "9"})),
        ("classic", "debug", Case({CONFIG + "enable-debug-sidecar": "true"}, config=CLASSIC)),
        ("native", "debug policy is pasted",
         Case({CONFIG + "debug-image-pull-policy": "Always\nsecurityContext: {privileged: true}"},
              config=InjectorConfig(debug=True))),
        ("native", "trust anchors", Case(config=InjectorConfig(trust_anchors="PEM\n"))),
        ("native", "another namespace", Case(config=InjectorConfig(control_plane_namespace="m"))),
        ("native", "close wait as root",
         Case({CONFIG + "close-wait-timeout": "1m"}, config=InjectorConfig(init_as_root=True))),
        ("native", "close wait", Case({CONFIG + "close-wait-timeout": "30s"})),
        ("native", "capabilities", Case(container={"securityContext": {
            "capabilities": {"add": ["CHOWN"], "drop": ["NET_RAW", "SYS_ADMIN"]}}})),
        ("native", "own token", Case(config=InjectorConfig(token_projection=False),
         container={"volumeMounts": [{"name": "t", "mountPath": TOKEN, "readOnly": True}]})),
        ("native", "opaque by default",
         Case(container={"ports": [{"containerPort": 5432}, {"containerPort": 80}]})),
        ("native", "inherited", Case(
            {CONFIG + "skip-inbound-ports": "3"},
            {CONFIG + "skip-inbound-ports": "1", CONFIG + "skip-outbound-ports": "2",
             CONFIG + "enable-gateway": "true", CONFIG + "unknown": "x", "other.example/key": "x"},
        )),
        ("native", "variables", Case(
            {CONFIG + "proxy-additional-env": '[{"name": "C", "value": "pod"}]'},
            {CONFIG + "proxy-additional-env": "[]"},
            InjectorConfig(additional_env=({"name": "A", "value": "x"}, EVIL)),
        )),
        ("native", "namespace's variables break the patch",
         Case(of_namespace={CONFIG + "proxy-additional-env": json.dumps([EVIL])})),
        ("native", "namespace's policy breaks the patch",
         Case(of_namespace={CONFIG + "image-pull-policy": f"Always\n{ENV}"})),
        ("native", "namespace's opaque ports break the patch of a skipped pod", Case(
            {"linkerd.io/inject": "disabled"}, {CONFIG + "opaque-ports": '1"'})),
        ("native", "traced", Case({TRACE + "b": "2", TRACE + "a": "1"},
                                  config=InjectorConfig(tracing=True))),
        ("native", "attribute writes env", Case({TRACE + "z": f"v\nenv:\n- {json.dumps(EVIL)}"},
                                                config=InjectorConfig(tracing=True))),
        ("native", "owner breaks the patch", Case(owners=(("ReplicaSet", 'shop"'),))),
        ("native", "owner adds an operation", Case(owners=(("ReplicaSet", f"s{OPERATION}"),))),
        ("native", "owner's operation does not apply",
         Case(owners=(("ReplicaSet", 'x"},{"op":"remove","path":"/none'),))),
    ):  # fmt: skip
        yield kind, name, case
    for kinds, owner in (
        (("ReplicaSet",), None), (("ReplicaSet",), ("Deployment", "shop")), (("Job",), None),
        (("Job",), ("CronJob", "nightly")), (("StatefulSet",), None), (("DaemonSet",), None),
        (("Build",), None), (("StorageInstance",), None), (("Job", "Job"), None),
    ):  # fmt: skip
        owners = tuple((kind, f"x-{number}") for number, kind in enumerate(kinds))
        yield "native", f"owned by {kinds} of {owner}", Case(owners=owners, owner=owner)
    for native, key, at_pod, at_namespace in (
        (True, CONFIG, "false", None), (False, CONFIG, "true", None), (False, BETA, "true", None),
        (False, ALPHA, "1", None), (False, CONFIG, None, "true"), (False, ALPHA, None, "true"),
        (False, BETA, None, "true"),
    ):  # fmt: skip
        yield (
            ("native" if native else "classic"),
            f"{key}{NATIVE} {at_pod} {at_namespace}",
            Case(
                {key + NATIVE: at_pod} if at_pod else {},
                {key + NATIVE: at_namespace} if at_namespace else {},
                InjectorConfig(native=native),
            ),
        )
    for stable, beta, alpha in (("false", "true", ""), ("", "false", "true"), ("yes", "true", "")):
        values = {CONFIG: stable, BETA: beta, ALPHA: alpha}
        own = {prefix + NATIVE: value for prefix, value in values.items() if value}
        yield "native", f"{stable}, {beta}, {alpha}", Case(own)
    for of_pod, of_namespace in (
        (None, "ingress"), ("enabled", "ingress"), ("", "ingress"), ("ingress", "enabled"),
        ("ingress", None), (None, "enabled"),
    ):  # fmt: skip
        yield (
            "native",
            f"inject: {of_pod}, namespace's: {of_namespace}",
            Case(
                {"linkerd.io/inject": of_pod} if of_pod is not None else {"linkerd.io/inject": "-"},
                {"linkerd.io/inject": of_namespace} if of_namespace else {},
            ),
        )


def app(case: Case) -> Json:
    """Return an app's pod with its own init container, probes and volume."""
    annotations = {"linkerd.io/inject": "enabled", **case.own}
    if annotations["linkerd.io/inject"] == "-":
        del annotations["linkerd.io/inject"]
    ports = [{"containerPort": 8080, "name": "http"}]
    probes = {
        "readinessProbe": {"httpGet": {"path": "/", "port": 8800}},
        "livenessProbe": {"httpGet": {"path": "/", "port": "named"}},
    }
    metadata: Json = {
        "name": "shop", "namespace": "mendix", "labels": {"node-type": "master"},
        "annotations": annotations,
    }  # fmt: skip
    if case.owners:
        metadata["ownerReferences"] = [{"kind": kind, "name": name} for kind, name in case.owners]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "initContainers": [{"name": "prepare", "image": "prepare:1"}],
            "containers": [
                {"name": "mendix", "image": "shop:1", "ports": ports, **case.container},
                {"name": "m2ee-sidecar", "image": "m2ee:1", **probes},
            ],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        },
    }


def result(case: Case) -> Json:
    """Return the injected pod, or why there is none."""
    submitted = app(case)
    of = {"metadata": {"name": "mendix", "annotations": case.of_namespace}}
    owner = {"kind": case.owner[0], "name": case.owner[1]} if case.owner else None
    try:
        injection = inject(submitted, of, case.config, owner=owner)
        made: Json = injection.pod
    except InjectionError as error:
        return {"error": str(error)}
    assert jsonpatch.apply_patch(submitted, json.loads(json.dumps(injection.patch))) == made
    if injection.text and not injection.patch:
        return {"broken patch": made == submitted, "skipped": list(injection.skipped)}
    return made


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield each difference of two objects on one line. Entries of lists are compared by name."""
    if isinstance(before, list) and isinstance(after, list):
        before, after = ({_name(one, at): one for at, one in enumerate(each)}
                         for each in (before, after))  # fmt: skip
        if [name for name in before if name in after] != [name for name in after if name in before]:
            yield f"{path}: order {' '.join(after)}"
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after:
            yield f"{path}: {json.dumps(before)} -> {json.dumps(after)}"
        return
    if removed := [key for key in before if key not in after]:
        yield f"{path} - {' '.join(removed)}"
    for key in after:
        if key not in before:
            yield f"{path}/{key} + {json.dumps(after[key], sort_keys=True)}"
        else:
            yield from differences(before[key], after[key], f"{path}/{key}")


def _name(entry: Any, at: int) -> str:
    return str(entry.get("name", at)) if isinstance(entry, dict) else str(at)


def outcome() -> Json:
    """Return what the golden file should have."""
    pods = {kind: result(Case(config=config)) for kind, config in KINDS.items()}
    found: Json = {kind: json.loads(json.dumps(pod)) for kind, pod in pods.items()}
    for kind, name, case in cases():
        made = result(case)
        same = "spec" in made
        found[f"{kind}: {name}"] = list(differences(pods[kind], made)) if same else made
    return found


EXPECTED = yaml.safe_load(GOLDEN.read_text()) if GOLDEN.exists() else {}


@pytest.fixture(scope="module")
def found() -> Json:
    return outcome()


def test_every_case_is_in_the_golden_file(found: Json) -> None:
    assert found.keys() == EXPECTED.keys(), "run `make golden`"


@pytest.mark.parametrize("name", EXPECTED)
def test_the_pod_is_the_golden_one(name: str, found: Json) -> None:
    assert found[name] == EXPECTED[name], "run `make golden`, and review the difference"


if __name__ == "__main__":
    GOLDEN.write_text(yaml.safe_dump(outcome(), sort_keys=False, width=1000, allow_unicode=True))
