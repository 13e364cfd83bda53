"""The pods of the benchmark are what the page says of them."""

import base64
import json

import pytest

from tests.bench import pods, servers
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy.settings import Settings

REVIEWER = Reviewer(Settings(), Metrics("test"))
BODIES = pods.bodies()
VALIDATE = servers.Row(servers.OURS, servers.OURS, "", 0, "stored")
MUTATE = servers.Row(servers.OURS_MUTATE, servers.OURS, "", 0, "plain", patches=True)


def ask(path: str, body: bytes) -> bytes:
    return REVIEWER.answer(REVIEWER.routes[path], body)


@pytest.mark.parametrize("size", BODIES)
def test_every_pod_is_admitted_as_it_is_stored(size: str) -> None:
    answer = ask("/validate/linkerd/enforce", BODIES[size].stored)
    assert servers.fault(VALIDATE, answer) == ""


@pytest.mark.parametrize("size", BODIES)
def test_every_pod_is_patched_as_its_author_made_it(size: str) -> None:
    answer = ask("/mutate/linkerd", BODIES[size].plain)
    assert servers.fault(MUTATE, answer) == ""
    patch = json.loads(base64.b64decode(json.loads(answer)["response"]["patch"]))
    assert pods.LINKERD["linkerd.io/inject"] in str(patch)


def test_the_large_pod_has_a_mebibyte() -> None:
    assert 0.99 < len(pods.compact(pods.large())) / pods.LARGE < 1.01


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"not JSON", "it is no review with a response"),
        (b'{"response":null}', "it is no review with a response"),
        (b'{"response":{"uid":"other","allowed":true}}', "the uid is not the request's"),
        (b'{"response":{"uid":"%s","allowed":false}}', "the pod is not allowed"),
        (b'{"response":{"uid":"%s","allowed":true}}', "there is no patch"),
    ],
)
def test_an_answer_that_is_not_correct_is_named(answer: bytes, fault: str) -> None:
    said = answer.replace(b"%s", pods.UID.encode())
    assert servers.fault(MUTATE, said) == fault
