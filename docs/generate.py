"""Write docs/checks.md from the checks' own data: `python -m docs.generate`.

The examples are the fixtures, and the denials that are shown come from policy.
"""

import dataclasses
import difflib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from tests.fixtures import generate
from tests.fixtures.fixture import Fixture, Json, dump
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
| warning | a warning | a warning | nothing |

- An update of a pod is judged only by what it makes worse. So you can always change and delete a \
pod that already runs.
- A Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob is judged by its pod template. \
It is judged only if the template is new, and not again in a ReplicaSet or Job that another \
controller creates from it.

## How to exempt pods

Only an admin can exempt pods, in the settings (`settings:` in the chart's values). Nothing in the \
pod itself counts. An exemption names checks, namespaces and, with a selector, pods. It has a \
reason, and can have a last day. The pod is then admitted, and the audit log names the exemption.

```yaml
exemptions:
  - checks: [host-network]
    namespaces: [mendix-prod, "mendix-test-*"]
    selector:
      matchLabels: {{app: node-dns}}
    reason: it serves the node and calls no other pod
    until: 2027-03-31
levels:
  - check: root-capable
    level: deny
    reason: our apps never need root
```

- Exempt the *reason* why a pod stays outside the mesh (`host-network`, `opted-out`, \
`foreign-mesh`, `injector-bypass-label`). It also exempts the pod from `proxy-missing`.
- An exemption from a check of what is in the pod (`proxy-brought`, `proxy-forged`) does not admit \
a pod without a proxy.
- A pod's author chooses its labels. So a selector does not stop an author who wants the exemption.
- `levels` change a check to `deny` or `warning`, for all pods or for `namespaces` and a \
`selector`. If several apply, the last one counts.

## What no check can see

- The user that an image runs as. The traffic of an image that was built with the proxy's user id \
is not captured, unless its container sets `runAsUser`.
- What the mesh itself does not capture: everything except TCP, and IPv6 if Linkerd is installed \
without it.
- What is done from outside the pod: `kubectl exec` into the proxy, or an administrator of the node.
- Every value in the environment of a proxy that an author wrote, if mendix-mesh's mutating webhook\
 was not called (in warn or audit, while no server answered), or if Istio's injector merged it.
- A container that becomes root by a program of its image, or that traces the proxy's process \
(`shareProcessNamespace` with `SYS_PTRACE`). Pod Security's levels `baseline` and `restricted` \
complement these checks.

## All checks

| check | level | meshes | a pod that … |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    entries = sorted(checks.all_checks().items())
    examples = list(generate.fixtures())
    rows = (
        f"| [{name}](#{name}) | {entry.check.level} | {_meshes(entry)} | {entry.check.reason} |"
        for name, entry in entries
    )
    denial = messages.denial(_verdict(_renamed(_first("host-network", examples), "shop-debug")))
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
    yield f"| source | {check.source} |"
    yield ""
    mine = [fixture for fixture in examples if fixture.check == check.id]
    example, fixed = _nearest(mine)
    yield f"{example.note} {_CHANGE[len(example.documents) > 1]}"
    yield ""
    yield "```diff"
    yield from _difference(example, fixed)
    yield "```"
    yield ""
    yield "The message:"
    yield ""
    yield "```"
    found = [v for v in _verdict(example).violations if v.check == check.id]
    yield from (line.strip() for line in messages.table(found))
    yield "```"
    others = sorted({fixture.note for fixture in mine if not fixture.passes} - {example.note})
    if others:
        yield ""
        yield "It also reports:"
        yield ""
        yield from (f"- {note}" for note in others)


#: For a pod, and for an update.
_CHANGE = ("Before (-) and after (+) the fix:", "The update that is denied:")


def _nearest(mine: list[Fixture]) -> tuple[Fixture, Fixture]:
    """Return a fixture that breaks a check, and the one that does not and differs the least."""
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
    return min(pairs, key=lambda pair: len(list(_difference(*pair))))


def _difference(example: Fixture, fixed: Fixture) -> Iterator[str]:
    """Yield the lines of YAML that differ, with a few around them."""
    texts = example.documents if len(example.documents) > 1 else (
        *example.documents, fixed.documents[-1])  # fmt: skip
    before, after = (dump((_anonymous(document),)).splitlines()[1:] for document in texts)
    for line in list(difflib.unified_diff(before, after, n=2, lineterm=""))[2:]:
        yield "..." if line.startswith("@@") else line


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


def _verdict(fixture: Fixture) -> Verdict:
    *before, obj = (objects.convert(document) for document in fixture.documents)
    settings = Settings()
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
