"""The API server's view: the admission.k8s.io/v1 protocol, on every path."""

import copy
import json

import jsonpatch
import pytest

from tests.unit.admission.reviews import (
    CONTROLLERS,
    Json,
    controller,
    ingress,
    meshed,
    patch_of,
    pod,
    review,
)
from tests.unit.serving.clients import Client, FlaskClient, ServerClient
from webhook.policy.validate import IGNORED_SUBRESOURCES

ENFORCE, WARN, AUDIT = (f"/validate/linkerd/{mode}" for mode in ("enforce", "warn", "audit"))
MUTATE = "/mutate/linkerd"
INJECT = "linkerd.io/inject"
RECORD = "mendix-mesh.io/inputs"
VALIDATING = [
    f"/validate/{mesh}/{mode}{end}"
    for mesh in ("linkerd", "istio", "ambient", "unknown")
    for mode in ("enforce", "warn", "audit")
    for end in ("", "/ingress")
]
MUTATING = [
    f"/mutate/{mesh}{end}"
    for mesh in ("linkerd", "istio", "ambient", "unknown")
    for end in ("", "/ingress")
]
HOST_NETWORK = {"hostNetwork": True}
PROXY_MISSING = (
    "has no linkerd-proxy container; admin: check that the injector runs and the namespace does "
    "not disable it, then try again"
)


def without_proxy(**metadata: str) -> Json:
    """Return a pod without the injector's work; `metadata` replaces its name."""
    made = pod()
    if metadata:
        del made["metadata"]["generateName"], made["metadata"]["ownerReferences"]
        made["metadata"] |= metadata
    return made


@pytest.mark.parametrize("path", VALIDATING + MUTATING)
@pytest.mark.parametrize("obj", [pod(), meshed()], ids=["plain", "meshed"])
def test_every_path_answers_as_the_api_server_demands(client: Client, path: str, obj: Json) -> None:
    client.review(path, review(obj))


@pytest.mark.parametrize(
    "uid",
    [
        "705ab4f5-6393-11e8-b7cc-42010a800002",
        "1",
        'with "quotes", \\ and / and \' in it',
        "line\nbreak\ttab\x00null\x1fescape\x7f",
        "zażółć gęślą jaźń, 網格, 🕸",
        "\u2028\u2029\ufeff\ufffd",
        "%s{uid}${uid}<script>",
        "x" * 10_000,
    ],
)
@pytest.mark.parametrize("path", [ENFORCE, WARN, MUTATE])
def test_the_uid_is_echoed_exactly(client: Client, path: str, uid: str) -> None:
    client.review(path, review(pod(), uid=uid))


def test_a_meshed_pod_is_admitted_in_silence(client: Client) -> None:
    answer = client.review(ENFORCE, review(meshed()))
    assert answer.keys() == {"uid", "allowed", "auditAnnotations"}
    assert answer["allowed"]
    assert answer["auditAnnotations"] == {"verdict": "admitted"}


def test_a_denial_is_a_403_that_names_check_field_reason_and_fix(client: Client) -> None:
    answer = client.review(ENFORCE, review(without_proxy(name="shop-debug")))
    assert answer["status"] == {
        "status": "Failure",
        "code": 403,
        "reason": "Forbidden",
        "message": "pod shop-debug (Mendix app leader) would run outside the linkerd mesh:\n"
        f"  proxy-missing  spec.initContainers  {PROXY_MISSING}",
        "details": {
            "causes": [
                {
                    "reason": "proxy-missing",
                    "field": "spec.initContainers",
                    "message": PROXY_MISSING,
                }
            ]
        },
    }
    assert answer["auditAnnotations"] == {"verdict": "denied", "checks": "proxy-missing"}
    assert "warnings" not in answer


def test_advice_is_no_cause_of_a_denial(client: Client) -> None:
    obj = pod(serviceAccountName="default")
    answer = client.review(ENFORCE, review(obj))
    causes = [cause["reason"] for cause in answer["status"]["details"]["causes"]]
    assert causes == ["proxy-missing"]
    assert answer["auditAnnotations"]["checks"] == "proxy-missing,shared-identity"


