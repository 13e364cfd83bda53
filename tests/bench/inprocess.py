"""Where the time of a review goes within the process, and how it grows. No network takes part."""

import statistics
import time
from collections.abc import Callable

from tests.bench import pods
from tests.bench.results import Growth, InProcess
from webhook.admission import wire
from webhook.admission.metrics import Metrics
from webhook.admission.review import AnyRoute, Reviewer, Route, request_of, respond
from webhook.policy.mutate import mutate
from webhook.policy.settings import Settings
from webhook.policy.validate import validate
from webhook.serving import logs
from webhook.version import VERSION

VALIDATE, MUTATE = "/validate/linkerd/enforce", "/mutate/linkerd"
#: Where a pod needs no proxy, so that a small one is small.
_SMALLEST = "/validate/ambient/enforce"
DECODE, POLICY, ENCODE, REST, TOTAL = "decode", "policy", "encode", "metrics and logs", "total"
"""The steps; the last is the whole of `Reviewer.answer`."""

_KIB = 1024


def measure(seconds: float) -> InProcess:
    """Everything, with so many seconds of work for each point."""
    logs.set_up("info")
    reviewer = Reviewer(Settings(), Metrics(VERSION))
    typical = pods.bodies()["typical"]
    return InProcess(
        steps={
            "validate": _validate_steps(reviewer, typical.stored, seconds),
            "mutate": _mutate_steps(reviewer, typical.plain, seconds),
        },
        growth=list(_growth(reviewer, seconds)),
    )


def _validate_steps(reviewer: Reviewer, body: bytes, seconds: float) -> dict[str, float]:
    route, settings = reviewer.routes[VALIDATE], reviewer.settings
    assert isinstance(route, Route)
    assert route.mode
    mode = route.mode
    review, request = request_of(body)
    verdict = validate(request, route.mesh, mode, settings)
    return _steps(
        seconds,
        lambda: request_of(body),
        lambda: validate(request_of(body)[1], route.mesh, mode, settings),
        lambda: respond(verdict).to(review.uid),
        lambda: reviewer.answer(route, body),
    )


def _mutate_steps(reviewer: Reviewer, body: bytes, seconds: float) -> dict[str, float]:
    route, settings = reviewer.routes[MUTATE], reviewer.settings
    assert isinstance(route, Route)
    review, request = request_of(body)
    patch = mutate(request, route.mesh, settings)
    return _steps(
        seconds,
        lambda: request_of(body),
        lambda: mutate(request_of(body)[1], route.mesh, settings),
        lambda: wire.Response(allowed=True, patch=patch).to(review.uid),
        lambda: reviewer.answer(route, body),
    )


def _steps(seconds: float, *steps: Callable[[], object]) -> dict[str, float]:
    """Time decoding, decoding and policy, encoding, and all of it; the last two by difference.

    Policy is never timed on the same request twice: it may remember what it found out. What the
    whole takes beyond its parts is metrics, logs and the glue.
    """
    decode, judge, encode, total = (_cost_us(step, seconds) for step in steps)
    figures = {DECODE: decode, POLICY: judge - decode, ENCODE: encode, REST: total - judge - encode}
    return {name: round(us, 1) for name, us in {**figures, TOTAL: total}.items()}


def _growth(reviewer: Reviewer, seconds: float) -> list[Growth]:
    def cost(*bodies: bytes, path: str = VALIDATE) -> float:
        return _cost_us(_in_turn(reviewer, reviewer.routes[path], bodies), seconds)

    return [
        Growth(
            "size of the pod, KiB",
            [(n, cost(_sized(n * _KIB), path=_SMALLEST)) for n in (2, 8, 32, 128, 512, 1024)],
        ),
        Growth("containers", [(n, cost(_with_containers(n))) for n in (1, 2, 4, 8, 16, 32, 64)]),
        Growth(
            "environment entries of 200 bytes",
            [(n, cost(_with_entries(n))) for n in (1, 10, 100, 1000, 5000)],
        ),
        Growth(
            "enrolled namespaces",
            [(n, cost(*map(_in_namespace, range(n)))) for n in (1, 10, 100, 1000)],
        ),
    ]


def _in_turn(
    reviewer: Reviewer, route: AnyRoute, bodies: tuple[bytes, ...]
) -> Callable[[], object]:
    if len(bodies) == 1:
        return lambda: reviewer.answer(route, bodies[0])
    position = 0

    def step() -> object:
        nonlocal position
        position = (position + 1) % len(bodies)
        return reviewer.answer(route, bodies[position])

    return step


def _cost_us(step: Callable[[], object], seconds: float) -> float:
    """The CPU of one call in microseconds: the median of batches of a hundredth of the time."""
    once = time.thread_time_ns
    for _ in range(3):
        step()
    start = once()
    step()
    batch = max(1, round(seconds * 1e7 / max(1, once() - start)))
    batches: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(batches) < 3:
        start = once()
        for _ in range(batch):
            step()
        batches.append((once() - start) / batch / 1000)
    return round(statistics.median(batches), 1)


def _sized(size: int) -> bytes:
    """A pod in ambient mode of so many bytes: a quarter in one annotation, the rest in entries."""
    pod = pods.small()
    pod["metadata"]["labels"]["istio.io/dataplane-mode"] = "ambient"
    missing = size - len(pods.compact(pod))
    pod["metadata"]["annotations"] = {"example.com/padding": "x" * (missing // 4)}
    pod["spec"]["containers"][0]["env"] = pods.short_entries(missing * 3 // 4 // 200)
    return pods.review(pod)


def _with_containers(count: int) -> bytes:
    pod = pods.small()
    (first,) = pod["spec"]["containers"]
    pod["spec"]["containers"] = [{**first, "name": f"app-{i}"} for i in range(count)]
    return pods.review(pods.injected(pod))


def _with_entries(count: int) -> bytes:
    pod = pods.small()
    pod["spec"]["containers"][0]["env"] = pods.short_entries(count)
    return pods.review(pods.injected(pod))


def _in_namespace(number: int) -> bytes:
    name = f"mendix-{number}"
    return pods.review(pods.injected(pods.app(name)), namespace=name)
