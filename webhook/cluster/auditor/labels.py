"""Warns about pods outside the mesh when a namespace gets a mesh or a more restrictive mode.

Pod Security does the same when the level of a namespace is raised: it judges the running pods by
the new labels and returns warnings. This webhook never denies anything. If the time is not enough
to judge all pods, a warning says so. The response is the API server's AdmissionReview.

The labels in a review come from the caller. If anyone can call, they are not believed: then only
namespaces that are enrolled in the cluster are judged, and no pod is named.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
from flask import Blueprint, Response, request
from werkzeug.exceptions import Forbidden

from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.cluster.judge import Judge
from webhook.cluster.kinds.inventory import RUNNING, BadPod, Inventory, LivePod, Namespace
from webhook.cluster.namespaces.enrollment import Enrolled, Enrollment
from webhook.log import Log
from webhook.policy.labels import MESHES
from webhook.policy.messages import LONGEST_WARNING
from webhook.policy.validate import MODES
from webhook.policy.words import counted, masked, shortened
from webhook.serving import deadline
from webhook.serving import review as reviews
from webhook.serving.http import BODY_LIMIT
from webhook.serving.pages import TRUSTED

log = Log(__name__)

#: The maximum number of pods that are judged in a namespace. Pod Security has the same limit.
MOST_PODS = 3000
#: The share of the API server's timeout that is used.
_SHARE = 0.5
#: The number of namespaces that are judged at the same time. Further requests get the warning that
#: the auditor is too busy.
_AT_ONCE = 4
#: The maximum number of listed combinations of violations. There are at most ten warnings in all,
#: far below the 4,096 characters at which the API server starts to shorten them.
_MOST_KINDS = 7


_decoder = msgspec.json.Decoder(reviews.Review[Namespace])


class Labelling:
    """Answers reviews of namespaces. It never raises, and threads may share it."""

    def __init__(
        self,
        cluster: Cluster,
        judge: Judge,
        enrollment: Callable[[], Enrollment] | None = None,
        *,
        believes: bool,
    ) -> None:
        """Set up the webhook.

        `enrollment` returns the current enrollment. Without it, it is read for each review.
        `believes` means that only the API server can call, so that its labels are true.
        """
        self._believes = believes
        self._inventory = Inventory(cluster)
        self._judge = judge
        self._enrollment = enrollment or (lambda: Enrollment.read(cluster))
        self._slots = threading.Semaphore(_AT_ONCE)

    def answer(self, body: bytes, timeout: float = deadline.DEFAULT) -> bytes:
        """Return the response to a review within half of the API server's timeout, in seconds."""
        until = time.monotonic() + timeout * _SHARE
        try:
            review = reviews.decode(_decoder, body)
        except reviews.BadReviewError as error:
            log.warning("unanswerable review", webhook="labelled", why=str(error)[:300])
            return reviews.Response(allowed=True).to(error.uid)
        # Without a name, all pods of the cluster would be judged.
        found: list[str] = []
        if review.object is not None and review.object.name:
            found = self._warnings(review.object, review.old_object, until)
        return reviews.Response(allowed=True, warnings=found).to(review.uid)

    def _warnings(self, namespace: Namespace, old: Namespace | None, until: float) -> list[str]:
        if not self._slots.acquire(blocking=False):
            return [_fitted(f"mendix-mesh is too busy to look; see {_audit(namespace.name)}")]
        tally = Tally(namespace.name, names_pods=self._believes)

        def look() -> None:
            try:
                self._look(namespace, old, tally, until)
            finally:
                self._slots.release()

        # Use a separate thread, because a call to the API server can take longer than the timeout.
        thread = threading.Thread(target=look, name="labelled", daemon=True)
        thread.start()
        thread.join(max(0.0, until - time.monotonic()))
        return tally.warnings(ended=not thread.is_alive())

    def _look(
        self, namespace: Namespace, old: Namespace | None, tally: "Tally", until: float
    ) -> None:
        try:
            enrollment = self._enrollment()
            enrolled = enrollment.of(namespace)
            before = enrollment.of(old) if old else None
            if not enrolled or not _is_raised(before, enrolled):
                return
            if self._believes or self._is_enrolled(namespace.name, enrollment):
                tally.begin(enrolled)
                self._count(enrolled, tally, until)
            else:
                tally.hide()
        except ClusterError as error:
            tally.fail(str(error))
        except Exception:
            # The namespace is labelled anyway. The traceback is for the operators of the auditor.
            log.exception("review failed", webhook="labelled", namespace=namespace.name)
            tally.fail("an error in mendix-mesh; see the auditor's log")

    def _is_enrolled(self, name: str, enrollment: Enrollment) -> bool:
        """Return whether a namespace of this name exists and is enrolled."""
        try:
            return enrollment.of(self._inventory.namespace(name)) is not None
        except StatusError as error:
            if error.code != 404:
                raise
            return False

    def _count(self, enrolled: Enrolled, tally: "Tally", until: float) -> None:
        for pod in self._inventory.pods(tally.namespace, fields=RUNNING):
            if tally.pods >= MOST_PODS or time.monotonic() >= until:
                tally.cut = True
                return
            if isinstance(pod, BadPod):
                tally.add(pod.name, "unknown", ("unreadable",))
            elif pod.runs:
                tally.add(pod.name, *self._found(pod, enrolled))

    def _found(self, pod: LivePod, enrolled: Enrolled) -> tuple[str, tuple[str, ...]]:
        """Return the state of a pod and the checks that it violates."""
        judged = self._judge.judge(pod, enrolled)
        broken = {one.check for one in judged.violations if one.level == "deny"}
        return judged.state, tuple(sorted(broken))


