"""The API server's defaults: set in a Deployment, so that an operator can find real changes, or
removed from a pod, so that it can be compared with what a stand-in makes.

Only the fields that the manifests of tests.standins use are supported. A dry run would set all of
them, but it also calls the admission webhooks, whose changes the operator must find.
"""

import copy
from typing import Any

Json = dict[str, Any]


def defaulted(deployment: Json) -> Json:
    """Return the Deployment as the API server (1.37) would store its spec without webhooks."""
    filled = copy.deepcopy(deployment)
    spec = filled["spec"]
    _fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    _fill(
        spec,
        strategy={
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
        },
    )
    pod = spec["template"]["spec"]
    _fill(
        pod,
        dnsPolicy="ClusterFirst",
        restartPolicy="Always",
        schedulerName="default-scheduler",
        securityContext={},
        terminationGracePeriodSeconds=30,
    )
    if "serviceAccountName" in pod:
        _fill(pod, serviceAccount=pod["serviceAccountName"])
    for container in pod["containers"]:
        _fill_container(container)
    return filled


def _fill_container(container: Json) -> None:
    _fill(
        container,
        imagePullPolicy=_pull_policy(container["image"]),
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
    )
    for port in container.get("ports", ()):
        _fill(port, protocol="TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(name):
            _fill(probe, failureThreshold=3, periodSeconds=10, successThreshold=1, timeoutSeconds=1)
            if "httpGet" in probe:
                _fill(probe["httpGet"], scheme="HTTP")


def _pull_policy(image: str) -> str:
    name = image.rpartition("/")[2]
    latest = name.endswith(":latest") or not {":", "@"} & set(name)
    return "Always" if latest else "IfNotPresent"


def _fill(obj: Json, **defaults: Any) -> None:
    for field, value in defaults.items():
        obj.setdefault(field, value)


#: Fields that the API server fills in, anywhere in the object.
_DEFAULTS: Json = {
    "imagePullPolicy": ("Always", "IfNotPresent"),
    "terminationMessagePath": ("/dev/termination-log",),
    "terminationMessagePolicy": ("File",),
    "protocol": ("TCP",),
    "scheme": ("HTTP",),
    "successThreshold": (1,),
    "failureThreshold": (3,),
    "periodSeconds": (10,),
    "timeoutSeconds": (1,),
    "defaultMode": (420,),
    "apiVersion": ("v1",),
    "service": ("",),
    "value": ("",),
    "resources": ({},),
    "volumeMounts": ([],),
}


def stripped(value: Any) -> Any:
    """Return a pod, or a part of one, without what the API server fills in."""
    if isinstance(value, dict):
        inner = {key: stripped(part) for key, part in value.items()}
        return {key: part for key, part in inner.items() if part not in _DEFAULTS.get(key, ())}
    if isinstance(value, list):
        return [stripped(inner) for inner in value if not _is_account(inner)]
    return value


def _is_account(value: Any) -> bool:
    """Return whether it is the volume or mount that the API server adds for the ServiceAccount."""
    return isinstance(value, dict) and str(value.get("name", "")).startswith("kube-api-access-")


def differences(real: Any, made: Any, path: str = "") -> list[str]:
    """Return the differences of two objects in words; the real one is first."""
    if isinstance(real, dict) and isinstance(made, dict):
        return [
            text
            for key in sorted({*real, *made})
            for text in differences(real.get(key), made.get(key), f"{path}/{key}")
        ]
    if isinstance(real, list) and isinstance(made, list) and len(real) == len(made):
        return [
            text
            for index, (one, other) in enumerate(zip(real, made, strict=True))
            for text in differences(one, other, f"{path}[{index}]")
        ]
    return [] if real == made else [f"{path}: {real} is not {made}"]
