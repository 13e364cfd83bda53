"""The server reaches a limit of the system or its own: it sheds load, and recovers."""

import contextlib
import os
import resource
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.faults.hostile import Flood
from tests.faults.questions import Question
from tests.faults.replica import Replica, Show, assert_all_answered
from tests.unit.admission.reviews import meshed
from tests.unit.serving.clients import request

#: The start of the answer to a shed review.
OVERLOADED = "overloaded"


def test_no_file_descriptors_are_left(replica: Replica, reviews: int, show: Show) -> None:
    """Kept connections go on; new ones are served again as soon as descriptors are free."""
    replica.allowed = "Too many open files"
    begun = time.monotonic()
    with replica.load(fresh=0) as load:
        load.more(200)
        held = _descriptors(replica)
        replica.limit(resource.RLIMIT_NOFILE, held + 50)
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                address = ("127.0.0.1", replica.port)
                stack.enter_context(socket.create_connection(address, 5))
            load.more(reviews // 2)
            used = _descriptors(replica)
        load.more(200)
    assert_all_answered(load.tally)
    # One or two of the silent ones were closed for a client that sends requests.
    assert used >= held + 45, "the limit was not met"
    with replica.load(fresh=1) as after:
        after.more(reviews // 2)
    lines = len(replica.complaints())
    show(
        load.tally,
        f"{used} descriptors in use, {lines} complaints; afterwards, each on a new connection:",
        after.tally,
    )
    assert_all_answered(after.tally)
    assert lines < 10 * (time.monotonic() - begun + 1), "more than ten lines a second"


def _descriptors(replica: Replica) -> int:
    return len(list(Path(f"/proc/{replica.worker}/fd").iterdir()))


def test_a_worker_that_stands_still_for_a_while(replica: Replica, reviews: int, show: Show) -> None:
    """As without CPU: reviews that waited for too long are shed, and none waits for ever."""
    replica.allowed = "overloaded"
    before = replica.metric("mendix_mesh_reviews_shed_total")
    # A review that is shed after half of its time is sent again a second later.
    with replica.load(senders=32, fresh=0, deadline=8) as load:
        while load.tally.sent < reviews:
            load.more(800)
            os.kill(replica.worker, signal.SIGSTOP)
            time.sleep(4.5)
            os.kill(replica.worker, signal.SIGCONT)
        load.more(200)
    shed = replica.metric("mendix_mesh_reviews_shed_total") - before
    show(load.tally, f"the server shed {shed:g}")
    assert not load.tally.wrong, str(load.tally)
    assert not load.tally.lost, str(load.tally)
    assert all(OVERLOADED in text for text in load.tally.shed)
    # The client asks again, as an API server does, so its tally can be without one.
    assert shed > 0, str(load.tally)


@pytest.mark.parametrize("callers", [200, 600])
def test_more_reviews_than_it_can_answer(
    replica: Replica, reviews: int, callers: int, show: Show
) -> None:
    """Each is answered or shed within its time; then all are answered again.

    600 clients in one Python process are as short of CPU as the server. A review that they have not
    sent completely when its time is over gets no answer.
    """
    replica.allowed = "overloaded"
    pod = meshed()
    env = [{"name": f"E{number}", "value": "x"} for number in range(20)]
    pod["spec"]["containers"] += [{"name": f"c{n}", "image": "b", "env": env} for n in range(300)]
    heavy = Question.of("/validate/linkerd/enforce", pod)
    with replica.load(rate=1000, senders=callers, fresh=0, grace=20, questions=[heavy]) as load:
        load.until(reviews // 2)
    with replica.load() as after:
        after.more(reviews // 2)
    show(load.tally, f"{len(heavy.body) >> 10} KiB each; afterwards:", after.tally)
    assert not load.tally.wrong, str(load.tally)
    assert not [loss for loss in load.tally.lost if loss.seconds < 5], str(load.tally)
    assert all(OVERLOADED in text for text in load.tally.shed)
    assert_all_answered(after.tally)


def test_no_memory_is_left(replica: Replica, reviews: int, show: Show) -> None:
    """The worker survives or is replaced; afterwards everything is as before."""
    replica.allowed = ""
    big = request("/mutate/linkerd", b'{"a":"' + b"x" * (6 << 20) + b'"}')
    with replica.load() as load:
        load.more(200)
        limited = replica.worker
        size = int(Path(f"/proc/{limited}/statm").read_text().split()[0]) * resource.getpagesize()
        replica.limit(resource.RLIMIT_AS, size + (8 << 20))
        with Flood(replica, {"a body of 6 MiB": big}, threads=8) as flood:
            time.sleep(3)
        if replica.worker == limited:
            replica.limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
        load.more(200)
    with replica.load() as after:
        after.more(reviews)
    died = len(replica.server.workers) - 1
    answers = ", ".join(f"{how} {n} times" for (_, how), n in flood.answers.items())
    show(load.tally, f"{died} workers died; big bodies: {answers}; afterwards:", after.tally)
    assert not load.tally.wrong
    assert_all_answered(after.tally)
