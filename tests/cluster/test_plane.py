"""The test cluster itself: the properties that other tests rely on."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.certificates import Authority
from tests.cluster.plane import STAY_ANNOTATION, CommandError, ControlPlane
from tests.cluster.process import Process, ProcessError

TINY_SERVER = Path(__file__).with_name("tiny_server.py")
Namespace = Callable[..., str]


@pytest.fixture
def api(plane: ControlPlane) -> Api:
    return plane.api


def pod(namespace: str, name: str = "task", **spec: object) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "app"}], **spec},
    }


def phase(api: Api, obj: Json) -> str:
    meta = obj["metadata"]
    return str(api.get("Pod", meta["name"], meta["namespace"])["status"].get("phase"))


def reaches(api: Api, obj: Json, wanted: str) -> None:
    name = obj["metadata"]["name"]
    wait_for(lambda: phase(api, obj) == wanted, why=f"pod {name} to be {wanted}")


def test_a_deployment_becomes_available(api: Api, namespace: Namespace) -> None:
    where = namespace()
    template = pod(where, "shop", restartPolicy="Always")
    api.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "shop", "namespace": where},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "shop"}},
                "template": {
                    "metadata": {"labels": {"app": "shop"}},
                    "spec": template["spec"],
                },
            },
        }
    )
    wait_for(
        lambda: (
            api.get("Deployment", "shop", where).get("status", {}).get("availableReplicas") == 2
        ),
        why="two available replicas",
    )
    pods = api.list("Pod", where, labels="app=shop")
    assert {p["kind"] for p in pods} == {"Pod"}
    assert len({p["status"]["podIP"] for p in pods}) == 2


@pytest.mark.parametrize("sidecar", [False, True], ids=["plain", "native sidecar"])
def test_a_job_completes(api: Api, namespace: Namespace, sidecar: bool) -> None:
    where = namespace()
    proxy = {"name": "linkerd-proxy", "image": "proxy", "restartPolicy": "Always"}
    setup = {"name": "setup", "image": "setup"}
    spec = pod(where, initContainers=[setup, proxy] if sidecar else [setup])["spec"]
    api.create(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "build", "namespace": where},
            "spec": {"template": {"spec": spec}},
        }
    )
    wait_for(
        lambda: api.get("Job", "build", where).get("status", {}).get("succeeded"),
        why="the job to complete",
    )
    [finished] = api.list("Pod", where)
    for status in finished["status"]["initContainerStatuses"]:
        assert status["state"]["terminated"]["reason"] == "Completed"


def test_task_pods_end_unless_they_must_stay_or_have_a_classic_sidecar(
    api: Api, namespace: Namespace
) -> None:
    where = namespace()
    proxy = {"name": "linkerd-proxy", "image": "proxy"}
    app = {"name": "app", "image": "app"}
    bare = pod(where, "bare")
    native = pod(where, "native", initContainers=[{**proxy, "restartPolicy": "Always"}])
    stays = pod(where, "stays")
    stays["metadata"]["annotations"] = {STAY_ANNOTATION: "true"}
    held = pod(where, "held", containers=[app, proxy])
    # Pods that must not end come first: when the others have ended, these had more time.
    for obj in (stays, held, bare, native):
        api.create(obj)
        reaches(api, obj, "Running")
    for obj in (bare, native):
        reaches(api, obj, "Succeeded")
    assert phase(api, stays) == "Running"
    assert phase(api, held) == "Running"
    api.delete("Pod", "held", where)
    wait_for(lambda: len(api.list("Pod", where)) == 3, why="the held pod to be deleted")


def test_a_denial_carries_code_message_and_status(api: Api, namespace: Namespace) -> None:
    where = namespace()
    with pytest.raises(StatusError) as missing:
        api.get("Pod", "nobody", where)
    assert missing.value.code == 404
    assert missing.value.message == 'pods "nobody" not found'
    assert missing.value.status["reason"] == "NotFound"
    with pytest.raises(
        StatusError, match=r"^422: Pod \"task\" is invalid: spec.containers: Required"
    ):
        api.create(pod(where, containers=[]))


def test_rbac_is_real(plane: ControlPlane, namespace: Namespace) -> None:
    where = namespace()
    plane.kubectl("create", "rolebinding", "jane", "--clusterrole=view", "--user=jane", "-n", where)
    jane = plane.user("jane", groups=["developers"])

    def may_list() -> bool:
        # The authorizer reads bindings, and the parts of `view`, a moment after they are written.
        try:
            return jane.list("Pod", where) == []
        except StatusError:
            return False

    wait_for(may_list, why="the role binding to count")
    with pytest.raises(StatusError) as denied:
        jane.create(pod(where))
    assert denied.value.code == 403
    assert 'User "jane" cannot create resource "pods"' in denied.value.message


def test_objects_are_patched_replaced_and_listed_by_every_means(
    api: Api, namespace: Namespace
) -> None:
    where = namespace(labels={"team": "shop"}, annotations={"note": "tests"})
    assert api.get("Namespace", where)["metadata"]["annotations"] == {"note": "tests"}
    assert api.create(pod(where, "dry"), dry_run=True)["metadata"]["uid"]
    assert api.list("Pod", where) == []
    meta = {"name": "c", "namespace": where}
    stored = api.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "1"}}
    )
    stored["data"]["b"] = "2"
    stored = api.replace(stored)
    api.patch("ConfigMap", "c", where, {"data": {"a": None}})
    api.patch("ConfigMap", "c", where, [{"op": "add", "path": "/data/c", "value": "3"}], how="json")
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"d": "4"}}
    api.patch("ConfigMap", "c", where, applied, how="apply")
    api.patch("ConfigMap", "c", where, {"data": {"e": "5"}}, how="strategic")
    assert api.get("ConfigMap", "c", where)["data"] == {"b": "2", "c": "3", "d": "4", "e": "5"}
    # A kind that the client does not know by heart, found through discovery.
    policies = api.list("ValidatingAdmissionPolicy")
    assert isinstance(policies, list)
    token = api.create_subresource(
        "ServiceAccount",
        "default",
        where,
        "token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )
    assert token["status"]["token"]


def test_writes_are_audited_under_the_names_of_the_real_controllers(
    plane: ControlPlane, namespace: Namespace
) -> None:
    where = namespace()
    plane.kubectl("create", "deployment", "shop", "--image=shop", "-n", where)
    wait_for(lambda: plane.audit(namespace=where, resource="pods"), why="a pod to be created")
    event = plane.audit(namespace=where, resource="pods")[0]
    user = event["user"]["username"]
    assert user == "system:serviceaccount:kube-system:replicaset-controller"


def test_kubectl_and_helm_are_the_pinned_ones_and_say_why_they_fail(plane: ControlPlane) -> None:
    versions = json.loads(plane.kubectl("version", "-o", "json").stdout)
    assert versions["clientVersion"]["gitVersion"] == versions["serverVersion"]["gitVersion"]
    assert plane.helm("version", "--short").stdout.startswith("v4.")
    with pytest.raises(CommandError, match='pods "nobody" not found'):
        plane.kubectl("get", "pod", "nobody")
    assert plane.kubectl("get", "pod", "nobody", check=False).returncode == 1


@pytest.fixture
def webhook(plane: ControlPlane, namespace: Namespace, tmp_path: Path) -> Iterator["Webhook"]:
    """A validating webhook with failurePolicy Fail, behind a Service, for one namespace's pods."""
    watched, where = namespace(labels={"watched": "yes"}), namespace("hook")
    api = plane.api
    api.create(pod(where, "server", restartPolicy="Always"))
    reaches(api, pod(where, "server"), "Running")
    service = {"selector": {"app": "server"}, "ports": [{"port": 443, "targetPort": 10250}]}
    meta = {"name": "hook", "namespace": where}
    api.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service})
    wait_for(lambda: _endpoints(api, where), why="the Service's endpoint")

    authority = Authority("hook")
    cert, key = authority.issue("hook", hosts=[f"hook.{where}.svc"]).write(tmp_path, "tls")
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"response": {"allowed": True}}))
    ip = api.get("Pod", "server", where)["status"]["podIP"]
    server = Process(
        "tiny server",
        [
            *(sys.executable, TINY_SERVER, "serve", f"--listen={ip}:10250"),
            *(f"--tls-cert-file={cert}", f"--tls-private-key-file={key}"),
            f"--settings={settings}",
        ],
        log=tmp_path / "server.log",
    )
    wait_for(lambda: _tls_answers(server, f"https://{ip}:10250/livez"), why="the tiny server")
    plane.kubectl(
        "apply", "-f", "-", input=json.dumps(_configuration(where, watched, authority.pem.decode()))
    )
    yield Webhook(watched, server, settings)
    api.delete("ValidatingWebhookConfiguration", where)
    server.stop()


