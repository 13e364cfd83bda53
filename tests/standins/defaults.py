"""Sets the API server's defaults in a Deployment, so that an operator can find real changes.

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
