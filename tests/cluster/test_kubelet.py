"""The server's kubelet and the chart's release, on a chart and a server that are tiny."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.certificates import Authority
from tests.cluster.helm import Release
from tests.cluster.kubelet import ServerKubelet
from tests.cluster.plane import CommandError, ControlPlane, is_ready
from tests.cluster.process import ProcessError

TINY = (sys.executable, str(Path(__file__).with_name("tiny_server.py")))

# What our own chart uses and the test kubelet must support.
LABELS = {"app.kubernetes.io/name": "mendix-mesh", "app.kubernetes.io/instance": "tiny"}
CONTAINER = {
    "name": "mendix-mesh",
    "image": "mendix-mesh",
    "args": [
        "serve",
        "--listen=0.0.0.0:10250",
        "--settings=/etc/mendix-mesh/settings.yaml",
        "--tls-cert-file=/etc/mendix-mesh/tls/tls.crt",
        "--tls-private-key-file=/etc/mendix-mesh/tls/tls.key",
    ],
    "ports": [{"name": "https", "containerPort": 10250}],
    "readinessProbe": {
        "httpGet": {"scheme": "HTTPS", "port": "https", "path": "/readyz"},
        "failureThreshold": 1,
    },
    "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    "volumeMounts": [
        {
            "name": "settings",
            "mountPath": "/etc/mendix-mesh/settings.yaml",
            "subPath": "settings.yaml",
        },
        {"name": "tls", "mountPath": "/etc/mendix-mesh/tls"},
    ],
}
VOLUMES = [
    {"name": "settings", "configMap": {"name": "mendix-mesh-settings"}},
    {"name": "tls", "secret": {"secretName": "mendix-mesh-tls"}},
]
WEBHOOK = {
    "name": "tiny.tests.mendix-mesh.io",
    "failurePolicy": "Fail",
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
    "namespaceSelector": {"matchLabels": {"tiny": "{{ .Release.Namespace }}"}},
    "clientConfig": {
        "service": {"name": "mendix-mesh", "namespace": "{{ .Release.Namespace }}"},
        "caBundle": "{{ .Values.tls.caBundle }}",
    },
    "rules": [
        {
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["services"],
        }
    ],
}


def _templates() -> list[Json]:
    settings = '{"response": {"allowed": false, "status": {"message": "{{ .Values.message }}"}}}'
    template = {
        "metadata": {
            "labels": LABELS,
            # As in our chart: new settings are a new pod.
            "annotations": {
                "tests.mendix-mesh.io/kubelet": (
                    '{{ index .Values.podAnnotations "tests.mendix-mesh.io/kubelet" }}'
                ),
                "message": "{{ .Values.message }}",
            },
        },
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [CONTAINER],
            "volumes": VOLUMES,
        },
    }
    return [
        _object("v1", "ConfigMap", "mendix-mesh-settings", data={"settings.yaml": settings}),
        _object(
            "v1",
            "Service",
            "mendix-mesh",
            spec={"selector": LABELS, "ports": [{"port": 443, "targetPort": "https"}]},
        ),
        _object(
            "apps/v1",
            "Deployment",
            "mendix-mesh",
            spec={
                "replicas": 2,
                "selector": {"matchLabels": LABELS},
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": template,
            },
        ),
        _object(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            "{{ .Release.Namespace }}",
            webhooks=[WEBHOOK],
        ),
    ]


def _object(version: str, kind: str, name: str, **rest: object) -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **rest}


@pytest.fixture(scope="module")
def release(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Release:
    chart = tmp_path_factory.mktemp("chart")
    (chart / "templates").mkdir()
    about = {"apiVersion": "v2", "name": "tiny", "version": "0.1.0"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    (chart / "values.yaml").write_text("message: first\n")
    (chart / "templates" / "all.yaml").write_text(yaml.safe_dump_all(_templates()))
    where = plane.new_namespace("tiny")
    return Release(plane, name="tiny", namespace=where, chart=chart)


@pytest.fixture(scope="module")
def kubelet(plane: ControlPlane, release: Release) -> Iterator[ServerKubelet]:
    with ServerKubelet(plane, release.namespace, release.labels, command=TINY) as running:
        release.install()
        running.wait_ready(2)
        yield running
    assert running.crashes == []


@pytest.fixture
def ask(plane: ControlPlane, release: Release, kubelet: ServerKubelet) -> Callable[[], str]:
    """Return a function that calls the webhook and returns the end of its denial."""
    watched = plane.new_namespace(labels={"tiny": release.namespace})

    def ask() -> str:
        with pytest.raises(StatusError) as denied:
            plane.api.create(_reviewed(watched), dry_run=True)
        return denied.value.message.rpartition(": ")[2]

    wait_for(lambda: _is_reviewed(plane.api, watched), why="the webhook to be called")
    return ask


def _is_reviewed(api: Api, namespace: str) -> bool:
    try:
        api.create(_reviewed(namespace), dry_run=True)
    except StatusError:
        return True
    return False


def _reviewed(namespace: str) -> Json:
    """Return an object that the webhook reviews, and always denies."""
    service = _object("v1", "Service", "asked", spec={"ports": [{"port": 80}]})
    service["metadata"]["namespace"] = namespace
    return service


def test_the_pods_own_command_answers_through_the_charts_service(
    plane: ControlPlane, release: Release, kubelet: ServerKubelet, ask: Callable[[], str]
) -> None:
    assert ask() == "first"
    pods = plane.api.list("Pod", release.namespace)
    assert set(kubelet.addresses()) == {f"{pod['status']['podIP']}:10250" for pod in pods}
    assert kubelet.processes.keys() == {pod["metadata"]["name"] for pod in pods}
    assert all(map(is_ready, pods))


def test_paused_servers_reject_connections_while_their_pods_stay_ready(
    plane: ControlPlane, release: Release, kubelet: ServerKubelet, ask: Callable[[], str]
) -> None:
    before = plane.api.list("Pod", release.namespace)
    kubelet.pause()
    try:
        assert ask() == "connection refused"
        paused = plane.api.list("Pod", release.namespace)
        assert [pod["status"] for pod in paused] == [pod["status"] for pod in before]
    finally:
        kubelet.resume()
    assert ask() == "first"


def test_a_renewed_certificate_reaches_the_servers_files_by_a_swapped_link(
    plane: ControlPlane, release: Release, kubelet: ServerKubelet
) -> None:
    pair = release.renew_certificate(Authority("another"))
    folders = [
        plane.workdir / "pods" / f"{release.namespace}_{name}" / "volumes" / "tls"
        for name in kubelet.processes
    ]
    assert len(folders) == 2
    for folder in folders:
        wait_for(
            lambda f=folder: (f / "tls.crt").read_bytes() == pair.cert,  # type: ignore[misc]
            why="the renewed certificate",
        )
        assert (folder / "tls.key").read_bytes() == pair.key
        assert (folder / "tls.crt").readlink() == Path("..data/tls.crt")
    release.renew_certificate()


def test_a_rollout_replaces_the_processes_and_never_leaves_the_service_alone(
    plane: ControlPlane, release: Release, kubelet: ServerKubelet, ask: Callable[[], str]
) -> None:
    old = {name: process.pid for name, process in kubelet.processes.items()}
    release.upgrade({"message": "second"}, wait=False)
    answers = []

    def replaced() -> bool:
        answers.append(ask())
        return len(kubelet.processes) == 2 and not kubelet.processes.keys() & old.keys()

    wait_for(replaced, seconds=30, why="the new pods")
    kubelet.wait_ready(2)
    assert ask() == "second"
    # Each denial comes from a server, none from the lack of a server.
    assert set(answers) <= {"first", "second"}
    wait_for(
        lambda: len(plane.api.list("Pod", release.namespace)) == 2, why="the old pods to be gone"
    )


def test_a_server_that_dies_is_named_and_its_pod_is_no_longer_ready(
    plane: ControlPlane, namespace: Callable[..., str]
) -> None:
    where = namespace()
    broken = {**CONTAINER, "args": ["serve", "--no-such-flag"], "volumeMounts": []}
    plane.api.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "broken",
                "namespace": where,
                "labels": LABELS,
                "annotations": {"tests.mendix-mesh.io/kubelet": "server"},
            },
            "spec": {"automountServiceAccountToken": False, "containers": [broken]},
        }
    )
    with (
        ServerKubelet(plane, where, LABELS, command=TINY) as kubelet,
        pytest.raises(
            ProcessError, match=r"server of pod broken ended(?s:.*)tiny_server.py: error"
        ),
    ):
        kubelet.wait_ready()
    assert len(kubelet.crashes) == 1
    assert not is_ready(plane.api.get("Pod", "broken", where))


def test_what_helm_says_about_a_bad_release_is_shown(
    release: Release, kubelet: ServerKubelet
) -> None:
    with pytest.raises(CommandError, match="cannot reuse a name that is still in use"):
        release.install()
