"""Write the chart's files/policies.json from policy: `python -m charts.generate_policies`.

It has the expressions of the API server's own policies. In them, names in `<<…>>` are parameters.
The chart computes their values from `settings`, as described in `parameters`.
"""

import json
from pathlib import Path
from typing import Any

from webhook.policy import cel, engine, mendix
from webhook.policy.engine.terms import Want
from webhook.policy.meshes.linkerd import CLOSED_POLICIES
from webhook.policy.settings import Settings

FILE = Path(__file__).parent / "mendix-mesh" / "files" / "policies.json"
_DEFAULT = Settings()
_L, _I = _DEFAULT.linkerd, _DEFAULT.istio
#: Each parameter: the path in the settings, the default there, and what the chart makes of it.
#: - pattern: a list of texts as alternatives of a regular expression; ports: the same of a list of
#:   ports; quoted: a text in a regular expression; text: a text in a literal; number
PARAMETERS: dict[str, tuple[str, Any, str]] = {
    "clusterDomain": ("clusterDomain", _DEFAULT.cluster_domain, "quoted"),
    "clusterDomainText": ("clusterDomain", _DEFAULT.cluster_domain, "text"),
    "linkerd.namespace": ("linkerd.controlPlaneNamespace", _L.control_plane_namespace, "quoted"),
    "linkerd.namespaceText": ("linkerd.controlPlaneNamespace", _L.control_plane_namespace, "text"),
    "linkerd.proxyImages": ("linkerd.proxyImages", _L.proxy_images, "pattern"),
    "linkerd.initImages": ("linkerd.initImages", _L.init_images, "pattern"),
    "linkerd.proxyUid": ("linkerd.proxyUid", _L.proxy_uid, "number"),
    "linkerd.groups": ("linkerd.proxyGid", _L.proxy_gid, "numbers"),
    "linkerd.inboundPort": ("linkerd.inboundPort", _L.inbound_port, "number"),
    "linkerd.outboundPort": ("linkerd.outboundPort", _L.outbound_port, "number"),
    "linkerd.inboundSkips": ("linkerd.skipInboundPorts", _L.skip_inbound_ports, "ports"),
    "linkerd.outboundSkips": ("linkerd.skipOutboundPorts", _L.skip_outbound_ports, "ports"),
    "linkerd.inboundPolicy": ("linkerd.inboundPolicy", "", "text"),
    "istio.namespace": ("istio.controlPlaneNamespace", _I.control_plane_namespace, "quoted"),
    "istio.hosts": ("istio.controlPlaneHosts", _I.control_plane_hosts, "pattern"),
    "istio.revision": ("istio.revision", "", "text"),
    "istio.nativeSidecars": ("istio.nativeSidecars", _I.native_sidecars, "flag"),
    "istio.proxyImages": ("istio.proxyImages", _I.proxy_images, "pattern"),
    "istio.proxyUid": ("istio.proxyUid", _I.proxy_uid, "number"),
    "istio.inboundPorts": ("istio.excludeInboundPorts", _I.exclude_inbound_ports, "ports"),
    "istio.outboundPorts": ("istio.excludeOutboundPorts", _I.exclude_outbound_ports, "ports"),
}


def generated() -> str:
    """Return the content of the file."""
    content = {
        "parameters": {
            name: {"path": path.split("."), "default": default, "as": kind}
            for name, (path, default, kind) in PARAMETERS.items()
        },
        "closedPolicies": CLOSED_POLICIES,
        "undecided": engine.UNDECIDED,
        "role": _role(),
        "meshes": {name: _mesh(name) for name in engine.MESHES},
    }
    return json.dumps(content, indent=1, ensure_ascii=True) + "\n"


def _mesh(name: str) -> dict[str, Any]:
    wants = engine.MESHES[name].wants
    return {
        "ordinary": engine.together(engine.ordinary(name)),
        "bounded": engine.together(engine.bounded(name)),
        "submitted": engine.together(engine.submitted(name)),
        "wanted": cel.some(*(want.condition for want in wants)),
        "patch": _patch(wants),
        "rules": [
            {
                "check": rule.check.id,
                "level": rule.check.level,
                "explains": rule.check.explains_absence,
                "absence": rule.check.id == "proxy-missing",
                "rows": rule.rows,
            }
            for rule in engine.rules(name)
        ],
    }


def _patch(wants: tuple[Want, ...]) -> str:
    """Return the JSON Patch that adds what is wanted, as an expression."""
    operations = []
    for place in ("labels", "annotations"):
        of_place = [want for want in wants if want.place == place]
        if not of_place:
            continue
        whole = cel.some(*(want.condition for want in of_place))
        new = f"JSONPatch{{op: 'add', path: '/metadata/{place}', value: {{}}}}"
        operations.append(f"((!has(object.metadata.{place}) && ({whole})) ? [{new}] : [])")
        for want in of_place:
            key = want.key.replace("~", "~0").replace("/", "~1")
            added = f"JSONPatch{{op: 'add', path: '/metadata/{place}/{key}', value: {want.value}}}"
            operations.append(f"(({want.condition}) ? [{added}] : [])")
    return " + ".join(operations)


def _role() -> str:
    """Return the Mendix role of a pod, with its parentheses; empty if it has none."""
    owners = "object.metadata.?ownerReferences.orValue([]).filter(o, o.?controller.orValue(false))"
    owner = f"{owners}.map(o, o.name)"
    name = f"({owner} + [object.metadata.?name.orValue('')])[0]"
    part = (
        f"{cel.LABELS}[?{cel.text(mendix.GROUP + '/component')}]"
        f".or({cel.LABELS}[?'component']).orValue('')"
    )
    kind = f"{cel.LABELS}[?'node-type'].orValue('')"
    group = f"o.apiVersion.startsWith({cel.text(mendix.GROUP + '/')})"
    task = f"{owners}.exists(o, o.kind in {cel.listed(sorted(mendix.TASK_OWNERS))} && {group})"
    last = "object.metadata.?name.orValue('task').split('-')"
    return (
        f"({name}.startsWith('mendix-operator') ? ' (Mendix operator)' "
        f": {name}.startsWith('mendix-agent') ? ' (Mendix agent)' "
        f": {task} ? ' (Mendix ' + {last}[size({last}) - 1] + ')' "
        f": {part} != 'mendix-app' ? '' "
        f": {kind} == 'master' || {name}.contains('-master') ? ' (Mendix app leader)' "
        f": {kind} == 'worker' || {name}.contains('-worker') ? ' (Mendix app worker)' "
        ": ' (Mendix app)')"
    )


if __name__ == "__main__":
    FILE.write_text(generated())
