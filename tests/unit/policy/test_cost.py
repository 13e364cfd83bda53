"""The cost of a review is limited for every object: in calls and in memory, not in seconds."""

import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from tests.fuzz import worst
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.cluster.judge import Judge
from webhook.cluster.kinds.inventory import decode
from webhook.cluster.namespaces.enrollment import Enrolled
from webhook.policy.inputs import forms, istio, linkerd
from webhook.policy.inputs.forms import Form
from webhook.policy.pod import objects
from webhook.policy.settings import Settings
from webhook.serving.http import BODY_LIMIT

Json = dict[str, Any]
MESHES = ("linkerd", "istio", "ambient")
#: The size of an object, with room for the injector's work and the review's envelope, and the size
#: of the largest ones whose values are all read.
LARGEST, READ = worst.LARGEST - 20_000, 250_000
#: Function calls, in Python or in C: half a million are under 0.1 s.
MOST_CALLS = 400_000
MOST_MEMORY = 32 * 1024 * 1024
REVIEWER = Reviewer(Settings(), Metrics("test"))
JUDGE = Judge(Settings())


def calls(work: Callable[[], Any]) -> int:
    """Return how many functions are called by some work."""
    count = 0

    def called(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def memory(work: Callable[[], Any]) -> int:
    """Return how many bytes some work needs at most at one time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def is_bounded(work: Callable[[], Any]) -> None:
    assert calls(work) <= MOST_CALLS
    assert memory(work) <= MOST_MEMORY


def answer(path: str, body: bytes) -> None:
    REVIEWER.answer(REVIEWER.routes[path], body)


def changed(now: Json) -> bytes:
    """Return a review of a change of an object that leaves all but one label as it is."""
    labels = {**now["metadata"].get("labels", {}), "touched": "yes"}
    return worst.body({**now, "metadata": {**now["metadata"], "labels": labels}}, now)


@pytest.mark.parametrize("case", worst.CASES)
def test_the_largest_objects_are_bounded(case: str) -> None:
    pod = worst.pod("istio", case, LARGEST)
    body, update = worst.body(pod), changed(pod)
    is_bounded(lambda: answer("/mutate/istio", body))
    is_bounded(lambda: answer("/validate/istio/enforce", body))
    if len(update) <= BODY_LIMIT:
        is_bounded(lambda: answer("/validate/istio/enforce", update))


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("case", worst.CASES)
class TestOfAllThatIsRead:
    """Objects that are small enough to be decoded, and so cost more than larger ones."""

    def test_mutating_is_bounded(self, mesh: str, case: str) -> None:
        body = worst.body(worst.pod(mesh, case, READ, submitted=True))
        is_bounded(lambda: answer(f"/mutate/{mesh}", body))

    def test_validating_is_bounded(self, mesh: str, case: str) -> None:
        pod = worst.pod(mesh, case, READ)
        body, update = worst.body(pod), changed(pod)
        is_bounded(lambda: answer(f"/validate/{mesh}/warn", body))
        is_bounded(lambda: answer(f"/validate/{mesh}/enforce", update))

    def test_a_template_is_bounded(self, mesh: str, case: str) -> None:
        pod = worst.pod(mesh, case, READ, submitted=True)
        before = worst.deployment({**pod, "spec": {**pod["spec"], "priority": 1}})
        body = worst.body(worst.deployment(pod), before, kind="Deployment")
        is_bounded(lambda: answer(f"/validate/{mesh}/enforce", body))

    def test_the_auditor_s_look_at_a_stored_pod_is_bounded(self, mesh: str, case: str) -> None:
        raw = msgspec.Raw(worst.encoded(worst.pod(mesh, case, READ)))
        is_bounded(lambda: audited(raw, mesh))


def audited(raw: msgspec.Raw, mesh: str) -> None:
    try:
        pod = decode(raw)
    except objects.UndecodableError:
        return  # The audit reports such a pod.
    JUDGE.judge(pod, Enrolled(mesh, "enforce", ingress=False, since=None))


def test_an_ingress_is_bounded() -> None:
    ingress = {
        "kind": "Ingress",
        "metadata": {"annotations": {f"a{number}": "" for number in range(LARGEST // 12)}},
        "spec": {"rules": [{} for _ in range(10_000)]},
    }
    body = worst.body(ingress, kind="Ingress")
    is_bounded(lambda: answer("/mutate/istio", body))


def test_a_namespace_is_bounded() -> None:
    labels = {f"mendix-mesh.io/k{number}": "" for number in range(LARGEST // 28)}
    namespace = {"kind": "Namespace", "metadata": {"name": "mendix", "labels": labels}}
    body = worst.body(namespace, kind="Namespace")
    is_bounded(lambda: answer("/namespace/enforce", body))


def test_an_object_of_very_many_values_is_denied_in_enforce_and_says_why() -> None:
    body = worst.body(worst.pod("linkerd", "volumes", LARGEST))
    response = json.loads(REVIEWER.answer(REVIEWER.routes["/validate/linkerd/enforce"], body))
    assert not response["response"]["allowed"]
    assert response["response"]["uid"] == "1"
    assert "more than 50000 values" in response["response"]["status"]["message"]


def test_reviews_leave_no_memory_behind() -> None:
    """Only few and short texts are cached."""
    bodies = [
        worst.body(worst.pod(mesh, case, 8_000 + number))
        for mesh in ("linkerd", "istio")
        for case in worst.CASES
        for number in range(0, 160, 40)
    ]

    tracemalloc.start()
    try:
        for body in bodies:
            for mesh in ("linkerd", "istio"):
                answer(f"/validate/{mesh}/warn", body)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < MOST_MEMORY // 4
    finally:
        tracemalloc.stop()


def patterns() -> Iterator[tuple[str, Form]]:
    """Yield every form that is a pattern, once."""
    seen = set()
    for module in (forms, linkerd, istio):
        named = [(name, found) for name, found in vars(module).items() if isinstance(found, Form)]
        for listed in ("ANNOTATIONS", "LABELS", "PREFIXES"):
            named += [(key, one.form) for key, one in getattr(module, listed, {}).items()]
        for name, form in named:
            if form.pattern and form.pattern not in seen:
                seen.add(form.pattern)
                yield name, form


#: Items of lists that may be read in several ways.
ITEMS = ("80,", "80-90,", "80 - 90 ,", "80, ", "a,", "a-a,", "10.0.0.0/8,", "::/8 ,", " ", "1",
         "a",
         "0.", "/", "1s", "1ms", '"a": [1], ', "a.", "-", "$", "? ", "[1],",
         "6553", "*,")  # fmt: skip


@pytest.mark.parametrize("form", [pytest.param(form, id=name) for name, form in patterns()])
def test_no_value_keeps_a_pattern_busy(form: Form) -> None:
    """A pattern that backtracks takes seconds, then for ever; the others under a millisecond."""
    for item in ITEMS:
        for start in ("", '{"a": [1]'):
            for end in ("!", "\n", ""):
                for count in (8, 16, 22, form.longest // len(item)):
                    text = (start + item * count)[: form.longest - 1] + end
                    before = time.process_time()
                    form.wrong(text)
                    assert time.process_time() - before < 0.2, (item, end, count)