def test_a_pod_without_metadata_is_judged(client: Client) -> None:
    obj = {"kind": "Pod", "apiVersion": "v1", "spec": {"containers": []}}
    message = client.review(ENFORCE, review(obj))["status"]["message"]
    assert message.startswith("pod without a name would run outside")


class TestModes:
    """enforce denies, warn warns, audit is silent but leaves its mark in the audit log."""

    def test_warn_admits_with_a_warning(self, client: Client) -> None:
        answer = client.review(WARN, review(pod()))
        assert answer["allowed"]
        assert answer["warnings"] == [
            "mendix-mesh (linkerd) pod shop-master-7fd5487c8-*: proxy-missing; mendix-mesh explain "
            "proxy-missing"
        ]
        assert answer["auditAnnotations"] == {"verdict": "warned", "checks": "proxy-missing"}

    def test_audit_admits_in_silence_and_annotates(self, client: Client) -> None:
        answer = client.review(AUDIT, review(pod()))
        assert answer["allowed"]
        assert "warnings" not in answer
        assert answer["auditAnnotations"] == {"verdict": "audited", "checks": "proxy-missing"}

    @pytest.mark.parametrize("path", [ENFORCE, WARN])
    def test_advice_is_a_warning(self, client: Client, path: str) -> None:
        obj = meshed(pod(serviceAccountName="default"))
        answer = client.review(path, review(obj))
        assert answer["allowed"]
        assert answer["warnings"] == [
            "mendix-mesh (linkerd) pod shop-master-7fd5487c8-*: shared-identity: give the app its "
            "own ServiceAccount"
        ]

    def test_a_template_that_is_only_written_otherwise_is_unchanged(self, client: Client) -> None:
        old = controller("Deployment", pod(**HOST_NETWORK))
        new = copy.deepcopy(old)
        new["metadata"]["labels"] = {"team": "shop"}
        new["spec"]["template"] = dict(reversed(new["spec"]["template"].items()))
        assert client.review(ENFORCE, review(new, operation="UPDATE", old=old))["allowed"]


class TestSettings:
    """Exemptions and levels, by the namespace of the request."""

    def test_an_exemption_admits_and_gives_its_reason_to_the_audit_log(
        self, client: Client
    ) -> None:
        obj = pod(**HOST_NETWORK)
        answer = client.review(ENFORCE, review(obj, namespace="exempt"))
        assert answer["allowed"]
        assert "warnings" not in answer
        assert answer["auditAnnotations"] == {
            "verdict": "exempt",
            "exemptions": "host-network: node agent, ticket OPS-17",
        }

    @pytest.mark.parametrize("claimed", ["exempt", "", None])
    def test_the_namespace_that_an_object_claims_exempts_nothing(
        self, client: Client, claimed: str | None
    ) -> None:
        obj = pod(**HOST_NETWORK)
        obj["metadata"]["namespace"] = claimed
        assert not client.review(ENFORCE, review(obj, namespace="mendix"))["allowed"]

    @pytest.mark.parametrize("claimed", ["mendix", "", None])
    def test_the_namespace_of_the_request_exempts(
        self, client: Client, claimed: str | None
    ) -> None:
        obj = pod(**HOST_NETWORK)
        obj["metadata"]["namespace"] = claimed
        assert client.review(ENFORCE, review(obj, namespace="exempt"))["allowed"]


