"""Whether an object may be stored: every check, then levels, exemptions and the mode."""

import datetime
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Literal

import msgspec

from webhook.policy import checks, mendix
from webhook.policy.checks import Check, Violation
from webhook.policy.inputs import CHECK as INPUT
from webhook.policy.mesh import Mesh
from webhook.policy.pod.objects import Meta
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import Pod, is_copy, pod_of
from webhook.policy.settings import Exemption, Settings
from webhook.policy.words import masked, shortened

Mode = Literal["enforce", "warn", "audit"]
MODES: tuple[Mode, ...] = ("enforce", "warn", "audit")
Outcome = Literal["admitted", "denied", "warned", "audited", "exempt", "ignored"]

#: Subresources of a pod that do not affect its mesh. Any other one is judged, so that a new way to
#: change a pod fails safe (as Pod Security Admission does).
IGNORED_SUBRESOURCES = frozenset(
    {"attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "scale"}
)


#: The maximum number of violations of one check: one more than a message shows, so that it can say
#: so. An exemption or a level always applies to a whole check, so none can hide another check's.
MOST_OF_A_CHECK = 21


class Exempted(msgspec.Struct, frozen=True):
    """A violation and the admin's exemption that allows it."""

    violation: Violation
    exemption: Exemption


class Verdict(msgspec.Struct, frozen=True):
    """The decision on a request, and why."""

    #: admitted (at most advice); denied, warned or audited (by mode, with a violation); exempt
    #: (only an exemption allows it); ignored (nothing to judge).
    outcome: Outcome
    mesh: str
    mode: Mode
    #: The judged object, like `pod shop-master-7f-*`.
    subject: str = ""
    violations: tuple[Violation, ...] = ()
    exempted: tuple[Exempted, ...] = ()
    #: What the object would do; empty for a pod, of which the messages say it.
    would: str = ""

    def about(self, would: str) -> "Verdict":
        """Return the same verdict about an object that is no pod's."""
        return msgspec.structs.replace(self, would=would)

    @property
    def allowed(self) -> bool:
        """Return whether the object may be stored."""
        return self.outcome != "denied"


def validate(
    request: Request,
    mesh: Mesh,
    mode: Mode,
    settings: Settings,
    *,
    final: bool = True,
    today: datetime.date | None = None,
) -> Verdict:
    """Judge one request.

    A stored pod (`final`) is judged by evidence; controllers and manifests, by intent. An update is
    judged only by what it makes worse, because an object with violations must still be able to lose
    a finalizer. A template is judged when it is new, and only in the object that its author writes.
    `today` decides whether exemptions and allowances have expired; the default is the current day.
    """
    obj = request.object
    if (
        obj is None
        or request.operation not in ("CREATE", "UPDATE")
        or request.subresource in IGNORED_SUBRESOURCES
    ):
        return Verdict("ignored", mesh.name, mode)
    pod = pod_of(obj, mesh, request, final=final)
    if pod is None:
        return Verdict("ignored", mesh.name, mode)
    if is_copy(obj):
        return Verdict("ignored", mesh.name, mode)
    if request.operation == "UPDATE" and request.old is not None:
        if pod.template and not request.template_changed:
            return Verdict("admitted", mesh.name, mode)
        if request.old.metadata == obj.metadata and request.old.spec == obj.spec:
            return Verdict("admitted", mesh.name, mode)
        if not pod.template:
            pod.old = pod_of(request.old, mesh, request, final=final)
    for one in (pod, pod.old):
        if today and one:
            one.today = today
    found = find(pod, mesh, settings)
    if pod.old is not None:
        found = worse(found, find(pod.old, mesh, settings))
    if not found:
        return Verdict("admitted", mesh.name, mode)
    subject = _subject(obj.kind, obj.metadata, pod, created=request.operation == "CREATE")
    return weigh(
        found,
        pod.labels,
        pod.today,
        mesh.name,
        mode,
        settings,
        subject=subject,
        namespace=request.namespace,
    )


def find(pod: Pod, mesh: Mesh, settings: Settings) -> list[Violation]:
    """Return the violations of a pod in any mode, up to a maximum for each check."""
    inputs = mesh.inputs(pod)
    evident, update = pod.final or pod.proxy is not None, pod.old is not None
    found: list[Violation] = []
    if inputs:
        found = _with_inputs(pod, mesh, settings, evident=evident)
    else:
        for violation, look in checks.finders(mesh, evident=evident, update=update):
            left = MOST_OF_A_CHECK
            for occurrence in look(pod):
                found.append(violation(occurrence))
                left -= 1
                if not left:
                    break
    if pod.template and found:
        found = [_moved(violation, pod.template) for violation in found]
    return found


def _with_inputs(pod: Pod, mesh: Mesh, settings: Settings, *, evident: bool) -> list[Violation]:
    """Return the violations of a pod whose author set what is not allowed.

    If that denies the pod anyway, the injector's reaction to it is not reported too.
    """
    inputs = mesh.inputs(pod)
    explained = checks.any_denies(inputs, pod, settings)
    found: list[Violation] = []
    left = dict(inputs)
    for check, look in checks.looks(mesh):
        occurrences = left.pop(check.id, ())[:MOST_OF_A_CHECK]
        said = [check.violation(occurrence) for occurrence in occurrences]
        found += said
        if look is None or (check.evidence and not evident) or (explained and check.follows):
            continue
        # A check may report the same about an input by its effect.
        known = {violation.field for violation in said}
        seen = map(check.violation, islice(look(pod), MOST_OF_A_CHECK))
        found += [
            violation
            for violation in (_apart(seen, pod) if explained else seen)
            if violation.field not in known
        ]
    # A record may have any content. Entries that belong to no check of this mesh are reported too.
    other = checks.all_checks()[INPUT].check
    return [
        *found,
        *(
            other.violation(occurrence)
            for occurrences in left.values()
            for occurrence in occurrences
        ),
    ]


def _apart(found: Iterable[Violation], pod: Pod) -> list[Violation]:
    """Return the violations that are not in the mesh's own containers."""
    injected = tuple(placed.field() for placed in pod.mesh_containers)
    return [violation for violation in found if not violation.field.startswith(injected)]


def worse(found: list[Violation], before: list[Violation]) -> list[Violation]:
    """Return violations that did not exist before, or have further values, like ports, since."""
    known: dict[tuple[str, str], set[str]] = {}
    for violation in before:
        known.setdefault((violation.check, violation.field), set()).update(violation.values)
    return [
        violation
        for violation in found
        if (key := (violation.check, violation.field)) not in known
        or not known[key].issuperset(violation.values)
    ]


def weigh(
    found: Iterable[Violation],
    labels: Mapping[str, str],
    today: datetime.date,
    mesh: str,
    mode: Mode,
    settings: Settings,
    *,
    denies: bool = True,
    subject: str,
    namespace: str,
) -> Verdict:
    """Apply levels and exemptions. Then the mode decides.

    `labels` are those of the judged object, by which settings select. `denies` means that enforce
    may deny it, and not only warn.
    """
    kept: list[Violation] = []
    exempted: list[Exempted] = []
    for violation in found:
        levelled = _at_level(violation, settings, namespace, labels)
        exemption = settings.exemption(violation.check, namespace, labels, today)
        if exemption:
            exempted.append(Exempted(levelled, exemption))
        else:
            kept.append(levelled)
    if not exempted and all(violation.level != "deny" for violation in kept):
        return Verdict("admitted", mesh, mode, subject, tuple(kept))
    if _is_explained(kept, exempted):
        kept = [violation for violation in kept if violation.check != _ABSENCE]
        exempted = [done for done in exempted if done.violation.check != _ABSENCE]
    outcome: Outcome = "admitted"
    if any(violation.level == "deny" for violation in kept):
        outcome = _OUTCOMES[mode] if denies or mode == "audit" else "warned"
    elif any(done.violation.level == "deny" for done in exempted):
        outcome = "exempt"
    return Verdict(outcome, mesh, mode, subject, tuple(kept), tuple(exempted))


_OUTCOMES: dict[Mode, Outcome] = {"enforce": "denied", "warn": "warned", "audit": "audited"}


def _at_level(
    violation: Violation, settings: Settings, namespace: str, labels: Mapping[str, str]
) -> Violation:
    if not settings.levels:
        return violation
    level = settings.level_of(violation.check, violation.level, namespace, labels)
    if level == violation.level:
        return violation
    return msgspec.structs.replace(violation, level=level)


#: "No proxy", which is left out if another violation is its reason.
_ABSENCE = "proxy-missing"


def _is_explained(kept: Iterable[Violation], exempted: Iterable[Exempted]) -> bool:
    """Return whether another violation or exemption already explains the missing proxy."""
    return any(one.explains_absence for one in _denying(kept)) or any(
        one.excuses_absence for one in _denying(done.violation for done in exempted)
    )


def _denying(violations: Iterable[Violation]) -> Iterator[Check]:
    """Yield the checks of pods that are broken at the level deny."""
    entries = checks.all_checks()
    for violation in violations:
        entry = entries.get(violation.check)
        if entry and violation.level == "deny":
            yield entry.check


def _moved(violation: Violation, template: str) -> Violation:
    return msgspec.structs.replace(violation, field=f"{template}.{violation.field}")


def _subject(kind: str, meta: Meta | None, pod: Pod, *, created: bool) -> str:
    """Return the object and its Mendix role: `pod shop-master-7f-* (Mendix app leader)`."""
    meta = meta or Meta()
    name, prefix = meta.name, meta.generate_name
    # A generated name is gone after the denial. The text must be the same at the next try, so that
    # the count of a ReplicaSet's Event grows. Newer API servers generate it before they call us.
    if prefix and (not name or (created and len(name) == len(prefix) + _GENERATED)):
        name = f"{prefix}*"
    role = mendix.role(pod)
    text = f"{kind.lower()} {name or 'without a name'}" + (f" (Mendix {role})" if role else "")
    return masked(shortened(text, _LONGEST_SUBJECT))


#: Characters of a subject; names of objects have 253 at most.
_LONGEST_SUBJECT = 300
#: Characters that the API server appends to generateName.
_GENERATED = 5
