"""Bearer tokens: who is admitted, how often the API server is called, and how many one may try."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.exceptions import Forbidden, TooManyRequests, Unauthorized

from tests.unit.cluster.apiserver import HttpRequest, Reply, serving
from webhook.cluster.auditor.tokens import TRIES, WITHIN, TokenReviewer


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Users:
    """An API server that knows each token that starts with `user`. `user-0` may not read."""

    def __init__(self) -> None:
        self.reviewed: list[str] = []

    def answer(self, request: HttpRequest) -> Reply:
        body = json.loads(request.body)
        spec = body["spec"]
        if body["kind"] == "TokenReview":
            self.reviewed.append(spec["token"])
            known = spec["token"].startswith("user")
            user = {"user": {"username": spec["token"]}} if known else {}
            return Reply(201, {**body, "status": {"authenticated": known, **user}})
        return Reply(201, {**body, "status": {"allowed": spec["user"] != "user-0"}})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def users() -> Users:
    return Users()


@pytest.fixture
def reviewer(users: Users, clock: Clock, tmp_path: Path) -> Iterator[TokenReviewer]:
    with serving(users.answer, tmp_path) as server:
        yield TokenReviewer(server.cluster, "/metrics", "reader", clock=clock)


def admit(reviewer: TokenReviewer, token: str, client: str = "10.0.0.1") -> None:
    reviewer.admit(f"Bearer {token}", client)


def exhaust(reviewer: TokenReviewer, client: str = "10.0.0.1") -> None:
    for number in range(TRIES):
        with pytest.raises(Unauthorized):
            admit(reviewer, f"guess-{client}-{number}", client)


def test_a_user_is_admitted_and_reviewed_again_after_a_while(
    reviewer: TokenReviewer, users: Users, clock: Clock
) -> None:
    for _ in range(3):
        admit(reviewer, "user-1")
    assert users.reviewed == ["user-1"]
    clock.now += 31
    admit(reviewer, "user-1")
    assert users.reviewed == ["user-1", "user-1"]


def test_a_user_without_the_right_is_not_admitted(reviewer: TokenReviewer) -> None:
    with pytest.raises(Forbidden, match=r"nonResourceURL /metrics: bind the ClusterRole reader"):
        admit(reviewer, "user-0")


def test_the_same_unknown_token_is_reviewed_only_once(
    reviewer: TokenReviewer, users: Users
) -> None:
    for _ in range(TRIES + 5):
        with pytest.raises(Unauthorized):
            admit(reviewer, "guess")
    assert users.reviewed == ["guess"]


def test_the_limit_counts_unknown_tokens_of_one_address_for_a_minute(
    reviewer: TokenReviewer, users: Users, clock: Clock
) -> None:
    exhaust(reviewer)
    with pytest.raises(TooManyRequests):
        admit(reviewer, "user-1")
    assert len(users.reviewed) == TRIES
    admit(reviewer, "user-1", "10.0.0.2")
    # A known token is admitted from each address.
    admit(reviewer, "user-1")
    clock.now += WITHIN
    admit(reviewer, "user-2")


def test_tokens_of_users_do_not_count(reviewer: TokenReviewer) -> None:
    for number in range(1, 3 * TRIES):
        admit(reviewer, f"user-{number}")


def test_addresses_of_one_ipv6_network_share_the_limit(reviewer: TokenReviewer) -> None:
    exhaust(reviewer, "2001:db8::1")
    with pytest.raises(TooManyRequests):
        admit(reviewer, "more", "2001:db8::2")
    with pytest.raises(Unauthorized):
        admit(reviewer, "more", "2001:db8:0:1::1")


def test_unknown_tokens_do_not_displace_users(
    reviewer: TokenReviewer, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.cluster.auditor.tokens._MOST", 2)
    admit(reviewer, "user-1")
    exhaust(reviewer)
    admit(reviewer, "user-1")
    assert users.reviewed.count("user-1") == 1
