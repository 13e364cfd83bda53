"""Which users may read, and what the pages allow a browser to do."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cluster.apiserver import HttpRequest, Reply, serving, status
from tests.unit.cluster.dashboard.conftest import Open
from tests.unit.cluster.dashboard.reports import namespace, row, scans
from webhook.cluster.auditor.tokens import TRIES
from webhook.cluster.dashboard import create_app, reviewer
from webhook.cluster.dashboard.access import hostname
from webhook.cluster.judge import Judge
from webhook.policy.settings import Settings

PAGES = ("/", "/namespaces/mendix", "/denials", "/health", "/checks", "/static/dashboard.css")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_let_through(open_on: Open, page: str, method: str) -> None:
    answer = open_on(scans(namespace("mendix", row()))).open(page, method=method)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("page", [*PAGES, "/nothing"])
def test_every_answer_forbids_what_no_page_needs(open_on: Open, page: str) -> None:
    with open_on(scans(namespace("mendix", row()))).get(page) as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Set-Cookie" not in headers
    if not page.startswith("/static"):
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost", 200), ("LOCALHOST:8080", 200), ("127.0.0.1:1", 200), ("[::1]:50760", 200),
        ("dash.example.com", 200), ("Dash.Example.com.:443", 200),
        ("evil.example", 403), ("localhost.evil.example", 403), ("127.0.0.1.evil.example", 403),
        ("10.1.2.3", 403), ("", 403), ("[::1", 403), ("localhost@evil.example", 403),
    ],
)  # fmt: skip
def test_a_host_that_is_not_allowed_is_denied(open_on: Open, host: str, code: int) -> None:
    client = open_on(scans(namespace()), hosts=["dash.example.com"])
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == code
    if code == 403:
        assert "mendix" not in answer.text
        assert "--allowed-host" in answer.text


def test_the_name_in_a_host_header_is_taken_without_its_port() -> None:
    names = ["[0:0::1]:80", "A.b:1", "a.b.", "a:b:c", "user@host", "a/b", "[::", "\x00"]
    assert [hostname(name) for name in names] == [
        "[0:0::1]", "a.b", "a.b", "a", "host", "a", "", "\x00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("site", "mode", "code"),
    [("cross-site", "no-cors", 403), ("cross-site", "cors", 403), ("same-site", "cors", 403),
     ("cross-site", "navigate", 200), ("same-origin", "cors", 200), ("none", "navigate", 200)],
)  # fmt: skip
def test_a_page_of_another_site_may_link_but_not_read(
    open_on: Open, site: str, mode: str, code: int
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    assert open_on(scans(namespace())).get("/", headers=headers).status_code == code


# Authentication.


class Authority:
    """An API server that knows two users. One of them may read."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.is_failing = False

    def answer(self, targets: HttpRequest) -> Reply:
        self.requests.append(targets.target)
        if targets.method != "POST":
            return status(404, "NotFound", "gone")
        if self.is_failing:
            return status(500, "InternalError", "etcd is gone")
        body = json.loads(targets.body)
        spec = body["spec"]
        if body["kind"] == "TokenReview":
            user = {"reader-token": "reader", "guest-token": "guest"}.get(spec["token"])
            result = {"authenticated": bool(user)}
            more = {"user": {"username": user, "groups": ["all"], "extra": {"k": ["v"]}}}
            return Reply(201, {**body, "status": {**result, **(more if user else {})}})
        assert spec["nonResourceAttributes"] == {"path": "/mendix-mesh", "verb": "get"}
        assert (spec["groups"], spec["extra"]) == (["all"], {"k": ["v"]})
        return Reply(201, {**body, "status": {"allowed": spec["user"] == "reader"}})


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def guarded(authority: Authority, tmp_path: Path) -> Iterator[Open]:
    with serving(authority.answer, tmp_path) as server:

        def opened(**options: object):  # type: ignore[no-untyped-def]
            app = create_app(
                scans(namespace("mendix", row())),
                server.cluster,
                Judge(Settings()),
                reviewer=reviewer(server.cluster),
            )
            app.testing = True
            return app.test_client()

        yield opened


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_request_without_a_token_gets_401(guarded: Open, authority: Authority) -> None:
    for headers in ({}, {"Authorization": "Basic cmVhZGVyOng="}, {"Authorization": "Bearer  "}):
        answer = guarded().get("/", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert "Content-Security-Policy" in answer.headers
        assert "mendix-apps" not in answer.text
    assert authority.requests == []


def test_a_token_that_the_api_server_does_not_know_is_denied(guarded: Open) -> None:
    answer = guarded().get("/", headers=bearer("made-up"))
    assert answer.status_code == 401
    assert "does not know this token, or it has expired" in answer.text
    assert "made-up" not in answer.text


def test_a_user_without_the_right_is_denied(guarded: Open) -> None:
    answer = guarded().get("/", headers=bearer("guest-token"))
    assert answer.status_code == 403
    assert "guest is not allowed to get the nonResourceURL /mendix-mesh" in answer.text


def test_a_user_with_the_right_reads_and_is_reviewed_but_once(
    guarded: Open, authority: Authority
) -> None:
    client = guarded()
    for page in ("/checks", "/health", "/checks"):
        assert client.get(page, headers=bearer("reader-token")).status_code == 200
    reviews = [target for target in authority.requests if target.endswith("reviews")]
    assert reviews == [
        "/apis/authentication.k8s.io/v1/tokenreviews",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
    ]


def test_files_of_the_package_are_readable(guarded: Open) -> None:
    with guarded().get("/static/dashboard.css") as answer:
        assert answer.status_code == 200


@pytest.mark.parametrize("page", ["nothing", "..%2fapp.py", "", "DASHBOARD.CSS"])
def test_paths_below_static_that_are_no_files_need_a_token(guarded: Open, page: str) -> None:
    answer = guarded().get(f"/static/{page}")
    assert answer.status_code == 401
    assert "127.0.0.1" not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert guarded().get(f"/static/{page}", headers=bearer("reader-token")).status_code == 404


def test_an_address_may_try_only_so_many_unknown_tokens(
    guarded: Open, authority: Authority
) -> None:
    client = guarded()
    for number in range(TRIES):
        assert client.get("/", headers=bearer(f"made-up-{number}")).status_code == 401
    reviews = len(authority.requests)
    answer = client.get("/", headers=bearer("one-more"))
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 61
    assert len(authority.requests) == reviews
    elsewhere = {"REMOTE_ADDR": "10.0.0.9"}
    answer = client.get("/checks", headers=bearer("reader-token"), environ_overrides=elsewhere)
    assert answer.status_code == 200


def test_an_api_server_that_does_not_answer_admits_no_user(
    guarded: Open, authority: Authority
) -> None:
    authority.is_failing = True
    answer = guarded().get("/", headers=bearer("reader-token"))
    assert answer.status_code == 503
    assert "etcd is gone" in answer.text
