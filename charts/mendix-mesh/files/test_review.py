"""Send reviews like the API server, and print whether the answers are correct.

Run by `helm test` inside the server's image: python3 -c THIS URL CA-FILE open|closed. With
`closed`, the server must reject this program, because it presents no client certificate.
"""

import json
import ssl
import sys
import urllib.error
import urllib.request

url, ca_file, access = sys.argv[1:]
trusted = ssl.create_default_context(cafile=ca_file)


def answer(path, **spec):
    """Return the response to a review of a pod's creation, or the HTTP status of an error."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helm-test"},
        "spec": {"containers": [{"name": "app", "image": "app"}], **spec},
    }
    request = {
        "uid": "helm-test",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "helm-test",
        "operation": "CREATE",
        "userInfo": {"username": "helm-test"},
        "object": pod,
        "dryRun": True,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    call = urllib.request.Request(
        url + path, json.dumps(review).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(call, timeout=10, context=trusted) as reply:
            return json.load(reply)["response"]
    except urllib.error.HTTPError as error:
        return error.code


def check(what, got, right):
    """Print one result. Exit if it is wrong."""
    print("ok  " if right else "FAIL", what, flush=True)
    if not right:
        sys.exit(f"unexpected answer: {got}")


try:
    if access == "closed":
        got = answer("/validate/linkerd/enforce")
        check("a caller without a client certificate is rejected", got, got == 403)
        sys.exit()
    got = answer("/mutate/linkerd")
    check("a pod is opted in", got, got["allowed"] and "patch" in got)
    got = answer("/validate/linkerd/enforce", hostNetwork=True)
    reason = got.get("status", {}).get("message", "")
    check("a pod outside the mesh is denied", got, not got["allowed"] and "host-network" in reason)
except OSError as error:
    sys.exit(f"{url} does not answer: {error}")
