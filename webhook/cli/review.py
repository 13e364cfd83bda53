"""`mendix-mesh review`: show what the webhook would do with manifests, without a cluster."""

import datetime
import difflib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import jsonpatch
import msgspec

from webhook.admission import wire
from webhook.admission.review import request_of
from webhook.cli import _ci, _complete, _manifests
from webhook.cli._errors import BadInputError, warn
from webhook.cli._manifests import Document
from webhook.cli._names import namespace_name
from webhook.cli._output import FORMATS, Printer
from webhook.cli._result import Result
from webhook.cli._settings import read_settings
from webhook.policy import injection, meshes, messages
from webhook.policy.labels import MESH_LABEL, MESHES, MODE_LABEL
from webhook.policy.mesh import Mesh
from webhook.policy.mutate import Operation, mutate
from webhook.policy.pod import objects
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import TEMPLATES, pod_of
from webhook.policy.settings import Settings
from webhook.policy.validate import MODES, Mode, Verdict, validate, weigh
from webhook.serving.review import KIND


class Reviewed(msgspec.Struct):
    """All results, and the number of each verdict."""

    results: list[Result]
    summary: dict[str, int]


@click.command(
    "review",
    epilog="""Examples:

    mendix-mesh review -f app.yaml

    mendix-mesh review -f manifests -o sarif > mesh.sarif

    kubectl get pods -n mendix -o yaml | mendix-mesh review -f - --final

    kubectl get namespace,deployment -A -o yaml | mendix-mesh review -f -

    Exit codes: 0 no object breaks a rule that mode enforce denies; 1 an object does, in any
    mode; 2 a part of the input is invalid (it is reported on stderr, the rest is reviewed).""",
)
@click.option(
    "-f", "--filename", "files", multiple=True, required=True, metavar="FILE|DIR|-",
    shell_complete=_complete.files,
    help="Manifests in YAML or JSON, also with several documents, Lists or AdmissionReviews. Can "
    "be given several times.",
)  # fmt: skip
@click.option(
    "--mesh", type=click.Choice(MESHES),
    help="Mesh of all namespaces. Default: from the Namespaces in the input, else linkerd.",
)  # fmt: skip
@click.option(
    "--mode", type=click.Choice(MODES),
    help="Mode of all namespaces. Default: from the Namespaces in the input, else enforce.",
)  # fmt: skip
@click.option(
    "-n",
    "--namespace",
    default="default",
    callback=namespace_name,
    help="Namespace of objects without one. Default: default.",
)
@click.option("--final", is_flag=True, help="Judge the pods as they are: they are stored pods.")
@click.option("--ingress", is_flag=True, help="The pods belong to an ingress controller.")
@click.option(
    "--settings", type=click.Path(dir_okay=False, path_type=Path), help="Settings file, YAML."
)
@click.option(
    "-o", "--output", type=click.Choice((*FORMATS, "sarif", "junit")), default="table",
    show_default=True,
    help="For CI: sarif for code scanning, junit for test reports.",
)  # fmt: skip
def COMMAND(  # noqa: N802 - the name by which commands are found
    files: tuple[str, ...],
    mesh: str | None,
    mode: Mode | None,
    namespace: str,
    final: bool,
    ingress: bool,
    settings: Path | None,
    output: str,
) -> None:
    """Show what the webhook would do with manifests, without a cluster.

    Manifests are judged as they are after mutation by the webhook. With --final, and in
    AdmissionReviews, pods are judged as they are: the mesh's proxy must already be in them.

    Namespaces in the input set mesh, mode, labels and annotations for their objects. If a
    namespace prevents injection, this is reported for each of its pods.
    """
    read = read_settings(settings)
    warn(*read.lapsed(datetime.date.today()))
    reviewer = _Reviewer(read, mesh, mode, namespace, final, ingress)
    documents = list(_manifests.read(files, reviewer.reject))
    if not documents and not reviewer.rejected:
        raise BadInputError(f"nothing to review: no Kubernetes object in {', '.join(files)}")
    reviewed = reviewer.review(documents)
    _print(output, reviewed, reviewer)
    if reviewer.rejected:
        raise click.exceptions.Exit(BadInputError.exit_code)
    if any(v.level == "deny" for result in reviewed.results for v in result.violations):
        raise click.exceptions.Exit(1)


def _print(form: str, reviewed: Reviewed, reviewer: "_Reviewer") -> None:
    if form == "sarif":
        Printer("json").data(_ci.sarif(reviewed.results, reviewer.rejected))
    elif form == "junit":
        click.echo(_ci.junit(reviewed.results, reviewer.rejected))
    elif form == "table":
        _show(Printer(form), reviewed, reviewer.skipped)
    else:
        Printer(form).data(reviewed)


