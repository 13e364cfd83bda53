"""A stand-in for what Calico's CNI plugin and Multus do with the API server: a chained CNI plugin.

It writes the pod's addresses into annotations, through pods/status, when the pod's network is set
up and when it is removed. If the API server denies this, the plugin fails, and so does the sandbox.

containerd runs this file alone, so it imports nothing of this project.
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from typing import Any

ADDRESS, CONTAINER = "cni.projectcalico.org/podIP", "cni.projectcalico.org/containerID"
VERSIONS = {"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}


def main() -> int:
    """Do what CNI_COMMAND says, and print the result as the CNI specification wants it."""
    command, config = os.environ["CNI_COMMAND"], json.load(sys.stdin)
    if command == "VERSION":
        print(json.dumps(VERSIONS))
        return 0
    added = config.get("prevResult") if command == "ADD" else None
    try:
        if command in ("ADD", "DEL"):
            _annotate(config, added)
    except (OSError, ValueError) as error:
        said = error.read().decode() if isinstance(error, urllib.error.HTTPError) else str(error)
        print(json.dumps({"cniVersion": config["cniVersion"], "code": 100, "msg": said}))
        return 1
    if added:
        print(json.dumps(added))
    return 0


def _annotate(config: dict[str, Any], added: dict[str, Any] | None) -> None:
    words = dict(one.split("=", 1) for one in os.environ["CNI_ARGS"].split(";") if "=" in one)
    where = f"{words['K8S_POD_NAMESPACE']}/pods/{words['K8S_POD_NAME']}"
    address = added["ips"][0]["address"] if added else ""
    written = {ADDRESS: address, CONTAINER: os.environ["CNI_CONTAINERID"] if added else ""}
    body = json.dumps({"metadata": {"annotations": written}}).encode()
    context = ssl.create_default_context(cafile=config["ca"])
    context.load_cert_chain(config["cert"], config["key"])
    request = urllib.request.Request(
        f"{config['server']}/api/v1/namespaces/{where}/status",
        body,
        {"Content-Type": "application/merge-patch+json"},
        method="PATCH",
    )
    try:
        urllib.request.urlopen(request, context=context, timeout=10).close()
    except urllib.error.HTTPError as error:
        # The pod may be gone before its network is.
        if error.code != 404:
            raise


if __name__ == "__main__":
    sys.exit(main())
