"""The textbook webhook to compare with: Flask, the standard library's JSON, gunicorn's threads."""

from flask import Flask, Response, request

app = Flask(__name__)


@app.post("/validate")
def validate() -> Response | dict[str, object]:
    """Admit a pod that has a container named linkerd-proxy; the least that anyone would write."""
    review = request.get_json()
    submitted = review["request"]
    spec = submitted["object"]["spec"]
    containers = spec.get("initContainers", []) + spec["containers"]
    allowed = any(container["name"] == "linkerd-proxy" for container in containers)
    return {
        "apiVersion": review["apiVersion"],
        "kind": review["kind"],
        "response": {"uid": submitted["uid"], "allowed": allowed},
    }
