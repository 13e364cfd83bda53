"""Reviews to send again and again, each with its one right answer."""

import math
from typing import NamedTuple, Self

import msgspec

from tests.unit.admission.reviews import Json, meshed, pod, review
from tests.unit.serving.clients import FlaskClient, request
from webhook.admission.app import create_app
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy.settings import Settings
from webhook.serving.health import Health

#: As long as every other uid, so that bodies do not change their length.
_UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
#: The other headers of client-go.
_HEADERS = {
    "Accept": "application/json, */*",
    "Accept-Encoding": "gzip",
    "Content-Type": "application/json",
    "User-Agent": "kube-apiserver-admission",
}
_flask = FlaskClient(create_app(Reviewer(Settings(), Metrics("test")), Health()))


class Question(NamedTuple):
    """A review: its request and its right answer, with a placeholder for the uid."""

    path: str
    body: bytes
    right: bytes

    @classmethod
    def of(cls, path: str, obj: Json) -> Self:
        """Return a review of an object. Flask in this process provides the right answer."""
        body = msgspec.json.encode(review(obj, uid=_UID))
        return cls(path, body, _flask.send(path, body).body)

    def request(self, uid: str, deadline: float) -> bytes:
        """Return the whole HTTP request. The API server sends its deadline in full seconds."""
        body = self.body.replace(_UID.encode(), uid.encode(), 1)
        return request(f"{self.path}?timeout={math.ceil(deadline)}s", body, headers=_HEADERS)

    def is_right(self, uid: str, body: bytes) -> bool:
        """Whether a body is the right answer to the request of this uid."""
        return body == self.right.replace(_UID.encode(), uid.encode(), 1)


#: One is patched, one is admitted, one is denied.
QUESTIONS = (
    Question.of("/mutate/linkerd", pod()),
    Question.of("/validate/linkerd/enforce", meshed()),
    Question.of("/validate/linkerd/enforce", pod()),
)
