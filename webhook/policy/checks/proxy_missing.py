"""A stored pod without the mesh's proxy: the injector did not run, or skipped it."""

from webhook.policy import cel
from webhook.policy.checks import Check
from webhook.policy.meshes import ambient, istio, linkerd
from webhook.policy.occurrences import label

CHECK = Check(
    id="proxy-missing",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "spec.initContainers",
        "spec.containers",
        "metadata.labels[istio.io/dataplane-mode]",
    ),
    reason="did not get the mesh's proxy",
    fix="admin: check that the injector runs and the namespace does not disable it, then try again",
    follows=True,
    source="linkerd2 pkg/inject/report.go; proxy-injector-rbac.yaml (failurePolicy Ignore)",
    evidence=True,
    asks="missing",
)


def rule(terms: cel.Terms) -> cel.Rule:
    """Return the check in CEL. Another violation can be its reason, and then it is left out."""
    field, reason, fix = "'spec.initContainers'", cel.text(istio.NO_PROXY), cel.text(CHECK.fix)
    absent = cel.each("c.name != 'istio-proxy'")
    if terms.mesh == "linkerd":
        absent, reason = cel.each("c.name != 'linkerd-proxy'"), cel.text(linkerd.NO_PROXY)
    elif terms.mesh == "istio":
        before, after = map(cel.text, istio.NO_REVISION)
        revision = f"{cel.LABELS}[?{cel.text(istio.REVISION)}]"
        fix = (
            f"({cel.LABELS}[?{cel.text(istio.INJECT)}].orValue('') != 'true' "
            f"? {cel.text(istio.NOT_OPTED_IN)} : {revision}.hasValue() "
            f"? {before} + {revision}.value() + {after} : {cel.text(istio.NO_DEFAULT)})"
        )
    else:
        absent = f"{cel.LABELS}[?{cel.text(ambient.MODE)}].orValue('') != 'ambient'"
        field, reason, fix = map(
            cel.text, (label(ambient.MODE), ambient.NOT_AMBIENT, ambient.CREATE_AGAIN)
        )
    return cel.Rule(f"{absent} ? [{cel.row(field, reason, fix)}] : []")
