"""One admission review: body in, answer out. The lane and Flask both answer with this."""

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, get_args

import msgspec
import structlog

from webhook.admission import wire
from webhook.admission.metrics import Metrics
from webhook.policy import meshes, messages, objects
from webhook.policy.checks import Violation
from webhook.policy.meshes import Mesh
from webhook.policy.mutate import mutate
from webhook.policy.request import Request
from webhook.policy.settings import Settings
from webhook.policy.validate import Mode, Verdict, validate
from webhook.policy.workload import TEMPLATES

log = structlog.get_logger(__name__)
_logger = logging.getLogger(__name__)

#: An object and its old self are 3 MiB each at most (the API server's limit), and an envelope.
BODY_LIMIT = 7 * 1024 * 1024
#: The meshes of the contract; one that this version does not know is refused, not let in.
MESHES = ("linkerd", "istio", "ambient", "unknown")

_ADMITTED = wire.Response(allowed=True, audit={"verdict": "admitted"})
_IGNORED = wire.Response(allowed=True)


class Route(NamedTuple):
    """What a path says: which webhook, for which mesh, how strict, and for what kind of pods."""

    webhook: str
    mesh: Mesh
    mode: Mode | None
    ingress: bool


class Answer(NamedTuple):
    """An answer and what is logged and counted of it."""

    body: bytes
    kind: str
    verdict: str


