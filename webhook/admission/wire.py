"""The AdmissionReview of admission.k8s.io/v1 on the wire, no more of it than is needed.

One pass decodes the envelope and what policy reads of the objects. Responses that occur again and
again are encoded once; only the uid is put in.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from webhook.policy.mutate import Operation
from webhook.policy.plaintext import objects as strictness
from webhook.policy.pod import objects
from webhook.policy.pod.objects import NULL, Object

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"


class GroupVersionKind(msgspec.Struct, gc=False):
    """What kind of object it is."""

    group: str = ""
    version: str = ""
    kind: str = ""


class AdmissionRequest(msgspec.Struct, gc=False, rename="camel"):
    """What the API server asks; `name` is empty where it is still to be generated."""

    uid: str
    kind: GroupVersionKind = msgspec.field(default_factory=GroupVersionKind)
    operation: str = ""
    namespace: str | None = None
    name: str | None = None
    sub_resource: str | None = None
    object: Object | None = None
    old_object: Object | None = None


class _Review(msgspec.Struct, gc=False, rename="camel"):
    """The envelope."""

    api_version: str = ""
    kind: str = ""
    request: AdmissionRequest | None = None


class _BareRequest(msgspec.Struct, gc=False):
    uid: str = ""
    kind: GroupVersionKind = msgspec.field(default_factory=GroupVersionKind)


class _BareReview(msgspec.Struct, gc=False):
    """What a review has that can't be read."""

    request: _BareRequest


class _Raws(_BareRequest, gc=False, rename="camel"):
    """A request, its objects left as text."""

    object: msgspec.Raw = NULL
    old_object: msgspec.Raw = NULL


class _RawReview(msgspec.Struct, gc=False):
    request: _Raws


class BadReviewError(ValueError):
    """A body that is no admission review of ours; `uid` is the request's where it can be told."""

    def __init__(self, message: str, uid: str = "") -> None:
        super().__init__(message)
        self.uid = uid


class BadObjectError(BadReviewError):
    """A review with an object whose fields do not have the types that Kubernetes gives them."""

    def __init__(self, message: str, uid: str, kind: str) -> None:
        super().__init__(message, uid)
        self.kind = kind


_OPERATIONS = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})

_decoder = msgspec.json.Decoder(_Review)
_bare_decoder = msgspec.json.Decoder(_BareReview)
_raws = msgspec.json.Decoder(_RawReview)
#: Bytes of a body whose objects need not be looked at before they are decoded.
_LARGE = 131_072
_encode = msgspec.json.Encoder().encode
_START = b'{"apiVersion":"%s","kind":"%s","response":{"uid":' % (
    API_VERSION.encode(),
    KIND.encode(),
)


def decode(body: bytes) -> AdmissionRequest:
    """The request in a body. Raises `BadReviewError` on anything else, whatever it is."""
    try:
        if len(body) > _LARGE:
            _check_objects(body)
        review = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _diagnosed(body, str(error)) from None
    uid = review.request.uid if review.request else ""
    if review.api_version != API_VERSION or review.kind != KIND:
        shown = ascii(f"{review.api_version[:60]} {review.kind[:60]}")
        raise BadReviewError(f"{shown} is not {API_VERSION} {KIND}", uid)
    if review.request is None or not uid:
        raise BadReviewError("an AdmissionReview without a request that has a uid")
    if not review.request.kind.kind or review.request.operation not in _OPERATIONS:
        # To ignore what is not understood would let it in.
        raise BadReviewError("a request without a kind or one of the four operations", uid)
    return review.request


def _check_objects(body: bytes) -> None:
    """Raise `BadObjectError` if an object has more values than any real one."""
    asked = _raws.decode(body).request
    try:
        for raw in (asked.object, asked.old_object):
            objects.check_size(raw)
    except objects.UndecodableError as error:
        raise BadObjectError(str(error), asked.uid, asked.kind.kind) from None


