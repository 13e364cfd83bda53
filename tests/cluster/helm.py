"""Our chart as a release on a test cluster, by default with a certificate of a temporary CA."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tests.cluster.api import core, wait_for
from tests.cluster.certificates import Authority, Pair
from tests.cluster.plane import KUBELET_ANNOTATION, ControlPlane

CHART = Path(__file__).parents[2] / "charts" / "mendix-mesh"
#: The image's name on the test cluster's nodes.
IMAGE = "mendix-mesh"

Values = Mapping[str, Any]
Source = Literal["secret", "certManager", "helm"]


class Release:
    """The chart with one name in one namespace. Only pods of ServerKubelet really serve.

    Start the namespace's ServerKubelet before `install`, because helm waits for ready pods.
    """

    def __init__(
        self,
        plane: ControlPlane,
        *,
        name: str = "mendix-mesh",
        namespace: str = "mendix-mesh",
        chart: Path = CHART,
        source: Source = "secret",
    ) -> None:
        """With `source` "secret" the tests make the certificate, else see the chart's `tls`."""
        self.name = name
        self.namespace = namespace
        self.chart = chart
        self.source = source
        self.authority = Authority("mendix-mesh test webhook")
        self.labels = {
            "app.kubernetes.io/name": "mendix-mesh",
            "app.kubernetes.io/instance": name,
        }
        """Labels of the server's pods."""
        self._plane = plane

    def install(self, values: Values | None = None, *, wait: bool = True) -> None:
        """Create the namespace and, for source "secret", the certificate. Install the chart.

        Raise CommandError with helm's output.
        """
        self._plane.api.ensure(core("Namespace", self.namespace))
        self._plane.await_namespace(self.namespace)
        if self.source == "secret":
            self.renew_certificate()
        self._helm("install", values, wait=wait)

    def upgrade(self, values: Values | None = None, *, wait: bool = True) -> None:
        """Upgrade to these values, on top of the chart's defaults. Earlier values are not kept."""
        self._helm("upgrade", values, wait=wait)

    def uninstall(self, *, at_once: bool = False) -> None:
        """Remove the release. The namespace and the Secret stay.

        Then wait until its pods are gone. With `at_once`, they are not given time to end.
        """
        api, labels = self._plane.api, ",".join(f"{k}={v}" for k, v in self.labels.items())
        self._plane.helm("uninstall", self.name, "--namespace", self.namespace)

        def gone() -> bool:
            pods = api.list("Pod", self.namespace, labels=labels)
            for pod in pods if at_once else ():
                api.delete("Pod", pod["metadata"]["name"], self.namespace, grace=0)
            return not pods

        wait_for(gone, why="the release's pods to be gone")

    def renew_certificate(self, authority: Authority | None = None) -> Pair:
        """Put a new serving certificate into the Secret, signed by `authority` (else by ours)."""
        # The chart's Service has this name for any name of the release.
        host = f"mendix-mesh.{self.namespace}.svc"
        pair = (authority or self.authority).issue("mendix-mesh", hosts=[host])
        data = {"tls.crt": _base64(pair.cert), "tls.key": _base64(pair.key)}
        secret = core("Secret", "mendix-mesh-tls", self.namespace, data=data)
        secret["type"] = "kubernetes.io/tls"
        self._plane.api.patch("Secret", "mendix-mesh-tls", self.namespace, secret, how="apply")
        return pair

    def _helm(self, verb: str, values: Values | None, *, wait: bool) -> None:
        ours: dict[str, Any] = {
            "image": {"repository": IMAGE},
            "tls": {"source": self.source},
            "podAnnotations": {KUBELET_ANNOTATION: "server"},
            # One second is enough to see that endpoints disappear before processes end. Ten seconds
            # are not needed on one machine.
            "preStopSleepSeconds": 1,
        }
        if self.source == "secret":
            ours["tls"] = {"source": "secret", "caBundle": _base64(self.authority.pem)}
        base = self._plane.workdir / f"values-{self.namespace}-{self.name}.json"
        base.write_text(json.dumps(ours))
        arguments = [verb, self.name, str(self.chart), f"--namespace={self.namespace}"]
        arguments += ["--values", str(base), "--values", "-"]
        if wait:
            arguments += ["--wait", "--timeout=60s"]
        if verb == "upgrade":
            # Tests change installed objects by hand, and then own the changed fields.
            arguments.append("--force-conflicts")
        self._plane.helm(*arguments, input=json.dumps(values or {}))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
