"""An init container that keeps running, and starts before the rules that capture traffic.

No rule applies to connections that are already open, so it can send plaintext as long as it runs.
"""

from webhook.policy.checks import Check

CHECK = Check(
    id="init-before-rules",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=("spec.initContainers",),
    reason="starts before traffic is captured and keeps running, so its connections are never "
    "captured",
    fix="author, or admin of the webhook that adds it: make it a container, or use native "
    "sidecars and place it after the proxy",
    source="kubernetes.io sidecar containers; conntrack: nat rules see only the first packet",
    evidence=True,
    asks="lasting_before_rules",
)
