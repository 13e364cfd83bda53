"""A `World` with webhooks, injectors and an answer to dry runs, for the doctor."""

import base64
import json
from typing import Any

from tests.cluster.certificates import Authority
from tests.unit.cluster.apiserver import HttpRequest, Reply
from tests.unit.cluster.world import CONFIGURATION, Json, World, meshed

MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
INJECTORS = {
    "linkerd": "linkerd-proxy-injector.linkerd.io",
    "istio": "rev.namespace.sidecar-injector.istio.io",
}
ROOT = Authority("root")


def bundle(authority: Authority = ROOT) -> str:
    return base64.b64encode(authority.pem).decode()


#: The rules of a webhook for pods.
PODS: list[Json] = [{"operations": ["CREATE"], "resources": ["pods"]}]


class Hospital(World):
    """Everything works: both of our webhooks, an injector, and a meshed probe."""

    def __init__(self, mesh: str = "linkerd") -> None:
        super().__init__()
        self.mesh = mesh
        self.probed: Reply | None = None
        self.install()
        for webhook in self.objects[CONFIGURATION]["webhooks"]:
            webhook["name"] = f"{webhook['name'].removesuffix('.mendix-mesh.io')}.mendix-mesh.io"
            webhook["clientConfig"]["caBundle"] = bundle()
            webhook["rules"] = PODS
            webhook["clientConfig"]["service"] |= {"namespace": "mendix-mesh", "name": "mm"}
        self.configuration("00-mendix-mesh", f"{mesh}.mutate-pods.enforce.mendix-mesh.io",
                           path=f"/mutate/{mesh}", rules=PODS)  # fmt: skip
        if mesh in INJECTORS:
            labels = {"istio.io/rev": "default"} if mesh == "istio" else {}
            self.configuration("injector", INJECTORS[mesh], namespace=mesh, labels=labels)
        self.endpoints("mendix-mesh", ready=True)
        self.endpoints(mesh, ready=True)

    def configuration(
        self,
        name: str,
        webhook: str,
        *,
        path: str = "/",
        namespace: str = "mendix-mesh",
        labels: Json | None = None,
        **more: Any,
    ) -> Json:
        """Add a mutating configuration with one webhook, and return the webhook."""
        service = {"namespace": namespace, "name": "mm", "path": path}
        made = {"name": webhook, "clientConfig": {"service": service, "caBundle": bundle()}, **more}
        meta = {"labels": labels or {}}
        self.add(f"{MUTATING}/{name}", {"metadata": meta, "webhooks": [made]})
        return made

    def endpoints(self, namespace: str, *, ready: bool | None) -> None:
        """Give the Service `mm` of a namespace one endpoint."""
        where = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/mm"
        meta = {"labels": {"kubernetes.io/service-name": "mm"}}
        self.add(where, {"metadata": meta, "endpoints": [{"conditions": {"ready": ready}}]})

    def answer(self, request: HttpRequest) -> Reply:
        """Return the API server's answer. By default, dry runs of pods return meshed ones."""
        if request.method != "POST":
            return super().answer(request)
        assert "dryRun=All" in request.target
        if self.probed:
            return self.probed
        made = meshed(self.mesh)
        made["metadata"]["namespace"] = json.loads(request.body)["metadata"]["namespace"]
        made["metadata"]["annotations"].pop("ambient.istio.io/redirection", None)
        return Reply(body=made)