class _Namespace(NamedTuple):
    """Labels and annotations of a Namespace in the input."""

    labels: dict[str, str]
    annotations: dict[str, str]


class _Reviewer:
    """Reviews documents with the Namespaces that are among them."""

    def __init__(
        self,
        settings: Settings,
        mesh: str | None,
        mode: Mode | None,
        namespace: str,
        final: bool,
        ingress: bool,
    ) -> None:
        self._settings = settings
        self._meshes = meshes.load(settings)
        self._mesh = mesh
        self._mode = mode
        self._default = namespace
        self._final = final
        self._ingress = ingress
        self._namespaces: dict[str, _Namespace] = {}
        #: Kinds that are not reviewed, with the number of objects.
        self.skipped: Counter[str] = Counter()
        #: A message for each invalid part of the input.
        self.rejected: list[str] = []

    def reject(self, error: BadInputError) -> None:
        """Report an invalid part of the input."""
        self.rejected.append(error.message)
        error.show()

    def review(self, documents: list[Document]) -> Reviewed:
        """Return the results of the documents in order. Invalid ones are reported."""
        results: list[Result] = []
        # Namespaces first, because the others need them.
        for document in sorted(documents, key=lambda one: one.kind != "Namespace"):
            try:
                results += self._one(document)
            except BadInputError as error:
                self.reject(error)
        counts = Counter(result.verdict for result in results)
        summary = {"admitted": 0, "denied": 0, **counts}
        if self.skipped:
            summary["skipped"] = self.skipped.total()
        if self.rejected:
            summary["unusable"] = len(self.rejected)
        return Reviewed(results, summary)

    def _one(self, document: Document) -> Iterator[Result]:
        kind = document.kind
        try:
            if kind == "Namespace":
                meta = _converted(document).metadata or objects.Meta()
                found = _Namespace(meta.labels or {}, meta.annotations or {})
                self._namespaces[meta.name or ""] = found
            elif kind == KIND:
                yield self._review(document)
            elif kind in TEMPLATES or kind == "Ingress":
                yield self._manifest(document)
            else:
                self.skipped[kind] += 1
        except objects.UndecodableError as error:
            # The environment of a mesh's container is decoded only during the review.
            document.reject(str(error))

    def _review(self, document: Document) -> Result:
        try:
            body = json.dumps(document.content).encode()
            _, request = request_of(body, ingress=self._ingress)
        except (wire.BadReviewError, TypeError, ValueError) as error:
            document.reject(str(error))
        return self._judged(document, self._placed(request), [], True)

    def _manifest(self, document: Document) -> Result:
        obj = _converted(document)
        if obj.kind in TEMPLATES:
            _manifests.demand_containers(document)
        namespace = (obj.metadata.namespace if obj.metadata else None) or self._default
        request = self._placed(
            Request(namespace=namespace, object=obj, ingress=self._ingress, stored=self._final)
        )
        mesh, _ = self._where(namespace)
        patch: list[Operation] = []
        if mesh is not None and not self._final:
            patch = mutate(request, mesh, self._settings)
            applied = jsonpatch.apply_patch(document.content, msgspec.to_builtins(patch))
            request = msgspec.structs.replace(request, object=objects.convert(applied))
        return self._judged(document, request, patch, self._final)

    def _judged(
        self, document: Document, request: Request, patch: list[Operation], final: bool
    ) -> Result:
        namespace = request.namespace or self._default
        obj = request.object or objects.Object()
        mesh, mode = self._where(namespace)
        verdict, violations = "ignored", []
        if mesh is not None:
            judged = validate(request, mesh, mode, self._settings, final=final)
            if not final:
                judged = self._as_injected(judged, request, mesh)
            verdict, violations = judged.outcome, list(judged.violations)
            if obj.kind == "Ingress":
                verdict = "admitted"
        meta = obj.metadata or objects.Meta()
        return Result(
            source=document.source,
            line=document.line,
            kind=obj.kind,
            namespace=namespace,
            name=meta.name or (f"{meta.generate_name}*" if meta.generate_name else ""),
            mesh=mesh.name if mesh else "",
            mode=mode,
            verdict=verdict,
            patch=patch,
            violations=violations,
            warnings=messages.ingress_warnings(request, self._settings, mesh.name) if mesh else [],
        )

    def _placed(self, request: Request) -> Request:
        """Return the request with labels and annotations of its namespace, if in the input."""
        found = self._namespaces.get(request.namespace or self._default)
        if found is None:
            return request
        return msgspec.structs.replace(
            request, namespace_labels=found.labels, namespace_annotations=found.annotations
        )

    def _as_injected(self, judged: Verdict, request: Request, mesh: Mesh) -> Verdict:
        """Return the verdict, with a violation if the namespace prevents injection.

        A template is admitted anyway: the webhook denies the pods created from it.
        """
        pod = pod_of(request.object, mesh, request) if request.object else None
        labels, annotations = request.namespace_labels, request.namespace_annotations
        if pod is None or labels is None or annotations is None or judged.outcome == "ignored":
            return judged
        missed = injection.missed(pod, mesh, labels, annotations)
        if missed is None:
            return judged
        # Compute levels and exemptions of all again, because one violation may explain another.
        return weigh(
            [*judged.violations, *(one.violation for one in judged.exempted), missed],
            pod.labels,
            pod.today,
            mesh.name,
            judged.mode,
            self._settings,
            denies=not pod.template or judged.outcome == "denied",
            subject=judged.subject,
            namespace=request.namespace,
        )

    def _where(self, namespace: str) -> tuple[Mesh | None, Mode]:
        """Return mesh and mode of a namespace; no mesh if it is in the input but not enrolled."""
        found = self._namespaces.get(namespace)
        if self._mesh:
            mesh: str | None = self._mesh
        elif found is None:
            mesh = "linkerd"
        else:
            mesh = found.labels.get(MESH_LABEL)
        named = self._mode or (found.labels if found else {}).get(MODE_LABEL, "enforce")
        mode: Mode = next((known for known in MODES if known == named), "enforce")
        if mesh is None:
            return None, mode
        return self._meshes.get(mesh, self._meshes["unknown"]), mode


