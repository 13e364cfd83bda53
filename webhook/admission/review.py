"""Answers one admission review: body in, response out. Used by the lane and by Flask."""

import time
from functools import lru_cache
from typing import NamedTuple, get_args

import msgspec

from webhook.admission import namespaces, wire
from webhook.admission.metrics import Metrics
from webhook.admission.namespaces import NamespaceRoute
from webhook.log import Log
from webhook.policy import meshes, messages
from webhook.policy.checks import Violation
from webhook.policy.labels import MESHES
from webhook.policy.mesh import Mesh
from webhook.policy.mutate import mutate
from webhook.policy.plaintext import review as plaintext
from webhook.policy.pod import objects
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import TEMPLATES
from webhook.policy.settings import Settings
from webhook.policy.validate import Mode, Verdict, validate

log = Log(__name__)


_ADMITTED = wire.Response(allowed=True, audit={"verdict": "admitted"})
_IGNORED = wire.Response(allowed=True)


class Route(NamedTuple):
    """The values in a path: webhook, mesh, mode, and whether the pods are ingress controllers."""

    webhook: str
    mesh: Mesh
    mode: Mode | None
    ingress: bool

    @property
    def mesh_name(self) -> str:
        """Return the name of the mesh."""
        return self.mesh.name

    def judges(self, kind: str) -> bool:
        """Return whether the path is for objects of this kind."""
        if self.mode is None:
            return kind in TEMPLATES or kind == "Ingress"
        # Policy objects of a mesh are only validated, never mutated.
        return kind in TEMPLATES or kind in plaintext.KINDS.get(self.mesh.name, ())


#: The route of any served path.
AnyRoute = Route | NamespaceRoute


class Reviewer:
    """Answers admission reviews by path. It is created once, with the settings."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        #: The route of each served path.
        self.routes: dict[str, AnyRoute] = dict(namespaces.routes())
        loaded = meshes.load(settings)
        # A mesh that this version does not know gets a path too, so that its pods are denied and
        # not admitted.
        for name in (*MESHES, "unknown"):
            mesh = loaded.get(name, loaded["unknown"])
            for end, ingress in (("", False), ("/ingress", True)):
                self.routes[f"/mutate/{name}{end}"] = Route("mutate", mesh, None, ingress)
                for mode in get_args(Mode):
                    path = f"/validate/{name}/{mode}{end}"
                    self.routes[path] = Route("validate", mesh, mode, ingress)

    def answer(self, route: AnyRoute, body: bytes) -> bytes:
        """Return the response to any body. Never raise.

        If decoding or judging fails, the object is denied in mode enforce. In the other modes, and
        in the mutating webhook, it is admitted with a warning, because these do not deny anything.
        """
        start = time.perf_counter()
        uid, kind = "", ""
        outcome = "error"
        try:
            admission, request = request_of(body, ingress=route.ingress)
            uid, kind = admission.uid, admission.kind.kind
            if not route.judges(kind):
                response, outcome = _IGNORED, "ignored"
            elif isinstance(route, NamespaceRoute):
                response, outcome = namespaces.respond(
                    route, admission, request, body, self.settings, self.metrics
                )
            elif route.mode is None:
                response, outcome = self._mutate(route, admission, request)
            elif kind in TEMPLATES:
                response, outcome = self._validate(route, route.mode, admission, request)
            else:
                response, outcome = self._policy(route, route.mode, admission, body)
        except wire.BadReviewError as error:
            uid = error.uid
            kind = error.kind if isinstance(error, wire.BadObjectError) else ""
            if isinstance(error, wire.BadObjectError) and not route.judges(kind):
                response, outcome = _IGNORED, "ignored"
            else:
                response = self._cannot(route, uid, f"can't read the review: {error}")
        except objects.UndecodableError as error:
            response = self._cannot(route, uid, f"can't read the review: {error}")
        except Exception:
            # No object may end a worker. The traceback is for operators, the response for the user.
            log.exception("review failed", uid=uid, webhook=route.webhook)
            response = self._cannot(route, uid, "an error in mendix-mesh; see its log")
        self.metrics.review(route.webhook, route.mesh_name, route.mode or "", kind, outcome)
        self.metrics.duration(route.webhook, time.perf_counter() - start)
        return response.to(uid)

    def _mutate(
        self, route: Route, admission: wire.AdmissionRequest, request: Request
    ) -> tuple[wire.Response, str]:
        """Return the response, and the verdict for the metrics."""
        patch = mutate(request, route.mesh, self.settings)
        warnings = messages.ingress_warnings(request, self.settings, route.mesh.name)
        if not patch and not warnings:
            return _IGNORED, "unchanged"
        log.debug(
            "patched", uid=admission.uid, kind=admission.kind.kind, namespace=request.namespace
        )
        response = wire.Response(allowed=True, patch=patch, warnings=warnings)
        return response, "patched" if patch else "unchanged"

    def _validate(
        self, route: Route, mode: Mode, admission: wire.AdmissionRequest, request: Request
    ) -> tuple[wire.Response, str]:
        """Return the response, and the verdict for the metrics."""
        if request.object is None and request.operation in ("CREATE", "UPDATE"):
            raise objects.UndecodableError(f"{request.operation} without an object")
        return self._judged(
            route, admission, request.namespace, validate(request, route.mesh, mode, self.settings)
        )

    def _policy(
        self, route: Route, mode: Mode, admission: wire.AdmissionRequest, body: bytes
    ) -> tuple[wire.Response, str]:
        """Return the response to a change of a mesh's policy, and the verdict for the metrics."""
        kind = admission.kind.kind
        now, before = wire.policy_objects(body, plaintext.KINDS[route.mesh.name][kind].type)
        if now is None or admission.operation not in ("CREATE", "UPDATE") or admission.sub_resource:
            return _IGNORED, "ignored"
        where = admission.namespace or (now.metadata.name if kind == "Namespace" else "")
        change = plaintext.PolicyChange(
            kind, where, now, before if admission.operation == "UPDATE" else None
        )
        verdict = plaintext.review(change, route.mesh.name, mode, self.settings)
        return self._judged(route, admission, where, verdict)

    def _judged(
        self, route: Route, admission: wire.AdmissionRequest, namespace: str, verdict: Verdict
    ) -> tuple[wire.Response, str]:
        """Return a verdict as a response. Count it, and log it unless it is trivial."""
        if verdict.outcome in ("admitted", "ignored") and not verdict.violations:
            return (_ADMITTED if verdict.outcome == "admitted" else _IGNORED), verdict.outcome
        for violation in verdict.violations:
            self.metrics.violation(route.mesh.name, verdict.mode, violation.check)
        self._log(admission, namespace, verdict)
        return respond(verdict), verdict.outcome

    def _log(self, admission: wire.AdmissionRequest, namespace: str, verdict: Verdict) -> None:
        write = log.debug if verdict.outcome == "admitted" else log.info
        write(
            verdict.outcome,
            uid=admission.uid,
            mesh=verdict.mesh,
            mode=verdict.mode,
            namespace=namespace,
            subject=verdict.subject,
            operation=admission.operation,
            checks=_checks(verdict),
        )

    def _cannot(self, route: AnyRoute, uid: str, why: str) -> wire.Response:
        log.warning("unanswerable review", uid=uid, webhook=route.webhook, why=why[:300])
        if route.mode == "enforce":
            return wire.Response(
                allowed=False,
                status={"status": "Failure", "code": 403, "reason": "Forbidden", "message": why},
                audit={"verdict": "denied", "error": why[:300]},
            )
        warning = " ".join(f"mendix-mesh: {why}".split())[: messages.LONGEST_WARNING]
        return wire.Response(allowed=True, warnings=[warning], audit={"error": why[:300]})


