"""What is common to the meshes' expressions."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from webhook.policy import cel, mendix
from webhook.policy.inputs import Inputs
from webhook.policy.inputs.forms import NOTHING, Form
from webhook.policy.mesh import ALLOWED, PLAIN_NAME, RECORD
from webhook.policy.pod.containers import LOADER_ENV


class Condition(NamedTuple):
    """A condition of an ordinary pod."""

    #: What holds for such a pod, in words.
    what: str
    expression: str


class Want(NamedTuple):
    """A label or annotation that a pod gets when it is created."""

    place: str
    key: str
    #: Expressions.
    value: str
    condition: str


class EngineMesh(NamedTuple):
    """A mesh, in CEL."""

    terms: cel.Terms
    ordinary: tuple[Condition, ...]
    submitted: tuple[Condition, ...]
    wants: tuple[Want, ...]


#: The most parts of a pod that the expressions look at. The API server bounds what they may cost.
_MOST = {
    "containers": 30,
    "owners": 30,
    "keys": 100,
    "volumes": 60,
    "variables": 150,
    "arguments": 60,
    "ports": 60,
    "characters": 32_768,
}
#: The longest name, key, label's value and image of an ordinary pod, in characters.
_NAME, _KEY, _VALUE, _IMAGE = 253, 317, 63, 500

SIZE = Condition(
    "the pod is not unusually large",
    cel.every(
        *(f"size({cel.members(name)}) <= {_MOST['containers']}" for name in cel.LISTS),
        f"size({cel.VOLUMES}) <= {_MOST['volumes']}",
        f"size(object.metadata.?ownerReferences.orValue([])) <= {_MOST['owners']}",
        f"size({cel.LABELS}) <= {_MOST['keys']} && size({cel.ANNOTATIONS}) <= {_MOST['keys']}",
        f"{cel.ANNOTATIONS}.all(k, size({cel.ANNOTATIONS}[k]) <= {_MOST['characters']})",
        cel.each(
            f"size(c.?env.orValue([])) <= {_MOST['variables']} "
            f"&& size(c.?args.orValue([])) <= {_MOST['arguments']} "
            f"&& size(c.?ports.orValue([])) <= {_MOST['ports']}"
        ),
    ),
)
#: The chart writes this expression: exemptions and levels of some pods.
SETTINGS = Condition("no exemption or level of the settings selects it", "!(<<selected>>)")
NAMES = Condition(
    "nothing moves the names of the control plane",
    "size(object.spec.?hostAliases.orValue([])) == 0 "
    "&& object.spec.?hostnameOverride.orValue('') == '' "
    "&& !object.metadata.?name.orValue('').contains('.') "
    "&& object.spec.?dnsPolicy.orValue('') != 'None'",
)


def _is_name(text: str, longest: int) -> str:
    return f"size({text}) <= {longest} && {text}.matches({cel.pattern(PLAIN_NAME)})"


OWNERS = Condition(
    "its owners have plain names",
    "object.metadata.?ownerReferences.orValue([]).all(o, "
    + cel.every(*(_is_name(f"o.{field}", _NAME) for field in ("name", "kind", "apiVersion")))
    + ")",
)
#: Before the API server has validated them, and before an injector pastes them.
PLAIN_NAMES = Condition(
    "its names, images and ports are plain",
    cel.every(
        *(
            _is_name(f"object.{field}.orValue('')", _NAME)
            for field in ("metadata.?name", "metadata.?generateName", "spec.?serviceAccountName")
        ),
        f"{cel.LABELS}.all(k, {_is_name('k', _KEY)} && {_is_name(f'{cel.LABELS}[k]', _VALUE)})",
        f"{cel.ANNOTATIONS}.all(k, {_is_name('k', _KEY)})",
        cel.each(cel.every(_is_name("c.name", _NAME), _is_name("c.?image.orValue('')", _IMAGE))),
        cel.each(
            "c.?ports.orValue([]).all(p, "
            + cel.every(
                *(
                    _is_name(f"p.?{field}.orValue('')", _VALUE)
                    for field in ("name", "protocol", "hostIP")
                )
            )
            + ")"
        ),
    ),
)
#: In CEL: the pod must end (`mendix.is_task`).
TASK = (
    "(object.spec.?restartPolicy.orValue('') in ['Never', 'OnFailure'] "
    "|| object.metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false) "
    f"&& (o.kind in ['Job', 'CronJob'] || (o.kind in {cel.listed(sorted(mendix.TASK_OWNERS))} "
    f"&& o.apiVersion.startsWith({cel.text(mendix.GROUP + '/')})))) "
    "|| (!object.metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false)) "
    f"&& {cel.listed(mendix.TASK_SUFFIXES)}"
    ".exists(e, object.metadata.?name.orValue('').endsWith(e))))"
)
RECORDED = f"{cel.ANNOTATIONS}[?{cel.text(RECORD)}].orValue('')"
IS_ALLOWED = f"{RECORDED} == {cel.text(ALLOWED)}"


#: Our record, if an author set it. In Linkerd, each pod gets one.
RERECORD = Want(
    "annotations", RECORD, cel.text(ALLOWED),
    f"{cel.text(RECORD)} in {cel.ANNOTATIONS} && !({IS_ALLOWED})",
)  # fmt: skip


def without(names: Collection[str]) -> str:
    """Return whether no container has one of the names."""
    return cel.each(f"!(c.name in {cel.listed(sorted(names))})")


def inputs(of: Inputs, place: str, extra: Mapping[str, str], *, without_keys: Collection[str] = (),
           submitted: bool) -> str:  # fmt: skip
    """Return whether each key of the labels or annotations is in the allow-list, with its form.

    `extra` are further patterns of values by key, instead of the list's.
    """
    forms: dict[tuple[str, int], list[str]] = {}
    for key, one in of.listed.items():
        if key in extra or key in without_keys or (submitted and one.may == "injector"):
            continue
        if _is_readable(one.form):
            forms.setdefault((one.form.pattern, one.form.longest), []).append(key)
    for key, form in extra.items():
        forms.setdefault((form, 253), []).append(key)
    allowed = [
        f"(k in {cel.listed(keys)} && {_has(place, form, longest)})"
        for (form, longest), keys in forms.items()
    ]
    allowed += [
        f"(k.startsWith({cel.text(start)}) && {_has(place, one.form.pattern, one.form.longest)})"
        for start, one in of.prefixes.items()
    ]
    starts = [re.escape(start) for start in of.reads.starts] + [of.reads.pattern or NOTHING]
    outside = sorted(key for key in of.listed if key not in of.reads)
    known = f"k in {cel.listed(outside)} || " if outside else ""
    # One pattern for all is many times as fast as a list of starts.
    reads = f"^(?:{'|'.join(starts)})|{re.escape(of.reads.below) or NOTHING}"
    return f"{place}.all(k, !({known}k.matches(r'{reads}')) || {' || '.join(allowed)})"


def _has(place: str, form: str, longest: int) -> str:
    return f"size({place}[k]) <= {longest} && {place}[k].matches({cel.pattern(form)})"


def _is_readable(form: Form) -> bool:
    """Return whether a form is one pattern, that some value has and CEL can hold."""
    return form.pattern not in ("", NOTHING) and "'" not in form.pattern


def variables(guarded: Mapping[str, str], never: Iterable[str], known: Collection[str],
              starts: Iterable[str] = ()) -> str:  # fmt: skip
    """Return whether all variables of a container `c` are harmless.

    `guarded` are the patterns that the values of some variables must have, `never` are names of
    which there must be none, `starts` are starts of such names, `known` are the variables that
    values may refer to.
    """
    value = "e.?value.orValue('')"
    kept = value
    for name in sorted(known):
        kept += f".replace({cel.text(f'$({name})')}, '')"
    parts = [
        f"!e.name.matches(r'^(?:{'|'.join(map(re.escape, [*LOADER_ENV, *starts]))})')",
        f"!(e.name in {cel.listed(never)})",
        f"(!{value}.contains('$(') || !{kept}.contains('$('))",
    ]
    if guarded:
        names = cel.listed(guarded)
        each = " || ".join(
            f"(e.name == {cel.text(name)} && {value}.matches({cel.pattern(form)}))"
            for name, form in guarded.items()
        )
        parts.append(f"(!(e.name in {names}) || {each})")
    return f"c.?env.orValue([]).all(e, {' && '.join(parts)})"


def arguments(pattern: str) -> str:
    """Return whether the arguments of a container `c`, joined by line breaks, have a pattern."""
    args = "c.?args.orValue([])"
    joined = f"{args}.join('\\n').matches({cel.pattern(pattern)})"
    return f"!{args}.exists(a, a.contains('\\n')) && {joined}"


def image_of(proxy: str) -> str:
    """Return whether a container `c` has the proxy's image."""
    return cel.some(
        *(
            f"{cel.members(name)}.exists(p, p.name == {cel.text(proxy)} && p.image == c.image)"
            for name in cel.LISTS
        )
    )


