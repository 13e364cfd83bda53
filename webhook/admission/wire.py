"""The objects in a review: the fields that policy reads, and the parts that it decodes later."""

from typing import Any

import msgspec

from webhook.policy.plaintext import objects as plaintext
from webhook.policy.pod import objects
from webhook.policy.pod.objects import NULL, Object
from webhook.serving import review
from webhook.serving.review import (
    UNREADABLE,
    BadObjectError,
    BadReviewError,
    BareRequest,
    Response,
    diagnosed,
)

__all__ = ["AdmissionRequest", "BadObjectError", "BadReviewError", "Response"]

AdmissionRequest = review.AdmissionRequest[Object]


class _Raws(BareRequest, gc=False, rename="camel"):
    """A request with its objects as undecoded JSON."""

    object: msgspec.Raw = NULL
    old_object: msgspec.Raw = NULL


class _RawReview(msgspec.Struct, gc=False):
    request: _Raws


_decoder = msgspec.json.Decoder(review.Review[Object])
_raws = msgspec.json.Decoder(_RawReview)
#: Bodies larger than this many bytes are checked before their objects are decoded.
_LARGE = 131_072


def decode(body: bytes) -> AdmissionRequest:
    """Return the request in a body. Raise `BadReviewError` for any other content."""
    if len(body) > _LARGE and objects.has_many_values(body):
        _check_objects(body)
    return review.decode(_decoder, body)


def _check_objects(body: bytes) -> None:
    """Raise `BadObjectError` if an object has more values than any real one."""
    try:
        admission = _raws.decode(body).request
    except UNREADABLE as error:
        raise diagnosed(body, str(error)) from None
    try:
        for raw in (admission.object, admission.old_object):
            objects.check_size(raw)
    except objects.UndecodableError as error:
        raise BadObjectError(str(error), admission.uid, admission.kind.kind) from None


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
    except UNREADABLE as error:
        raise objects.UndecodableError(str(error)) from None


def policy_objects(body: bytes, kind: type[Any]) -> tuple[Any, Any]:
    """Return a policy object of a request and its old version; None for each that is missing.

    Policy objects are decoded separately, so that reviews of pods do not pay for it. Raise
    `UndecodableError`.
    """
    admission = _raws.decode(body).request
    now, before = (
        None if raw == NULL else plaintext.decode(raw, kind)
        for raw in (admission.object, admission.old_object)
    )
    return now, before


class _User(msgspec.Struct, gc=False):
    username: str = ""
    groups: list[str] | None = None


class Sender(msgspec.Struct, gc=False, rename="camel"):
    """The user who sent a request, and whether it is a dry run."""

    user_info: _User = msgspec.field(default_factory=_User)
    dry_run: bool | None = None


class _Asked(msgspec.Struct, gc=False):
    request: Sender


_askers = msgspec.json.Decoder(_Asked)


def sender(body: bytes) -> Sender:
    """Return the user of a review. Other reviews do not need it, so `decode` leaves it out.

    Raise `BadReviewError`.
    """
    try:
        return _askers.decode(body).request
    except UNREADABLE as error:
        raise diagnosed(body, str(error)) from None
