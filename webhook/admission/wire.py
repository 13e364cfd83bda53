"""The wire format: AdmissionReview of admission.k8s.io/v1, limited to the fields that are needed.

One pass decodes the envelope and the fields of the objects that policy reads. Frequent responses
are encoded once; only the uid is inserted.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from webhook.policy.mutate import Operation
from webhook.policy.plaintext import objects as plaintext
from webhook.policy.pod import objects
from webhook.policy.pod.objects import NULL, Object

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"


class GroupVersionKind(msgspec.Struct, gc=False):
    """The kind of an object."""

    group: str = ""
    version: str = ""
    kind: str = ""


class AdmissionRequest(msgspec.Struct, gc=False, rename="camel"):
    """The API server's request. `name` is empty if the API server has yet to generate it."""

    uid: str
    kind: GroupVersionKind = msgspec.field(default_factory=GroupVersionKind)
    operation: str = ""
    namespace: str | None = None
    name: str | None = None
    sub_resource: str | None = None
    object: Object | None = None
    old_object: Object | None = None


class _Review(msgspec.Struct, gc=False, rename="camel"):
    """The envelope of a request."""

    api_version: str = ""
    kind: str = ""
    request: AdmissionRequest | None = None


class _BareRequest(msgspec.Struct, gc=False):
    uid: str = ""
    kind: GroupVersionKind = msgspec.field(default_factory=GroupVersionKind)


class _BareReview(msgspec.Struct, gc=False):
    """The readable part of an invalid review."""

    request: _BareRequest


class _Raws(_BareRequest, gc=False, rename="camel"):
    """A request with its objects as undecoded JSON."""

    object: msgspec.Raw = NULL
    old_object: msgspec.Raw = NULL


class _RawReview(msgspec.Struct, gc=False):
    request: _Raws


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


_OPERATIONS = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})

_decoder = msgspec.json.Decoder(_Review)
_bare_decoder = msgspec.json.Decoder(_BareReview)
_raws = msgspec.json.Decoder(_RawReview)
#: Bodies larger than this many bytes are checked before their objects are decoded.
_LARGE = 131_072
_encode = msgspec.json.Encoder().encode
_START = b'{"apiVersion":"%s","kind":"%s","response":{"uid":' % (
    API_VERSION.encode(),
    KIND.encode(),
)


def decode(body: bytes) -> AdmissionRequest:
    """Return the request in a body. Raise `BadReviewError` for any other content."""
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
        # A request that is ignored would be admitted.
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
    """Return an error that says whether the envelope or an object is invalid."""
    path = why.partition("`$.request.object")[2] or why.partition("`$.request.oldObject")[2]
    try:
        bare = _bare_decoder.decode(body).request
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return BadReviewError(f"not an AdmissionReview: {why}")
    if path and bare.uid:
        return BadObjectError(f"{why.partition('`$.')[0]}`${path}", bare.uid, bare.kind.kind)
    return BadReviewError(f"not an AdmissionReview: {why}", bare.uid)


class _Templates(msgspec.Struct, gc=False, rename="camel"):
    """The pod templates of all kinds that have one, as undecoded JSON."""

    template: msgspec.Raw = NULL
    job_template: msgspec.Raw = NULL

    def parsed(self) -> Any:
        """Return the template as decoded JSON."""
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
    """Return whether an update changes any field of a controller's pod template.

    The JSON texts are compared first, because the API server encodes equal templates equally. Raise
    `UndecodableError` if the templates can't be compared.
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
    """Return a policy object of a request and its old version; None for each that is missing.

    Policy objects are decoded separately, so that reviews of pods do not pay for it. Raise
    `UndecodableError`.
    """
    asked = _raws.decode(body).request
    now, before = (
        None if raw == NULL else plaintext.decode(raw, kind)
        for raw in (asked.object, asked.old_object)
    )
    return now, before


class _User(msgspec.Struct, gc=False):
    username: str = ""
    groups: list[str] | None = None


class Asker(msgspec.Struct, gc=False, rename="camel"):
    """The user who sent a request, and whether it is a dry run."""

    user_info: _User = msgspec.field(default_factory=_User)
    dry_run: bool | None = None


class _Asked(msgspec.Struct, gc=False):
    request: Asker


_askers = msgspec.json.Decoder(_Asked)


def asker(body: bytes) -> Asker:
    """Return the user of a review. Other reviews do not need it, so `decode` leaves it out.

    Raise `BadReviewError`.
    """
    try:
        return _askers.decode(body).request
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _diagnosed(body, str(error)) from None


class Response:
    """A response to a review, encoded once without the uid and sent many times."""

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