class Tally:
    """The results so far for one namespace. One thread adds results, another one may read them."""

    def __init__(self, namespace: str, *, names_pods: bool = True) -> None:
        self.namespace = namespace
        self._names_pods = names_pods
        self._hidden = False
        #: The number of pods judged so far.
        self.pods = 0
        #: Whether some pods were not judged.
        self.cut = False
        self._mesh = ""
        self._why = ""
        self._states: Counter[str] = Counter()
        self._kinds: Counter[tuple[str, ...]] = Counter()
        self._examples: dict[tuple[str, ...], str] = {}
        self._lock = threading.Lock()

    def begin(self, enrolled: Enrolled) -> None:
        """Record that the judging starts, and for which mesh."""
        self._mesh = enrolled.mesh

    def hide(self) -> None:
        """Record that the pods are not judged, because the caller may not know about them."""
        self._hidden = True

    def fail(self, why: str) -> None:
        """Record why judging stopped."""
        self._why = why if self._names_pods else "see the auditor's log"

    def add(self, name: str, state: str, broken: tuple[str, ...]) -> None:
        """Record the result for one pod."""
        with self._lock:
            self.pods += 1
            if state in ("unmeshed", "partly") or "unreadable" in broken:
                self._states[state] += 1
                self._kinds[broken] += 1
                self._examples.setdefault(broken, name)

    def warnings(self, *, ended: bool) -> list[str]:
        """Return the warnings; empty if all pods are fine. Not `ended`: the time ran out."""
        with self._lock:
            lines = [*self._summary(), *self._listed(), *self._rest(ended=ended)]
        return [_fitted(line) for line in lines]

    def _summary(self) -> Iterator[str]:
        number = self._states.total()
        if not number:
            return
        where = "outside"
        if self._states["partly"]:
            where += " or partly outside"
        text = f"{number} of {self.pods} pods in {self.namespace} are {where} the {self._mesh} mesh"
        way = f"mendix-mesh restart -n {self.namespace}"
        if len(text) + len(way) + 2 <= LONGEST_WARNING:
            yield f"{text}; {way}"
        else:
            yield text
            yield way

    def _listed(self) -> Iterator[str]:
        for broken, number in self._kinds.most_common(_MOST_KINDS):
            checks = ", ".join(broken) or "unmeshed"
            if not self._names_pods:
                yield f"{counted(number, 'pod')}: {checks}"
                continue
            more = f" and {number - 1} more" if number > 1 else ""
            what = f"{more}: {checks}"
            room = max(LONGEST_WARNING - len(what), 21)
            yield shortened(self._examples[broken], room) + what

    def _rest(self, *, ended: bool) -> Iterator[str]:
        """Yield one line that says why the list is incomplete, if it is."""
        whole = _audit(self.namespace)
        if self._hidden:
            yield f"{whole} shows which pods are outside the mesh"
            return
        if self._why:
            yield f"the pods of {self.namespace} could not be judged: {self._why}"
        elif self.cut or (not ended and self._mesh):
            yield f"only {self.pods} pods were judged in time; see {whole}"
        elif not ended:
            yield f"the pods could not be judged in time; see {whole}"
        elif len(self._kinds) > _MOST_KINDS:
            yield f"and {len(self._kinds) - _MOST_KINDS} more kinds; see {whole}"


def blueprint(labelling: Labelling, *, authenticates: bool = False) -> Blueprint:
    """Return the routes of the webhook: `POST /labelled`.

    With `authenticates`, a client needs an allowed certificate.
    """
    routes = Blueprint("labelled", __name__)

    @routes.post("/labelled")
    def labelled() -> Response:
        if authenticates and not request.environ.get(TRUSTED):
            raise Forbidden("a client certificate is required")
        request.max_content_length = BODY_LIMIT
        timeout = deadline.seconds(request.query_string)
        body = labelling.answer(request.get_data(cache=False), timeout)
        return Response(body, content_type="application/json")

    return routes


def _is_raised(before: Enrolled | None, now: Enrolled) -> bool:
    """Return whether pods now get warnings or denials that they did not get before."""
    if now.mesh not in MESHES or now.mode == "audit":
        return False
    same = before is not None and before.mesh == now.mesh
    return not (same and before and MODES.index(before.mode) <= MODES.index(now.mode))


def _audit(namespace: str) -> str:
    return f"mendix-mesh audit -n {namespace}"


def _fitted(text: str) -> str:
    """Return a warning without control characters, short enough for clients to show all of it."""
    return shortened(masked(" ".join(text.split())), LONGEST_WARNING)
