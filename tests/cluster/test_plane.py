"""The test cluster itself: the properties that other tests rely on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.api import Api, Json, wait_for
from tests.cluster.plane import STAY_ANNOTATION, ControlPlane
from tests.cluster.process import Process, ProcessError

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