class Webhook:
    """A webhook with a given response, the namespace that it watches, and its process."""

    def __init__(self, namespace: str, server: Process, settings: Path) -> None:
        self.namespace = namespace
        self.server = server
        self._settings = settings

    def answer(self, response: Json) -> None:
        self._settings.write_text(json.dumps({"response": response}))


def _endpoints(api: Api, namespace: str) -> list[Json]:
    slices = api.list("EndpointSlice", namespace)
    return [endpoint for found in slices for endpoint in found["endpoints"] or ()]


def _tls_answers(server: Process, url: str) -> bool:
    server.check()
    try:
        return httpx.get(url, verify=False, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _configuration(service_namespace: str, watched: str, ca: str) -> Json:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": service_namespace},
        "webhooks": [
            {
                "name": "hook.tests.mendix-mesh.io",
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": watched}},
                "clientConfig": {
                    "service": {"name": "hook", "namespace": service_namespace, "path": "/x"},
                    "caBundle": base64.b64encode(ca.encode()).decode(),
                },
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
            }
        ],
    }


def test_a_webhook_behind_a_service_is_called_at_a_pod_ip(api: Api, webhook: Webhook) -> None:
    where = webhook.namespace
    # The API server learns of a new configuration a moment later.
    webhook.answer({"allowed": False, "status": {"code": 403, "message": "not today"}})

    def denied() -> StatusError | None:
        try:
            api.create(pod(where, "probe"), dry_run=True)
        except StatusError as error:
            return error
        return None

    error = wait_for(denied, why="the webhook to be called")
    assert error.code == 403
    assert (
        error.message
        == 'admission webhook "hook.tests.mendix-mesh.io" denied the request: not today'
    )

    webhook.answer({"allowed": True, "warnings": ['mind the "gap"', "and the \\ step"]})
    api.create(pod(where))
    assert api.warnings == ['mind the "gap"', "and the \\ step"]
    api.get("Pod", "task", where)
    assert api.warnings == []

    webhook.server.stop()
    with pytest.raises(
        StatusError, match=r"failed calling webhook .* connection refused"
    ) as broken:
        api.create(pod(where, "late"))
    assert broken.value.code == 500