class Reviewer:
    """Answers admission reviews by path; made once, with the settings."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        #: Path -> route: every path that is served, and no other.
        self.routes: dict[str, Route] = {}
        loaded = meshes.load(settings)
        for name in MESHES:
            mesh = loaded.get(name, loaded["unknown"])
            for end, ingress in (("", False), ("/ingress", True)):
                self.routes[f"/mutate/{name}{end}"] = Route("mutate", mesh, None, ingress)
                for mode in get_args(Mode):
                    path = f"/validate/{name}/{mode}{end}"
                    self.routes[path] = Route("validate", mesh, mode, ingress)

    def answer(self, route: Route, body: bytes) -> bytes:
        """The answer to a body, whatever it is; never raises.

        What can't be decoded or goes wrong is refused in enforce, and let in with a warning
        elsewhere: a mutating webhook is not the gate, and the other modes only watch.
        """
        start = time.perf_counter()
        uid, kind = "", ""
        outcome = "error"
        try:
            request = wire.decode(body)
            uid, kind = request.uid, request.kind.kind
            handle: Callable[[Route, wire.AdmissionRequest], Answer] = (
                self._mutate if route.webhook == "mutate" else self._validate
            )
            answer, kind, outcome = handle(route, request)
        except (wire.BadReviewError, objects.UndecodableError) as error:
            uid = getattr(error, "uid", "") or uid
            answer = self._cannot(route, uid, f"can't read the review: {error}")
        except Exception:
            # No object may end a worker; the trace is for us, the answer for the user.
            log.exception("review failed", uid=uid, webhook=route.webhook)
            answer = self._cannot(route, uid, "an error in mendix-mesh; see its log")
        self.metrics.review(route.webhook, route.mesh.name, route.mode or "", kind, outcome)
        self.metrics.duration(route.webhook, time.perf_counter() - start)
        return answer

    def _mutate(self, route: Route, asked: wire.AdmissionRequest) -> Answer:
        kind = asked.kind.kind
        if kind not in TEMPLATES and kind != "Ingress":
            return Answer(_IGNORED.to(asked.uid), kind, "ignored")
        request = request_of(asked, ingress=route.ingress)
        patch = mutate(request, route.mesh, self.settings)
        if not patch:
            return Answer(_IGNORED.to(asked.uid), kind, "unchanged")
        log.debug("patched", uid=asked.uid, kind=kind, namespace=request.namespace)
        response = wire.Response(allowed=True, patch=patch)
        return Answer(response.to(asked.uid), kind, "patched")

    def _validate(self, route: Route, asked: wire.AdmissionRequest) -> Answer:
        kind, mode = asked.kind.kind, route.mode
        if kind not in TEMPLATES or mode is None:
            return Answer(_IGNORED.to(asked.uid), kind, "ignored")
        request = request_of(asked, ingress=route.ingress)
        if request.object is None and request.operation in ("CREATE", "UPDATE"):
            raise objects.UndecodableError(f"{request.operation} without an object")
        verdict = validate(request, route.mesh, mode, self.settings)
        if verdict.outcome in ("admitted", "ignored") and not verdict.violations:
            plain = _ADMITTED if verdict.outcome == "admitted" else _IGNORED
            return Answer(plain.to(asked.uid), kind, verdict.outcome)
        for violation in verdict.violations:
            self.metrics.violation(route.mesh.name, mode, violation.check)
        self._log(asked, request, verdict)
        return Answer(respond(verdict).to(asked.uid), kind, verdict.outcome)

    def _log(self, asked: wire.AdmissionRequest, request: Request, verdict: Verdict) -> None:
        quiet = verdict.outcome == "admitted"
        if quiet and not _logger.isEnabledFor(logging.DEBUG):
            return  # the common case; structlog finds out later, and costs more
        write = log.debug if quiet else log.info
        write(
            verdict.outcome,
            uid=asked.uid,
            mesh=verdict.mesh,
            mode=verdict.mode,
            namespace=request.namespace,
            subject=verdict.subject,
            operation=request.operation,
            checks=_checks(verdict),
        )

    def _cannot(self, route: Route, uid: str, why: str) -> bytes:
        log.warning("unanswerable review", uid=uid, webhook=route.webhook, why=why[:300])
        if route.mode == "enforce":
            return wire.Response(
                allowed=False,
                status={"status": "Failure", "code": 403, "reason": "Forbidden", "message": why},
                audit={"verdict": "denied", "error": why[:300]},
            ).to(uid)
        warning = " ".join(f"mendix-mesh: {why}".split())[: messages.LONGEST_WARNING]
        return wire.Response(allowed=True, warnings=[warning], audit={"error": why[:300]}).to(uid)


def respond(verdict: Verdict) -> wire.Response:
    """A verdict as the API server and its clients see it.

    What is let in with a little advice is most of all: those responses are encoded once.
    """
    if verdict.outcome == "admitted" and not verdict.exempted and _is_small(verdict.violations):
        return _advising(verdict.mesh, verdict.mode, verdict.violations)
    return _respond(verdict)


@lru_cache(maxsize=256)
def _advising(mesh: str, mode: Mode, violations: tuple[Violation, ...]) -> wire.Response:
    return _respond(Verdict("admitted", mesh, mode, violations=violations))


def _is_small(violations: tuple[Violation, ...]) -> bool:
    """Whether they may be remembered: what is in them comes from outside."""
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
        warnings = messages.warnings(verdict)[: messages.MOST_VIOLATIONS]
        return wire.Response(allowed=True, warnings=warnings, audit=audit)
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


def request_of(asked: wire.AdmissionRequest, *, ingress: bool = False) -> Request:
    """Decode what policy reads; whole templates are compared only where both are there."""
    update = asked.operation == "UPDATE"
    old = None if not update or wire.is_null(asked.old_object) else asked.old_object
    obj = None if wire.is_null(asked.object) else asked.object
    changed = True
    if obj is not None and old is not None and TEMPLATES.get(asked.kind.kind):
        changed = _template_changed(obj, old)
    return Request(
        operation=asked.operation,
        namespace=asked.namespace or "",
        subresource=asked.sub_resource or "",
        object=_typed(obj, asked),
        old=_typed(old, asked),
        template_changed=changed,
        ingress=ingress,
    )


class _Templates(msgspec.Struct, gc=False, rename="camel"):
    """Where the kinds with a pod template have it, left as text."""

    template: msgspec.Raw = wire.NULL
    job_template: msgspec.Raw = wire.NULL


class _Controller(msgspec.Struct, gc=False):
    spec: _Templates | None = None


_controllers = msgspec.json.Decoder(_Controller)


def _template_changed(obj: msgspec.Raw, old: msgspec.Raw) -> bool:
    """Compare the texts first: the API server writes equal templates alike."""
    try:
        if _controllers.decode(obj) == _controllers.decode(old):
            return False
        now, before = msgspec.json.decode(obj), msgspec.json.decode(old)
        return bool(objects.template_of(now) != objects.template_of(before))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise objects.UndecodableError(str(error)) from None


def _typed(raw: msgspec.Raw | None, asked: wire.AdmissionRequest) -> objects.Object | None:
    """The object; its kind is the request's, which the API server vouches for."""
    if raw is None:
        return None
    obj = objects.decode(raw)
    kind = asked.kind
    if obj.kind == kind.kind:
        return obj
    version = f"{kind.group}/{kind.version}".lstrip("/")
    return msgspec.structs.replace(obj, kind=kind.kind, api_version=version)


def _checks(verdict: Verdict) -> list[str]:
    return list(dict.fromkeys(violation.check for violation in verdict.violations))
