"""The AdmissionReview of admission.k8s.io/v1 on the wire, no more of it than is needed.

Objects stay raw until it is known that they will be read. Responses that occur again and again
are encoded once; only the uid is put in.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from webhook.policy.mutate import Operation

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"
#: An object that is absent, as at DELETE.
NULL = msgspec.Raw(b"null")


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
    object: msgspec.Raw = NULL
    old_object: msgspec.Raw = NULL


class AdmissionReview(msgspec.Struct, gc=False, rename="camel"):
    """The envelope."""

    api_version: str = ""
    kind: str = ""
    request: AdmissionRequest | None = None


class BadReviewError(ValueError):
    """A body that is no admission review of ours; `uid` is the request's where it can be told."""

    def __init__(self, message: str, uid: str = "") -> None:
        super().__init__(message)
        self.uid = uid


_OPERATIONS = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})

_decoder = msgspec.json.Decoder(AdmissionReview)
_encode = msgspec.json.Encoder().encode
_START = b'{"apiVersion":"%s","kind":"%s","response":{"uid":' % (
    API_VERSION.encode(),
    KIND.encode(),
)


def decode(body: bytes) -> AdmissionRequest:
    """The request in a body. Raises `BadReviewError` on anything else, whatever it is."""
    try:
        review = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadReviewError(f"not an AdmissionReview: {error}") from None
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


def is_null(raw: msgspec.Raw) -> bool:
    """Whether the object is absent, as at DELETE."""
    return raw == NULL


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
