"""What an operator sees: probes, version, metrics and logs."""

import copy
import itertools
import json
import re
import time
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.admission.reviews import (
    KINDS,
    changed,
    controller,
    ingress,
    meshed,
    namespace,
    pod,
    review,
)
from tests.unit.serving.clients import Client, FlaskClient, ServerClient
from tests.unit.serving.server import Server
from webhook.admission.app import create_app
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy import checks
from webhook.policy.settings import Settings
from webhook.serving.health import Health
from webhook.version import VERSION

ENFORCE, WARN, AUDIT = (f"/validate/linkerd/{mode}" for mode in ("enforce", "warn", "audit"))
MUTATE = "/mutate/linkerd"
NAMESPACE = "/namespace/enforce"
SECRET = "hunter2-of-the-database"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_are_answered_as_soon_as_the_server_answers(client: Client, path: str) -> None:
    reply = client.get(path)
    assert (reply.status, reply.body) == (200, b"ok\n")
    assert reply.headers["content-type"].startswith("text/plain")


def test_the_version_is_reported(client: Client) -> None:
    reply = client.get("/version")
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body) == {"name": "mendix-mesh", "version": VERSION}


def test_no_header_names_the_server(server: ServerClient) -> None:
    for path in ("/livez", "/nowhere", "/metrics"):
        assert not {"server", "x-powered-by", "via"} & server.get(path).headers.keys()


def samples(client: Client) -> Samples:
    """Return every sample of the metrics by its name and labels."""
    reply = client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


@pytest.fixture
def fresh() -> FlaskClient:
    """A client of a reviewer that has counted nothing yet."""
    return FlaskClient(create_app(Reviewer(Settings(), Metrics(VERSION)), Health()))


def counted(client: Client, name: str) -> dict[tuple[str, ...], float]:
    """Return one counter's samples by the values of its labels, in the order of their names."""
    return {
        tuple(value for _, value in labels): value
        for (found, labels), value in samples(client).items()
        if found == name
    }


def test_the_shortest_bucket_is_50_microseconds(fresh: FlaskClient) -> None:
    buckets = [
        float(dict(labels)["le"])
        for name, labels in samples(fresh)
        if name == "mendix_mesh_review_duration_seconds_bucket"
    ]
    assert min(buckets) == 0.00005


def opted_in() -> dict[str, Any]:
    """Return a pod with an opt-in, as it is after the mutating webhook."""
    made = pod()
    annotations = made["metadata"].get("annotations", {})
    own = {"linkerd.io/inject": "enabled", "mendix-mesh.io/inputs": "allowed"}
    made["metadata"]["annotations"] = annotations | own
    return made


def test_every_review_is_counted_by_its_verdict(fresh: FlaskClient) -> None:
    for path in (ENFORCE, WARN, AUDIT):
        fresh.review(path, review(pod()))
        fresh.review(path, review(meshed()))
        fresh.review(path, review(None, operation="DELETE", old=pod()))
        fresh.send(path, b"nonsense")
    fresh.review(MUTATE, review(pod()))
    fresh.review(MUTATE, review(opted_in()))
    fresh.review(MUTATE, review(ingress()))
    fresh.send(MUTATE, b"nonsense")
    of_modes = {"enforce": "denied", "warn": "warned", "audit": "audited"}
    assert counted(fresh, "mendix_mesh_reviews_total") == {
        **{
            (kind, "linkerd", mode, verdict, "validate"): 1
            for mode, bad in of_modes.items()
            for kind, verdict in (
                ("Pod", bad),
                ("Pod", "admitted"),
                ("Pod", "ignored"),
                ("other", "error"),
            )
        },
        ("Pod", "linkerd", "", "patched", "mutate"): 1,
        ("Pod", "linkerd", "", "unchanged", "mutate"): 1,
        ("Ingress", "linkerd", "", "patched", "mutate"): 1,
        ("other", "linkerd", "", "error", "mutate"): 1,
    }


def test_every_violation_is_counted(fresh: FlaskClient) -> None:
    for path in (ENFORCE, WARN, AUDIT):
        fresh.review(path, review(pod(serviceAccountName="default")))
    assert counted(fresh, "mendix_mesh_violations_total") == {
        (check, "linkerd", mode): 1
        for mode in ("enforce", "warn", "audit")
        for check in ("proxy-missing", "shared-identity")
    }