def after(names: Collection[str]) -> str:
    """Return whether the mesh's init containers come before all others."""
    inits, ours = cel.members("initContainers"), cel.listed(sorted(names))
    count = f"size({inits}.filter(c, c.name in {ours}))"
    return f"[0, 1, 2, 3].all(i, i >= {count} || {inits}[i].name in {ours})"


def volume(name: str, condition: str) -> str:
    """Return whether a volume, if there is one of this name, meets a condition on `v`."""
    return f"{cel.VOLUMES}.all(v, v.name != {cel.text(name)} || ({condition}))"


def not_run_as(terms: cel.Terms, uids: str, gids: str) -> str:
    """Return whether no workload container runs as one of the users or groups, which are lists."""
    whole = "object.spec.?securityContext"
    own = (
        f"!(c.?securityContext.?runAsUser.orValue(-1) in {uids}) "
        f"&& !(c.?securityContext.?runAsGroup.orValue(-1) in {gids})"
    )
    return cel.every(
        f"!({whole}.?runAsUser.orValue(-1) in {uids})",
        f"!({whole}.?runAsGroup.orValue(-1) in {gids})",
        f"!({whole}.?fsGroup.orValue(-1) in {gids})",
        f"{whole}.?supplementalGroups.orValue([]).all(g, !(g in {gids}))",
        cel.each_workload(terms, own),
    )