def respond(verdict: Verdict) -> wire.Response:
    """Return a verdict as the API server and its clients see it.

    Most verdicts admit with a few warnings, and all pods of a ReplicaSet have the same ones. Their
    responses are encoded once and cached.
    """
    if verdict.outcome == "admitted" and not verdict.exempted and _is_small(verdict.violations):
        return _advising(verdict.mesh, verdict.mode, verdict.subject, verdict.violations)
    return _respond(verdict)


@lru_cache(maxsize=256)
def _advising(
    mesh: str, mode: Mode, subject: str, violations: tuple[Violation, ...]
) -> wire.Response:
    return _respond(Verdict("admitted", mesh, mode, subject, violations))


def _is_small(violations: tuple[Violation, ...]) -> bool:
    """Return whether violations are small enough to cache. Their texts come from outside."""
    return len(violations) < 8 and all(
        len(v.field) < 200 and len(v.values) < 8 and all(len(text) < 200 for text in v.values)
        for v in violations
    )


def _respond(verdict: Verdict) -> wire.Response:
    audit: dict[str, str] = {"verdict": verdict.outcome}
    if verdict.violations:
        audit["checks"] = ",".join(_checks(verdict))
    if verdict.exempted:
        audit["exemptions"] = "; ".join(
            sorted({f"{e.violation.check}: {e.exemption.reason}" for e in verdict.exempted})
        )[:1000]
    if verdict.allowed:
        return wire.Response(allowed=True, warnings=messages.warnings(verdict), audit=audit)
    return wire.Response(
        allowed=False,
        status={
            "status": "Failure",
            "code": 403,
            "reason": "Forbidden",
            "message": messages.denial(verdict),
            "details": {
                "causes": [
                    {"reason": v.check, "field": v.field, "message": f"{v.reason}; {v.fix}"}
                    for v in verdict.violations
                    if v.level == "deny"
                ][: messages.MOST_VIOLATIONS]
            },
        },
        audit=audit,
    )


def request_of(body: bytes, *, ingress: bool = False) -> tuple[wire.AdmissionRequest, Request]:
    """Return the request in a review's body: as received, and as policy reads it.

    Raise `BadReviewError` for an invalid review, `UndecodableError` if pod templates can't be
    compared.
    """
    admission = wire.decode(body)
    kind, operation = admission.kind.kind, admission.operation
    old = _typed(admission.old_object, admission) if operation == "UPDATE" else None
    changes = old is not None and admission.object is not None and TEMPLATES.get(kind)
    return admission, Request(
        operation=operation,
        namespace=admission.namespace or "",
        subresource=admission.sub_resource or "",
        object=_typed(admission.object, admission),
        old=old,
        template_changed=wire.template_changed(body) if changes else True,
        ingress=ingress,
    )


def _typed(obj: objects.Object | None, admission: wire.AdmissionRequest) -> objects.Object | None:
    """Return the object with the kind of the request, because the API server guarantees it."""
    kind = admission.kind
    if obj is None or obj.kind == kind.kind:
        return obj
    version = f"{kind.group}/{kind.version}".lstrip("/")
    return msgspec.structs.replace(obj, kind=kind.kind, api_version=version)


def _checks(verdict: Verdict) -> list[str]:
    return list(dict.fromkeys(violation.check for violation in verdict.violations))