class TestRequests:
    """Every form of request that the API server may send."""

    def test_a_deletion_has_no_object_and_is_admitted(self, client: Client) -> None:
        payload = review(None, operation="DELETE", old=pod(), options=None)
        assert client.review(ENFORCE, payload)["allowed"]
        assert client.review(MUTATE, payload).keys() == {"uid", "allowed"}

    def test_a_connection_is_admitted(self, client: Client) -> None:
        obj = {"kind": "PodExecOptions", "apiVersion": "v1", "command": ["sh"], "stdin": True}
        payload = review(obj, operation="CONNECT", subresource="exec", name="shop-0")
        assert client.review(ENFORCE, payload)["allowed"]
        assert client.review(MUTATE, payload).keys() == {"uid", "allowed"}

    @pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
    def test_a_creation_without_an_object_is_not_admitted(
        self, client: Client, operation: str
    ) -> None:
        payload = review(None, kind="Pod", operation=operation)
        answer = client.review(ENFORCE, payload)
        assert answer["status"]["message"] == (
            f"can't read the review: {operation} without an object"
        )
        assert client.review(WARN, payload)["allowed"]
        assert not patch_of(client.review(MUTATE, payload))

    @pytest.mark.parametrize("kind", ["Service", "PodTemplate", "Widget", "pod", "Pod\x00"])
    def test_an_unknown_kind_is_ignored(self, client: Client, kind: str) -> None:
        payload = review({"kind": "Pod", "spec": HOST_NETWORK}, kind=kind)
        for path in (ENFORCE, WARN, AUDIT, MUTATE):
            assert client.review(path, payload).keys() == {"uid", "allowed"}

    def test_the_kind_is_the_request_s_whatever_the_object_says(self, client: Client) -> None:
        obj = {**pod(), "kind": "Service", "apiVersion": "v2"}
        assert not client.review(ENFORCE, review(obj, kind="Pod"))["allowed"]
        assert patch_of(client.review(MUTATE, review(obj, kind="Pod")))

    @pytest.mark.parametrize("subresource", sorted(IGNORED_SUBRESOURCES))
    def test_a_subresource_that_says_nothing_of_the_mesh_is_ignored(
        self, client: Client, subresource: str
    ) -> None:
        payload = review(pod(), operation="UPDATE", old=meshed(), subresource=subresource)
        assert client.review(ENFORCE, payload).keys() == {"uid", "allowed"}
        assert client.review(MUTATE, payload).keys() == {"uid", "allowed"}

    @pytest.mark.parametrize("subresource", ["ephemeralcontainers", "resize", "of-tomorrow"])
    def test_any_other_subresource_is_judged(self, client: Client, subresource: str) -> None:
        old, new = meshed(), meshed()
        new["spec"]["ephemeralContainers"] = [
            {"name": "debugger", "image": "sh", "securityContext": {"runAsUser": 2102}}
        ]
        payload = review(new, operation="UPDATE", old=old, subresource=subresource)
        answer = client.review(ENFORCE, payload)
        assert answer["auditAnnotations"]["checks"] == "proxy-uid"
        assert not answer["allowed"]
        assert client.review(MUTATE, payload).keys() == {"uid", "allowed"}

    def test_a_dry_run_gets_the_same_answer(self, client: Client) -> None:
        for path in (ENFORCE, WARN, MUTATE):
            real, dry = (client.review(path, review(pod(), dryRun=dry)) for dry in (False, True))
            assert real == dry

    @pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
    def test_an_object_that_is_being_deleted_is_judged_all_the_same(
        self, client: Client, operation: str
    ) -> None:
        obj = pod()
        obj["metadata"] |= {
            "deletionTimestamp": "2026-11-24T08:00:00Z",
            "deletionGracePeriodSeconds": 30,
            "finalizers": ["example.com/keep"],
        }
        old = meshed() if operation == "UPDATE" else None
        payload = review(obj, operation=operation, old=old)
        assert not client.review(ENFORCE, payload)["allowed"]

    @pytest.mark.parametrize("missing", ["name", "userInfo", "options", "dryRun", "resource"])
    def test_every_other_field_of_a_request_is_optional(self, client: Client, missing: str) -> None:
        for replaced in ({}, {missing: None}):
            payload = review(pod(), name="shop-0")
            del payload["request"][missing]
            payload["request"] |= replaced
            assert not client.review(ENFORCE, payload)["allowed"]
            assert patch_of(client.review(MUTATE, payload))

    def test_null_is_as_good_as_missing(self, client: Client) -> None:
        obj = meshed()
        obj["metadata"] |= {"name": None, "finalizers": None, "ownerReferences": None}
        obj["spec"] |= {"ephemeralContainers": None, "hostNetwork": None, "securityContext": None}
        assert client.review(ENFORCE, review(obj))["allowed"]

    @pytest.mark.parametrize("path", [ENFORCE, WARN, AUDIT, MUTATE])
    def test_another_version_of_the_protocol_is_denied_by_name(
        self, client: Client, path: str
    ) -> None:
        payload = review(meshed())
        payload["apiVersion"] = "admission.k8s.io/v1beta1"
        answer = client.review(path, payload)
        assert answer["allowed"] == (path != ENFORCE)
        said = answer["auditAnnotations"]["error"]
        assert said == (
            "can't read the review: 'admission.k8s.io/v1beta1 AdmissionReview' is not "
            "admission.k8s.io/v1 AdmissionReview"
        )
        assert answer.get("status", {}).get("message", said) == said


