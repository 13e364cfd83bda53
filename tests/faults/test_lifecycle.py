"""Replicas are replaced, killed and reloaded under load."""

import json
import os
import signal
import time
from pathlib import Path

from tests.faults.replica import Replica, Show, Start, assert_all_answered, wait_for
from tests.unit.admission.reviews import pod, review
from tests.unit.serving.clients import request

#: Seconds until the last client has heard that a replica is gone.
PROPAGATION = 1.5


def test_a_replica_is_replaced(start: Start, reviews: int, show: Show) -> None:
    """Clients dial the old one until the Service's change has reached them, as in a cluster."""
    drain = ("--drain-seconds", "5")
    serving = start(*drain)
    replaced = 0
    with serving.load() as load:
        while load.tally.sent < reviews or not replaced:
            load.more(200)
            following = start(*drain)
            load.ports = (serving.port, following.port)
            load.more(200)
            serving.server.process.terminate()
            time.sleep(PROPAGATION)
            load.ports = (following.port,)
            assert serving.stop() == 0
            serving, replaced = following, replaced + 1
        load.more(200)
    show(load.tally, f"{replaced} replicas replaced")
    assert_all_answered(load.tally)


def test_a_replica_is_called_while_it_ends(start: Start, show: Show) -> None:
    """It still answers clients of its old endpoint, each time with `Connection: close`."""
    replica = start("--drain-seconds", "5")
    with replica.load() as load:
        load.more(100)
        replica.server.process.terminate()
        replica.server.wait_for("draining")
        replies = [replica.client.get("/readyz") for _ in range(5)]
        load.more(100)
    assert [reply.headers["connection"] for reply in replies] == ["close"] * 5
    assert {reply.status for reply in replies} == {503}, "it is no longer ready"
    assert_all_answered(load.tally)
    show(load.tally)


def test_the_worker_is_killed(replica: Replica, reviews: int, show: Show) -> None:
    """Only the reviews of the killed process are lost."""
    # gunicorn's message for a worker that was killed, and ours for the review that it was in.
    replica.allowed = "was sent SIGKILL|in the middle of a review"
    kills: list[float] = []
    named: list[str] = []
    with replica.load() as load:
        while load.tally.sent < reviews or not kills:
            load.more(400)
            before = len(load.tally.lost)
            kills.append(replica.kill_worker())
            load.more(200)
            lost = load.tally.lost[before:]
            named += [f"lost with worker {len(kills)}: {loss.uid}: {loss.why}" for loss in lost]
            assert len(lost) <= load.senders
            for loss in lost:
                assert (loss.dialled or loss.began) < kills[-1], (
                    f"not in the killed process: {loss}"
                )
    gaps = [load.tally.gap_after(kill) for kill in kills]
    show(load.tally, f"{len(kills)} workers killed, silent for at most {max(gaps):.2f} s", *named)
    assert not load.tally.wrong
    assert not load.tally.shed
    assert max(gaps) < 5


def test_a_reload(start: Start, tmp_path: Path, reviews: int, show: Show) -> None:
    """SIGHUP loads the current settings file. An invalid one changes nothing."""
    settings = tmp_path / "settings.yaml"
    settings.write_text("{}")
    replica = start("--settings", settings, "--drain-seconds", "1")
    replica.allowed = "kept the last settings"
    path = "/validate/linkerd/enforce"
    reloads = 0
    with replica.load() as load:
        while load.tally.sent < reviews or reloads < 3:
            namespace = f"exempt-{reloads}"
            body = review(pod(), namespace=namespace)
            assert not replica.client.review(path, body)["allowed"]
            exemption = {"reason": "a test", "namespaces": [namespace], "checks": ["proxy-missing"]}
            settings.write_text(json.dumps({"exemptions": [exemption]}))
            replica.reload()
            assert replica.client.review(path, body)["allowed"]
            reloads += 1
            load.more(200)
        settings.write_text("optOut: [")
        os.kill(replica.server.process.pid, signal.SIGHUP)
        replica.server.wait_for("not YAML")
        load.more(400)
        assert replica.client.review(path, body)["allowed"], "the last good settings hold"
    show(load.tally, f"{reloads} reloads")
    assert_all_answered(load.tally)
    wait_for(lambda: replica.client.get("/readyz").status == 200, "readiness")


def test_a_request_that_comes_too_slowly_for_its_deadline(replica: Replica) -> None:
    """It is abandoned at the API server's deadline, long before the server's own 10 s."""
    whole = request("/mutate/linkerd?timeout=1s", json.dumps(review(pod())).encode())
    with replica.client.connect() as connection:
        connection.send(whole[:-10])
        start = time.monotonic()
        assert connection.ended()
        assert time.monotonic() - start < 8