def not_mounting(terms: cel.Terms, volumes: Collection[str]) -> str:
    """Return whether no workload container mounts one of the mesh's volumes."""
    mounts = f"c.?volumeMounts.orValue([]).exists(m, m.name in {cel.listed(sorted(volumes))})"
    return cel.each_workload(terms, f"!{mounts}")


def count(name: str, of: str) -> str:
    """Return how many containers of a list have the name."""
    return f"size({cel.members(of)}.filter(c, c.name == {cel.text(name)}))"


def sidecar(proxy: str, rules: tuple[str, str], condition: str, rules_condition: str) -> str:
    """Return whether there is one proxy, native or classic, and one container that sets the rules.

    The conditions are those of the proxy, and of the container with one of the two names in
    `rules`. Other init containers come after them.
    """
    inits, mains = cel.LISTS
    ours, both = cel.listed([proxy, *rules]), cel.listed(rules)
    named = f"c.name != {cel.text(proxy)}"
    native = cel.every(
        f"{count(proxy, inits)} == 1",
        f"{count(proxy, mains)} == 0",
        f"{cel.members(inits)}.all(c, {named} "
        f"|| (c.?restartPolicy.orValue('') == 'Always' && {condition}))",
        after([proxy, *rules]),
    )
    classic = cel.every(
        f"{count(proxy, inits)} == 0",
        f"{count(proxy, mains)} == 1",
        f"size({cel.members(mains)}) > 1",
        f"{cel.members(mains)}.all(c, {named} || ({condition}))",
        f"{cel.members(inits)}.all(c, c.name in {ours})",
    )
    return cel.every(
        f"({native}) || ({classic})",
        f"{' + '.join(count(name, inits) for name in rules)} == 1",
        f"{cel.members(mains)}.all(c, !(c.name in {both}))",
        f"{cel.members(inits)}.all(c, !(c.name in {both}) || ({rules_condition}))",
    )
