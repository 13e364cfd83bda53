"""Write docs/checks.md from the checks' own data: `python -m docs.generate`.

The examples are the fixtures, and the denials that are shown come from policy.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from tests.fixtures import generate
from tests.fixtures.fixture import Fixture, Json, dump
from tests.fixtures.meshes import istio
from webhook.policy import checks, meshes, messages
from webhook.policy.checks import CheckEntry
from webhook.policy.pod import objects
from webhook.policy.pod.request import Request
from webhook.policy.settings import Settings
from webhook.policy.validate import Verdict, validate

PAGE = Path(__file__).parent / "checks.md"

_HEAD = """\
# Checks

<!-- Written by `make docs` (docs/generate.py) from webhook/policy/checks and tests/fixtures. -->

This page lists every check: what it looks at, why it matters and how to fix it. Each check is one \
file in [webhook/policy/checks](../webhook/policy/checks).

## How to read a denial

```
{denial}
```

The first line names the object. A controller's pods are named after their template, as \
`pod shop-master-7f-*`. Then there is one line for **each** violation, so that you can fix all of \
them at once: the check's id (a heading below), the field, the reason and, after the semicolon, \
the fix. If a controller creates the pods, look at its events: `kubectl describe replicaset NAME`.

A check has a level:

| level | enforce | warn | audit |
|---|---|---|---|
| deny | the pod is denied | a warning | an audit annotation |
| warning | a warning | a warning | an audit annotation |

- An update of a pod is judged only by what it makes worse. So you can always change and delete a \
pod that already runs.
- A Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob is judged by its pod template. \
It is judged only if the template is new, and not again in a ReplicaSet or Job that another \
controller creates from it.

## If a pod must break a check