class TestMutation:
    """The patch for each kind. Patches are applied as the API server does."""

    def test_a_pod_gets_the_annotation(self, client: Client) -> None:
        answer = client.review(MUTATE, review(pod()))
        assert patch_of(answer) == [
            {
                "op": "add",
                "path": "/metadata/annotations",
                "value": {INJECT: "enabled", RECORD: "allowed"},
            }
        ]

    @pytest.mark.parametrize("kind", CONTROLLERS)
    def test_a_template_gets_it_where_it_is_made(self, client: Client, kind: str) -> None:
        obj = controller(kind)
        patched = jsonpatch.apply_patch(obj, patch_of(client.review(MUTATE, review(obj))))
        spec = patched["spec"]
        template = spec.get("template") or spec["jobTemplate"]["spec"]["template"]
        assert template["metadata"]["annotations"][INJECT] == "enabled"
        assert patched["metadata"] == obj["metadata"]

    @pytest.mark.parametrize("end", ["", "/ingress"])
    def test_an_ingress_controller_must_call_the_service(self, client: Client, end: str) -> None:
        keys = ("nginx.ingress.kubernetes.io~1service-upstream", "nginx.org~1use-cluster-ip")
        assert patch_of(client.review(MUTATE + end, review(ingress()))) == [
            {"op": "add", "path": f"/metadata/annotations/{key}", "value": "true"} for key in keys
        ]

    def test_ingresses_are_not_validated(self, client: Client) -> None:
        assert client.review(ENFORCE, review(ingress())).keys() == {"uid", "allowed"}


def test_a_namespace_that_names_no_mesh_admits_no_pod(client: Client) -> None:
    payload = review(meshed())
    answer = client.review("/validate/unknown/enforce", payload)
    assert answer["auditAnnotations"]["checks"] == "unknown-mesh"
    assert not answer["allowed"]
    assert not patch_of(client.review("/mutate/unknown", payload))


def test_the_mesh_s_own_advice_is_short_enough_to_be_shown(client: Client) -> None:
    obj = meshed()
    long = "x" * 250
    obj["spec"]["containers"] = [{"name": "a", "image": long, "ports": [{"protocol": "UDP"}]}] * 3
    obj["spec"]["initContainers"] = [
        {"name": "linkerd-proxy", "image": f"{long}\n\x1b[31m", "command": ["\r\n"]}
    ]
    obj["metadata"]["annotations"][INJECT] = "line\nbreak \x1b[31m\u202e"
    assert client.review(WARN, review(obj))["warnings"]


def test_flask_and_the_server_answer_alike_to_the_last_byte(
    flask: FlaskClient, server: ServerClient
) -> None:
    objects = [pod(), meshed(), ingress(), *map(controller, CONTROLLERS)]
    objects += [controller(kind, pod(**HOST_NETWORK)) for kind in CONTROLLERS]
    for path in VALIDATING + MUTATING:
        for obj in objects:
            body = json.dumps(review(obj)).encode()
            assert flask.send(path, body).body == server.send(path, body).body