def test_a_child_that_dies_early_is_explained_by_the_end_of_its_log(tmp_path: Path) -> None:
    script = "print('one'); raise SystemExit('two')"
    child = Process("child", [sys.executable, "-c", script], log=tmp_path / "log")
    wait_for(lambda: child.returncode is not None, why="the child to end")
    with pytest.raises(ProcessError, match=r"child ended with code 1(?s:.*)two"):
        child.check()
    with pytest.raises(ProcessError, match="no program /nowhere"):
        Process("ghost", ["/nowhere"], log=tmp_path / "log")


def test_no_child_outlives_a_parent_that_is_killed(
    plane: ControlPlane, binaries: dict[str, Path], tmp_path: Path
) -> None:
    """`plane` provides the network namespace, in which a second cluster is started."""
    script = (
        "import json, signal, sys; from pathlib import Path\n"
        "from tests.cluster.plane import ControlPlane\n"
        "binaries = {k: Path(v) for k, v in json.loads(sys.argv[2]).items()}\n"
        "with ControlPlane(Path(sys.argv[1]), binaries) as plane:\n"
        "    print(json.dumps(plane.pids), flush=True)\n"
        "    signal.pause()\n"
    )
    known = json.dumps({name: str(path) for name, path in binaries.items()})
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "second", known],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdout
        pids = json.loads(parent.stdout.readline())
        assert len(pids) == 5
        assert all(_runs(pid) for pid in pids)
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(map(_runs, pids)), why="the orphans to be gone")


def _runs(pid: int) -> bool:
    """Return whether a process runs. A zombie does not run."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