Only an admin can [exempt a pod](install.md#exempt-a-pod), in the settings. \
[What admission can't see](bypasses.md#what-admission-cant-see) lists what no check finds.

## All checks

| check | level | meshes | a pod that … |
|---|---|---|---|
"""


#: What helps to follow a fix, by check.
_MORE = {
    "accepts-plaintext": "[Refuse plaintext](strict.md)",
    "capture-bypassed": "[how an admin allows it](install.md#traffic-past-the-mesh), "
    "[its settings](configuration.md#settingsallow)",
    "input-not-allowed": "[what authors may set](inputs.md), "
    "[how an admin allows more](install.md#what-authors-may-set)",
    "opted-out": "[how an admin exempts it](install.md#exempt-a-pod)",
    "proxy-brought": "[pods that bring their proxy](install.md#pods-that-bring-their-proxy)",
    "proxy-image-untrusted": "[settings that match the mesh](install.md#match-your-mesh)",
    "proxy-missing": "`mendix-mesh doctor -n NAMESPACE` shows why the injector does not add it",
    "shared-identity": "create the ServiceAccount first: no pod is created with one that does not "
    "exist. For a Mendix app, do not change the Deployment, because the Mendix Operator rolls this "
    "back. Give the ServiceAccount the name of the app's environment and the annotation "
    '`privatecloud.mendix.com/environment-account: "true"` (Mendix Operator 2.7.0 or later). The '
    "warning is advice and can stay",
    "unknown-mesh": "[labels of a namespace](install.md#enroll-a-namespace)",
}


def page() -> str:
    """The whole page."""
    entries = sorted(checks.all_checks().items())
    examples = list(generate.fixtures())
    rows = (
        f"| [{name}](#{name}) | {entry.check.level} | {_meshes(entry)} | {entry.check.reason} |"
        for name, entry in entries
    )
    denial = messages.denial(verdict(_renamed(_first("host-network", examples), "shop-debug")))
    sections = ("\n".join(_section(entry, examples)) for _, entry in entries)
    return _HEAD.format(denial=denial) + "\n".join(rows) + "\n\n" + "\n\n".join(sections) + "\n"


def _section(entry: CheckEntry, examples: list[Fixture]) -> Iterator[str]:
    check = entry.check
    yield f"### {check.id}"
    yield ""
    yield _summary(entry)
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| level | {check.level} |"
    yield f"| meshes | {_meshes(entry)} |"
    yield f"| looks at | {', '.join(f'`{field}`' for field in check.fields)} |"
    yield f"| reason | {check.reason} |"
    yield f"| fix | {check.fix} |"
    if check.id in _MORE:
        yield f"| more | {_MORE[check.id]} |"
    yield f"| source | {check.source} |"
    yield ""
    mine = [fixture for fixture in examples if fixture.check == check.id]
    groups = [mine]
    if check.id in _BY_MESH:
        groups = [[one for one in mine if one.mesh == mesh] for mesh in check.meshes]
    shown = [_nearest(group) for group in groups]
    for number, (example, fixed) in enumerate(shown):
        if number:
            yield ""
        yield from _example(example, fixed)
    if rows := list(_others(mine, [example for example, _ in shown])):
        yield ""
        yield "It also reports:"
        yield ""
        yield "| field | because |"
        yield "|---|---|"
        yield from rows


def _example(example: Fixture, fixed: Fixture) -> Iterator[str]:
    """Yield an example with its mesh, its fix and its message."""
    mesh = _MESHES[example.mesh]
    if difference := list(_difference(example, fixed)):
        yield f"**{mesh}**: {example.note} {_CHANGE[len(example.documents) > 1]}"
        yield ""
        yield "```diff"
        yield from difference
        yield "```"
        yield ""
    yield "The message:"
    yield ""
    yield "```"
    found = [v for v in verdict(example).violations if v.check == example.check]
    yield from (line.strip() for line in messages.table(found))
    yield "```"


def _others(mine: list[Fixture], shown: list[Fixture]) -> Iterator[str]:
    """Yield a row for each field that other examples break, with what they show."""
    known = {example.note for example in shown}
    notes: dict[str, list[str]] = {}
    for fixture in mine:
        if fixture.passes or fixture.note in known:
            continue
        note = fixture.note + (_CORRECTED if fixture.stored_only else "")
        for found in verdict(fixture).violations:
            if found.check == fixture.check and note not in notes.get(found.field, ()):
                notes.setdefault(found.field, []).append(note)
    for field, texts in sorted(notes.items()):
        # The same with a CNI plugin adds nothing.
        short = [
            text for text in texts if not text.endswith(_CNI) or text[: -len(_CNI)] not in texts
        ]
        yield f"| `{field}` | {' '.join(short)} |"


_CNI = " The CNI plugin reads the annotation."
_CORRECTED = " On a new pod, mendix-mesh or the injector corrects this."

#: How the page names a mesh.
_MESHES = {"linkerd": "Linkerd", "istio": "Istio, sidecars", "ambient": "Istio, ambient mode",
           "unknown": "An unknown mesh"}  # fmt: skip
#: Checks whose examples differ by mesh.
_BY_MESH = {"capture-bypassed", "input-not-allowed", "opted-out"}

#: For a pod, and for an update.
_CHANGE = ("Before (-) and after (+) the fix:", "The update that is denied:")


#: The most lines of a difference that is easy to read, and of one that is shown completely.
_MOST_LINES, _LONGEST = 12, 40
#: Examples that show what is usual, for checks with many.
_USUAL = {
    ("capture-bypassed", "linkerd-skip-outbound-ports"), ("input-not-allowed", "linkerd-unknown"),
    ("input-not-allowed", "istio-unknown"), ("proxy-uid", "istio-app"),
}  # fmt: skip
_ORDER = ("linkerd", "istio", "ambient", "unknown")


def _nearest(mine: list[Fixture]) -> tuple[Fixture, Fixture]:
    """Return a fixture that breaks a check, and the one that does not and differs the least."""
    usual = next((one for one in mine if (one.check, one.name) in _USUAL), None)
    meshes = {fixture.mesh for fixture in mine if fixture.passes}
    pairs = [
        (fails, passes)
        for fails in mine if not fails.passes
        for passes in mine
        if passes.passes and (passes.mesh == fails.mesh or fails.mesh not in meshes)
    ]  # fmt: skip
    if not pairs:
        raise SystemExit(
            f"{mine[0].check if mine else 'a check'} needs a failing and a passing pod in "
            "tests/fixtures/meshes; the tests name the check and the meshes"
        )

    def order(pair: tuple[Fixture, Fixture]) -> tuple[bool, bool, bool, bool, int, int]:
        """The usual one first, creations, what an author does, what is short; then by mesh."""
        fails, lines = pair[0], len(list(_difference(*pair)))
        update, injected = len(fails.documents) > 1, fails.author is None
        return (
            fails is not usual,
            update,
            injected,
            lines > _MOST_LINES,
            _ORDER.index(fails.mesh),
            lines,
        )

    return min(pairs, key=order)


def _difference(example: Fixture, fixed: Fixture) -> Iterator[str]:
    """Yield the lines of YAML that differ, with a few around them.

    If the pod's author alone can break the check, compare what the author writes. For a check with
    an example by mesh, compare the pod with what the check reports and without it.
    """
    texts = example.documents
    if example.author is not None:
        texts = (example.author, istio.app())
    elif example.check in _BY_MESH:
        texts = (_submitted(example.documents[0]), _submitted(_without_found(example)))
    elif len(texts) == 1:
        texts = (*texts, fixed.documents[-1])
    before, after = (dump((_anonymous(document),)).splitlines()[1:] for document in texts)
    found = list(difflib.unified_diff(before, after, n=2, lineterm=""))[2:]
    lines = ["..." if line.startswith("@@") else line for line in found]
    # The rest is what the injector adds once the pod is right.
    more = "..." in lines[1:] and len(lines) > _LONGEST
    yield from lines[: lines.index("...", 1)] if more else lines


def _submitted(pod: Json) -> Json:
    """Return the pod without the labels and annotations that Linkerd's injector adds."""
    meta = dict(pod["metadata"])
    for place in ("labels", "annotations"):
        kept = {key: value for key, value in meta[place].items() if key not in _OF_INJECTOR}
        meta[place] = kept
    return {**pod, "metadata": meta}


_OF_INJECTOR = {
    "linkerd.io/control-plane-ns", "linkerd.io/workload-ns", "linkerd.io/created-by",
    "linkerd.io/proxy-version", "linkerd.io/trust-root-sha256",
}  # fmt: skip


def _without_found(example: Fixture) -> Json:
    """Return the pod without the labels and annotations that the check reports."""
    pod = example.documents[0]
    meta = dict(pod["metadata"])
    for found in verdict(example).violations:
        field = re.fullmatch(r"metadata\.(labels|annotations)\[(.+)\]", found.field)
        if field and found.check == example.check:
            place, key = field.groups()
            meta[place] = {name: value for name, value in meta[place].items() if name != key}
    return {**pod, "metadata": meta}


def _anonymous(pod: Json) -> Json:
    return {**pod, "metadata": {**pod["metadata"], "name": "shop"}}


def _summary(entry: CheckEntry) -> str:
    """The first line of the check's file."""
    module = (
        import_module(f"webhook.policy.checks.{entry.check.id.replace(chr(45), chr(95))}").__doc__
        or ""
    )
    return str(module).strip().splitlines()[0]


def _meshes(entry: CheckEntry) -> str:
    return ", ".join(entry.check.meshes)


def _first(check: str, examples: list[Fixture]) -> Fixture:
    return next(f for f in examples if f.check == check and not f.passes)


def _renamed(fixture: Fixture, name: str) -> Fixture:
    documents = tuple(
        {**document, "metadata": {**document["metadata"], "name": name}}
        for document in fixture.documents
    )
    return dataclasses.replace(fixture, documents=documents)


def verdict(fixture: Fixture, settings: Settings | None = None) -> Verdict:
    """Return what mode enforce says of a fixture, by default with the default settings."""
    *before, obj = (objects.convert(document) for document in fixture.documents)
    settings = settings or Settings()
    request = Request(
        operation="UPDATE" if before else "CREATE",
        namespace="mendix",
        object=obj,
        old=before[0] if before else None,
        subresource=fixture.subresource,
    )
    mesh = meshes.load(settings)[fixture.mesh]
    return validate(request, mesh, "enforce", settings)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
