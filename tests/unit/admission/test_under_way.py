"""A worker that ended in the middle of a review: the log names the review."""

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.unit.admission.reviews import pod, review
from tests.unit.serving.clients import ServerClient
from tests.unit.serving.server import Files, Server
from webhook.admission.under_way import identity

#: `mendix-mesh` with a policy that hangs on pods of the namespace `hangs`, in C code that no signal
#: handler of Python can interrupt, and with a short timeout of the master.
PROGRAM = """
import collections, itertools
from webhook.admission import review, server
from webhook.cli import main

judge, load = review.validate, server._Server.load_config

def validate(request, *rest, **options):
    if request.namespace == "hangs":
        print('{"event": "it hangs"}', flush=True)
        collections.deque(itertools.repeat(None), maxlen=0)
    return judge(request, *rest, **options)

def load_config(self):
    load(self)
    self.cfg.set("timeout", 5)

review.validate, server._Server.load_config = validate, load_config
main()
"""
ENFORCE = "/validate/linkerd/enforce"
MESSAGE = "a worker ended in the middle of a review"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = tmp_path_factory.mktemp("hanging") / "hanging.py"
    script.write_text(PROGRAM)
    return script


def reports(server: Server) -> list[dict[str, Any]]:
    return [entry for entry in server.logged() if entry["event"] == MESSAGE]


@pytest.mark.parametrize("end", [signal.SIGABRT, signal.SIGKILL])
def test_a_worker_that_hangs_in_a_review_is_aborted_and_the_review_is_named(
    tmp_path: Path, script: Path, end: signal.Signals
) -> None:
    """Aborted by gunicorn's master, or killed by another process."""
    files = Files(tmp_path)
    checkout = str(Path(__file__).parents[3])
    server = Server(
        tmp_path / "server.log", *files.arguments,
        program=(sys.executable, script),
        environment={**os.environ, "PYTHONPATH": checkout},
    )  # fmt: skip
    client = ServerClient(server.port, files.ca.read_text())
    hanging = review(pod(), namespace="hangs", uid="of-the-one-that-hangs")
    secret = {"name": "KEY", "value": "never-in-a-log"}
    hanging["request"]["object"]["spec"]["containers"][0]["env"] = [secret]
    try:
        assert not client.review(ENFORCE, review(pod()))["allowed"]
        (worker,) = server.workers
        with ThreadPoolExecutor(1) as pool:
            lost = pool.submit(client.review, ENFORCE, hanging)
            if end == signal.SIGKILL:
                server.wait_for("it hangs")
                os.kill(worker, end)
            server.wait_for(MESSAGE)
            assert lost.exception(timeout=10), "no answer was sent"
        (report,) = reports(server)
        assert report.pop("time")
        assert report == {
            "event": MESSAGE, "level": "error", "pid": worker,
            "uid": "of-the-one-that-hangs", "kind": "Pod", "namespace": "hangs",
            "name": pod()["metadata"]["generateName"] + "*",
        }  # fmt: skip
        assert f"was sent {end.name}!" in server.text
        assert "never-in-a-log" not in server.text
        assert not client.review(ENFORCE, review(pod()))["allowed"], "a new worker answers"
        (_, replaced) = server.workers
        os.kill(replaced, signal.SIGKILL)
        server.wait_for(rf"Worker \(pid:{replaced}\) was sent SIGKILL!")
        assert not client.review(ENFORCE, review(pod()))["allowed"]
        assert len(reports(server)) == 1, "the second worker was in no review"
    finally:
        server.stop()


def real(**request: Any) -> bytes:
    """A review in the order in which the API server writes it: the object comes last."""
    obj = {"kind": "Pod", "metadata": {"name": "not-this", "generateName": "nor-this-"}}
    common = {"uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"},
             "name": "shop", "namespace": "mendix", "userInfo": {"username": "jane"}}  # fmt: skip
    return json.dumps(
        {"kind": "AdmissionReview", "request": {**common, **request, "object": obj}}
    ).encode()


@pytest.mark.parametrize("cut", [300, 100_000])
def test_the_review_is_named_also_by_a_beginning_that_is_cut_off(cut: int) -> None:
    assert identity(real()[:cut]) == {
        "uid": "u", "kind": "Pod", "namespace": "mendix", "name": "shop"
    }  # fmt: skip


def test_what_a_caller_writes_into_a_name_stays_in_the_name() -> None:
    name = 'x", "uid": "other", "generateName":"evil'
    assert identity(real(name=name)) == {
        "uid": "u", "kind": "Pod", "namespace": "mendix", "name": name
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[" * 2048, b"{", b'{"request": {', b'{"request": {"uid": 7, "kind": []}}'],
)
def test_what_is_no_review_has_no_names(body: bytes) -> None:
    assert set(identity(body).values()) == {""}