def _converted(document: Document) -> objects.Object:
    """Return the fields that policy reads. Raises `BadInputError` if a type is wrong."""
    try:
        return objects.convert(document.content)
    except objects.UndecodableError as error:
        document.reject(str(error))


_MARKS = {"admitted": "✔", "denied": "✘", "warned": "!", "audited": "!", "exempt": "○"}
_STYLES = {"admitted": "green", "denied": "bold red", "warned": "yellow", "audited": "yellow"}


def _show(printer: Printer, reviewed: Reviewed, skipped: Counter[str]) -> None:
    """Print a line for each object; below it what the mutation adds, and the violations."""
    for result in reviewed.results:
        mark, style = _MARKS.get(result.verdict, "-"), _STYLES.get(result.verdict, "dim")
        printer.parts(
            (f"{mark} {result.verdict:<8}", style),
            (f"  {result.kind} {result.namespace}/{result.name}", "bold"),
            (f"  {result.source}", "dim"),
        )
        for added in _added(result.patch):
            printer.parts(("    + ", "green"), (added, ""))
        for warning in result.warnings:
            printer.parts(("    ! ", "yellow"), (warning, ""))
        for v in result.violations:
            color = "red" if v.level == "deny" else "yellow"
            printer.parts(
                (f"    {v.check}", color), (f"  {v.field}", "cyan"), (f"  {v.reason}", "")
            )
            printer.parts((f"      {v.fix}", "dim"))
    counts = ", ".join(f"{n} {verdict}" for verdict, n in reviewed.summary.items())
    printer.parts((f"{len(reviewed.results)} reviewed: {counts}", "bold"))
    if skipped:
        kinds = ", ".join(
            f"{number} {kind}{_meant(kind)}" for kind, number in sorted(skipped.items())
        )
        printer.parts((f"not reviewed: {kinds}", "dim"))
    checks = (v.check for one in reviewed.results for v in one.violations if v.level == "deny")
    for check in dict.fromkeys(checks):
        printer.parts((f"details: mendix-mesh explain {check}", "dim"))


def _meant(kind: str) -> str:
    near = difflib.get_close_matches(kind, TEMPLATES, n=1, cutoff=0.8)
    # The kind itself is near if it is of another API group: `StatefulSet (v1)`.
    return f" (did you mean {near[0]}?)" if near and near[0] not in kind.split() else ""


def _added(patch: list[Operation]) -> Iterator[str]:
    """Yield what a patch adds, like `annotation linkerd.io/inject: enabled`."""
    for operation in patch:
        yield from _pairs(operation.path, operation.value)


def _pairs(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _pairs(f"{path}/{key.replace('~', '~0').replace('/', '~1')}", inner)
        return
    *_, place, key = path.split("/")
    yield f"{place.removesuffix('s')} {key.replace('~1', '/').replace('~0', '~')}: {value}"