def test_nothing_from_outside_becomes_a_label(fresh: FlaskClient) -> None:
    for i in range(100):
        made_up = f"Kind{i}"
        payload = review({"kind": made_up, "metadata": {"name": f"n{i}"}}, namespace=f"ns-{i}")
        fresh.review(ENFORCE, payload)
        fresh.review(MUTATE, payload)
        fresh.review(ENFORCE, review(pod(), namespace=f"ns-{i}", uid=f"uid-{i}"))
        fresh.send(f"/validate/mesh{i}/enforce", b"")
    some = [namespace(mesh="mesh7"), namespace(mesh="linkerd"), namespace(mode="odd"), namespace()]
    for old, new in itertools.product(some, some):
        fresh.review(NAMESPACE, changed(old, new))
    for kind in KINDS:
        obj = {"Pod": pod(), "Ingress": ingress()}.get(kind) or controller(kind)
        fresh.review(MUTATE, review(obj))
    allowed = {
        "kind": {*KINDS, "Namespace", "other"},
        "mesh": {"linkerd", "istio", "ambient", "unknown", ""},
        "to": {"linkerd", "istio", "ambient", "warn", "audit", "none"},
        "mode": {"", "enforce", "warn", "audit"},
        "webhook": {"mutate", "validate", "namespace"},
        "verdict": {
            *("admitted", "denied", "warned", "audited", "exempt", "ignored", "error"),
            *("patched", "unchanged"),
        },
        "check": set(checks.ids()),
        "version": {VERSION},
        "result": {"loaded", "refused"},
    }
    for _, labels in samples(fresh):
        for key, value in labels:
            assert key == "le" or value in allowed[key], (key, value)
    assert counted(fresh, "mendix_mesh_reviews_total")["other", "linkerd", "enforce", "ignored",
                                                       "validate"] == 100  # fmt: skip


def test_the_server_reports_when_its_certificate_expires(server: ServerClient) -> None:
    expiry = samples(server)["mendix_mesh_certificate_expiry_timestamp_seconds", ()]
    with server.connect() as connection:
        assert expiry == connection.expiry()


class TestLogs:
    """JSON, a line each; uid and decision, and never the object."""

    @pytest.fixture(autouse=True)
    def from_here(self, server_process: Server) -> None:
        self.start = len(server_process.text)

    def logged(self, process: Server) -> list[dict[str, object]]:
        return [json.loads(line) for line in process.text[self.start :].splitlines()]

    @pytest.mark.parametrize(
        ("path", "verdict"), [(ENFORCE, "denied"), (WARN, "warned"), (AUDIT, "audited")]
    )
    def test_a_verdict_is_logged_with_its_uid(
        self, server: ServerClient, server_process: Server, path: str, verdict: str
    ) -> None:
        server.review(path, review(pod(), uid="of-this-review"))
        entry = self.logged(server_process)[-1]
        time = str(entry.pop("time"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time)
        assert entry == {
            "event": verdict,
            "level": "info",
            "uid": "of-this-review",
            "mesh": "linkerd",
            "mode": path.rpartition("/")[2],
            "namespace": "mendix",
            "subject": "pod shop-master-7fd5487c8-* (Mendix app leader)",
            "operation": "CREATE",
            "checks": ["proxy-missing"],
        }

    def test_what_cannot_be_read_is_logged(
        self, server: ServerClient, server_process: Server
    ) -> None:
        # Earlier tests may have used up the log lines of this second.
        for _ in range(20):
            server.review(ENFORCE, review(pod(hostNetwork="yes"), uid="of-this-review"))
            if self.logged(server_process):
                break
            time.sleep(0.1)
        entry = self.logged(server_process)[-1]
        assert (entry["event"], entry["level"]) == ("unanswerable review", "warning")
        assert entry["uid"] == "of-this-review"
        assert "$.spec.hostNetwork" in str(entry["why"])

    def test_no_object_is_logged_in_any_case(
        self, server: ServerClient, server_process: Server
    ) -> None:
        secret = [{"name": "DATABASE_PASSWORD", "value": SECRET}]
        for base in (pod(), meshed(), controller("Deployment"), controller("CronJob")):
            obj = copy.deepcopy(base)
            spec = obj["spec"]
            if "jobTemplate" in spec:
                spec = spec["jobTemplate"]["spec"]
            holder = spec["template"]["spec"] if "template" in spec else spec
            holder["containers"][0] |= {"env": secret, "args": [SECRET], "command": [SECRET]}
            payload = review(obj)
            for broken in (obj, {**obj, "metadata": [SECRET]}, {**obj, "spec": SECRET}):
                payload["request"]["object"] = broken
                body = json.dumps(payload).encode()
                for path in (ENFORCE, WARN, AUDIT, MUTATE):
                    for sent in (body, body[:-1], body + b"}", body.replace(b"uid", b"UID")):
                        assert SECRET.encode() not in server.send(path, sent).body
        assert self.logged(server_process)
        assert SECRET not in server_process.text
        assert SECRET not in server.get("/metrics").body.decode()

    def test_what_a_client_sends_cannot_forge_a_line(
        self, server: ServerClient, server_process: Server
    ) -> None:
        forged = 'x"}\n{"event": "forged", "level": "info"}\r\n\u2028\x1b[31m'
        obj = pod()
        obj["metadata"]["generateName"] = forged
        server.review(ENFORCE, review(obj, uid=forged, namespace=forged))
        server.send("/" + quote(forged))
        assert all(entry["event"] != "forged" for entry in self.logged(server_process))
        assert "\x1b" not in server_process.text[self.start :]


def test_the_whole_log_of_a_server_is_json(server_process: Server) -> None:
    logged = server_process.logged()
    assert all({"event", "level", "time"} <= entry.keys() for entry in logged)
    assert "Starting gunicorn" in str([entry["event"] for entry in logged])
