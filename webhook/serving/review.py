"""AdmissionReview of admission.k8s.io/v1: the envelope of a request, and the response to it.

Each webhook decodes it with the type of the objects that it reads. Frequent responses are encoded
once; only the uid is inserted.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"

T = TypeVar("T")


class GroupVersionKind(msgspec.Struct, gc=False):
    """The kind of an object."""

    group: str = ""
    version: str = ""
    kind: str = ""


class AdmissionRequest(msgspec.Struct, Generic[T], gc=False, rename="camel"):
    """The API server's request. `name` is empty if the API server has yet to generate it."""

    uid: str
    kind: GroupVersionKind = msgspec.field(default_factory=GroupVersionKind)
    operation: str = ""
    namespace: str | None = None
    name: str | None = None
    sub_resource: str | None = None
    object: T | None = None
    old_object: T | None = None


class Review(msgspec.Struct, Generic[T], gc=False, rename="camel"):
    """The envelope of a request."""

    api_version: str = ""
    kind: str = ""
    request: AdmissionRequest[T] | None = None


class BareRequest(msgspec.Struct, gc=False):
    """The part of a request that is read even if its objects are invalid."""

    uid: str = ""
    kind: GroupVersionKind = msgspec.field(default_factory=GroupVersionKind)


class _BareReview(msgspec.Struct, gc=False):
    request: BareRequest


class BadReviewError(ValueError):
    """Raised for a body that is no valid admission review. `uid` is empty if it can't be read."""

    def __init__(self, message: str, uid: str = "") -> None:
        super().__init__(message)
        self.uid = uid


class BadObjectError(BadReviewError):
    """Raised if a field of an object does not have the type that Kubernetes defines for it."""

    def __init__(self, message: str, uid: str, kind: str) -> None:
        super().__init__(message, uid)
        self.kind = kind


#: The errors of msgspec's decoders for hostile bodies.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_OPERATIONS = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})
_bare_decoder = msgspec.json.Decoder(_BareReview)
_encode = msgspec.json.Encoder().encode
_START = b'{"apiVersion":"%s","kind":"%s","response":{"uid":' % (
    API_VERSION.encode(),
    KIND.encode(),
)


def decode(decoder: "msgspec.json.Decoder[Review[T]]", body: bytes) -> AdmissionRequest[T]:
    """Return the request in a body. Raise `BadReviewError` for any other content."""
    try:
        review = decoder.decode(body)
    except UNREADABLE as error:
        raise diagnosed(body, str(error)) from None
    uid = review.request.uid if review.request else ""
    if review.api_version != API_VERSION or review.kind != KIND:
        shown = ascii(f"{review.api_version[:60]} {review.kind[:60]}")
        raise BadReviewError(f"{shown} is not {API_VERSION} {KIND}", uid)
    if review.request is None or not uid:
        raise BadReviewError("an AdmissionReview without a request that has a uid")
    if not review.request.kind.kind or review.request.operation not in _OPERATIONS:
        # A request that is ignored would be admitted.
        raise BadReviewError("a request without a kind or one of the four operations", uid)
    return review.request


def diagnosed(body: bytes, why: str) -> BadReviewError:
    """Return an error that says whether the envelope or an object is invalid."""
    path = why.partition("`$.request.object")[2] or why.partition("`$.request.oldObject")[2]
    try:
        bare = _bare_decoder.decode(body).request
    except UNREADABLE:
        return BadReviewError(f"not an AdmissionReview: {why}")
    if path and bare.uid:
        return BadObjectError(f"{why.partition('`$.')[0]}`${path}", bare.uid, bare.kind.kind)
    return BadReviewError(f"not an AdmissionReview: {why}", bare.uid)


class Response:
    """A response to a review, encoded once without the uid and sent many times."""

    __slots__ = ("_rest",)

    def __init__(
        self,
        *,
        allowed: bool,
        status: Mapping[str, Any] | None = None,
        patch: Sequence[msgspec.Struct] = (),
        warnings: Sequence[str] = (),
        audit: Mapping[str, str] | None = None,
    ) -> None:
        """`patch` and `warnings` may be empty. `status` is the reason of a denial."""
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
        """Return the complete AdmissionReview with the uid of a request."""
        return _START + _encode(uid) + self._rest
