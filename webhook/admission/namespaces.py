"""Reviews namespaces: validates their labels and reports whether they leave enforcement.

The server does not know the chart's values, so the path contains them:

- `/namespace/<mode>` for most namespaces
- `/namespace/<mode>/<mesh>/<mode>` for a namespace that is enrolled by name; its own mesh and mode
  come last
- `/namespace/excluded` for a namespace that is never reviewed
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import NamedTuple

from webhook.admission import wire
from webhook.admission.metrics import Metrics
from webhook.log import Log
from webhook.policy import namespaces
from webhook.policy.labels import MESH_LABEL, MESHES, MODE_LABEL
from webhook.policy.namespaces import Left, NamespaceChange, Standing, Values
from webhook.policy.pod import objects
from webhook.policy.pod.request import Request
from webhook.policy.settings import Settings, mistakes
from webhook.policy.validate import MODES

log = Log(__name__)

_IGNORED = wire.Response(allowed=True)
_ADMITTED = wire.Response(allowed=True, audit={"verdict": "admitted"})
_EXCLUDED = wire.Response(
    allowed=True,
    warnings=["mendix-mesh never reviews this namespace: its mendix-mesh.io labels have no effect"],
    audit={"verdict": "warned"},
)


class NamespaceRoute(NamedTuple):
    """The values in a path for namespaces."""

    #: None for a namespace that is never reviewed.
    values: Values | None

    @property
    def webhook(self) -> str:
        """Return the first part of the path."""
        return "namespace"

    @property
    def mesh_name(self) -> str:
        """Return an empty string, because the path belongs to no mesh."""
        return ""

    @property
    def ingress(self) -> bool:
        """Return whether the path is for ingress controllers; never."""
        return False

    @property
    def mode(self) -> str:
        """Return enforce, so that an unreadable review is denied; audit if nothing is reviewed."""
        return "enforce" if self.values else "audit"

    def judges(self, kind: str) -> bool:
        """Return whether the path is for objects of this kind."""
        return kind == "Namespace"


def routes() -> Iterator[tuple[str, NamespaceRoute]]:
    """Yield each path for namespaces with its route."""
    yield "/namespace/excluded", NamespaceRoute(None)
    for default in MODES:
        yield f"/namespace/{default}", NamespaceRoute(Values(default))
        for mesh, mode in product(MESHES, MODES):
            values = Values(default, Standing(mesh, mode))
            yield f"/namespace/{default}/{mesh}/{mode}", NamespaceRoute(values)


def respond(
    route: NamespaceRoute,
    admission: wire.AdmissionRequest,
    request: Request,
    body: bytes,
    settings: Settings,
    metrics: Metrics,
) -> tuple[wire.Response, str]:
    """Return the response to a review of a namespace, and the verdict for the metrics.

    Raise `BadReviewError` or `UndecodableError` if the review lacks what the API server always
    sends.
    """
    if request.operation not in ("CREATE", "UPDATE"):
        return _IGNORED, "ignored"
    if request.object is None or (request.operation == "UPDATE" and request.old is None):
        raise objects.UndecodableError(f"{request.operation} without an object, or an old one")
    before, after = _labels(request.old), _labels(request.object)
    if route.values is None:
        marked = MESH_LABEL in after or MODE_LABEL in after
        return (_EXCLUDED, "warned") if marked else (_IGNORED, "ignored")
    sender = wire.sender(body)
    user = sender.user_info
    change = NamespaceChange(before, after, user.username, user.groups or ())
    ruling = namespaces.rule(change, route.values, settings)
    audit = {"verdict": "admitted"}
    if ruling.left:
        audit |= {"left": str(ruling.left.was), "for": str(ruling.left.will_be or ruling.left.to)}
        _log(admission, sender, ruling.left, denied=bool(ruling.denial))
    if ruling.denial:
        name = mistakes.shown(admission.name or "without a name")
        message = f"namespace {name}: {ruling.denial}"
        status = {"status": "Failure", "code": 403, "reason": "Forbidden", "message": message}
        return wire.Response(
            allowed=False, status=status, audit={**audit, "verdict": "denied"}
        ), "denied"
    if ruling.left and not sender.dry_run:
        metrics.left_enforcement(ruling.left)
    if ruling.warnings:
        audit["verdict"] = "warned"
        return wire.Response(allowed=True, warnings=ruling.warnings, audit=audit), "warned"
    return (wire.Response(allowed=True, audit=audit) if ruling.left else _ADMITTED), "admitted"


def _labels(obj: objects.Object | None) -> Mapping[str, str]:
    return (obj.metadata.labels if obj and obj.metadata else None) or {}


def _log(
    admission: wire.AdmissionRequest, sender: wire.Sender, left: Left, *, denied: bool
) -> None:
    log.warning(
        "denied leaving enforcement" if denied else "left enforcement",
        uid=admission.uid,
        namespace=admission.name or "",
        user=sender.user_info.username,
        was=str(left.was),
        will_be=str(left.will_be or left.to),
        dry_run=bool(sender.dry_run),
    )