def _diagnosed(body: bytes, why: str) -> BadReviewError:
    """Find out whether it is the envelope or an object that can't be read."""
    path = why.partition("`$.request.object")[2] or why.partition("`$.request.oldObject")[2]
    try:
        bare = _bare_decoder.decode(body).request
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return BadReviewError(f"not an AdmissionReview: {why}")
    if path and bare.uid:
        return BadObjectError(f"{why.partition('`$.')[0]}`${path}", bare.uid, bare.kind.kind)
    return BadReviewError(f"not an AdmissionReview: {why}", bare.uid)


class _Templates(msgspec.Struct, gc=False, rename="camel"):
    """Where the kinds with a pod template have it, left as text."""

    template: msgspec.Raw = NULL
    job_template: msgspec.Raw = NULL

    def parsed(self) -> Any:
        """The template as JSON says it."""
        read = msgspec.json.decode
        spec = {"template": read(self.template), "jobTemplate": read(self.job_template)}
        return objects.template_of({"spec": spec})


class _Controller(msgspec.Struct, gc=False):
    spec: _Templates | None = None


class _Change(msgspec.Struct, gc=False, rename="camel"):
    object: _Controller | None = None
    old_object: _Controller | None = None


class _Update(msgspec.Struct, gc=False):
    request: _Change


_updates = msgspec.json.Decoder(_Update)


def template_changed(body: bytes) -> bool:
    """Whether an update changes the pod template of a controller, in any of its fields.

    The texts are compared first: the API server writes equal templates alike. Raises
    `UndecodableError` where they can't be compared.
    """
    try:
        change = _updates.decode(body).request
        now, before = (
            (controller and controller.spec) or _Templates()
            for controller in (change.object, change.old_object)
        )
        return now != before and bool(now.parsed() != before.parsed())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise objects.UndecodableError(str(error)) from None


def policy_objects(body: bytes, kind: type[Any]) -> tuple[Any, Any]:
    """A policy object of a request, and its old self; None each where there is none.

    Decoded apart from pods, whose reviews must not pay for it. Raises `UndecodableError`.
    """
    asked = _raws.decode(body).request
    now, before = (
        None if raw == NULL else strictness.decode(raw, kind)
        for raw in (asked.object, asked.old_object)
    )
    return now, before


class _User(msgspec.Struct, gc=False):
    username: str = ""
    groups: list[str] | None = None


class Asker(msgspec.Struct, gc=False, rename="camel"):
    """Who asks, and whether it is to be done at all."""

    user_info: _User = msgspec.field(default_factory=_User)
    dry_run: bool | None = None


class _Asked(msgspec.Struct, gc=False):
    request: Asker


_askers = msgspec.json.Decoder(_Asked)


def asker(body: bytes) -> Asker:
    """Who asks by a review that has been decoded; pods are judged without, so it is not in that.

    Raises `BadReviewError`.
    """
    try:
        return _askers.decode(body).request
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _diagnosed(body, str(error)) from None


class Response:
    """An answer to a review but for the uid, encoded once and sent many times."""

    __slots__ = ("_rest",)

    def __init__(
        self,
        *,
        allowed: bool,
        status: Mapping[str, Any] | None = None,
        patch: Sequence[Operation] = (),
        warnings: Sequence[str] = (),
        audit: Mapping[str, str] | None = None,
    ) -> None:
        """`patch` and `warnings` may be empty; `status` says why, in a denial."""
        body: dict[str, Any] = {"allowed": allowed}
        if status:
            body["status"] = status
        if patch:
            body["patchType"] = "JSONPatch"
            body["patch"] = base64.b64encode(_encode(patch)).decode()
        if warnings:
            body["warnings"] = warnings
        if audit:
            body["auditAnnotations"] = audit
        self._rest = b"," + _encode(body)[1:] + b"}"

    def to(self, uid: str) -> bytes:
        """The whole review, addressed to a request."""
        return _START + _encode(uid) + self._rest
