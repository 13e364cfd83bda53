"""The connection: paging, and API servers that fail, reject requests or do not answer."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.unit.cluster.apiserver import (
    HttpRequest,
    Reply,
    Script,
    serving,
    status,
    write_kubeconfig,
)
from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import ClusterError, StatusError

PODS = "/api/v1/pods"


def pod(name: str, namespace: str = "mendix") -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": namespace}}


def page(*names: str, token: str = "", left: int | None = None) -> Reply:
    meta = {"continue": token, "remainingItemCount": left}
    return Reply(body={"metadata": meta, "items": [pod(name) for name in names]})


def in_turn(*replies: Reply) -> Script:
    waiting: Iterator[Reply] = iter(replies)
    return lambda _: next(waiting)


def always(reply: Reply) -> Script:
    return lambda _: reply


def names(cluster: Cluster) -> list[str]:
    return [
        json.loads(bytes(raw))["metadata"]["name"]
        for part in cluster.pages(PODS)
        for raw in part.items
    ]


def query(request: HttpRequest) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.target).query)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("v1", "pods"), "/api/v1/pods"),
        (("apps/v1", "deployments", "mendix", "shop"),
         "/apis/apps/v1/namespaces/mendix/deployments/shop"),
        (("v1", "pods", "mendix", "shop", "eviction"),
         "/api/v1/namespaces/mendix/pods/shop/eviction"),
        (("v1", "pods", "../..", "a/b?c"), "/api/v1/namespaces/..%2F../pods/a%2Fb%3Fc"),
    ],
)  # fmt: skip
def test_a_path_leads_to_what_it_names_and_nowhere_else(
    parts: tuple[str, ...], expected: str
) -> None:
    assert path(*parts) == expected


def test_a_list_comes_in_pages(tmp_path: Path) -> None:
    script = in_turn(page("a", "b", token="next one", left=1), page("c"))
    with serving(script, tmp_path) as server:
        parts = list(server.cluster.pages(PODS, labels="app in (a,b)", fields="x=y", size=2))
    assert [(len(part.items), part.remaining) for part in parts] == [(2, 1), (1, 0)]
    first, second = map(query, server.requests)
    assert first == {"limit": ["2"], "labelSelector": ["app in (a,b)"], "fieldSelector": ["x=y"]}
    assert second == {**first, "continue": ["next one"]}


def test_metadata_alone_can_be_requested(tmp_path: Path) -> None:
    with serving(always(page("a")), tmp_path) as server:
        list(server.cluster.pages(PODS, partial=True))
        server.cluster.get(f"{PODS}/a", partial=True)
    accepted = [request.headers["Accept"] for request in server.requests]
    assert [text.split(";")[1] for text in accepted] == [
        "as=PartialObjectMetadataList", "as=PartialObjectMetadata",
    ]  # fmt: skip


def test_the_token_of_the_kubeconfig_is_shown(tmp_path: Path) -> None:
    with serving(always(page()), tmp_path) as server:
        names(server.cluster)
    assert server.requests[0].headers["authorization"] == "Bearer secret"
    assert server.requests[0].headers["User-Agent"].startswith("mendix-mesh/")


def test_an_expired_list_goes_on_where_the_api_server_says(tmp_path: Path) -> None:
    gone = status(410, "Expired", "too old", metadata={"continue": "from here"})
    with serving(in_turn(page("a", token="old"), gone, page("b")), tmp_path) as server:
        assert names(server.cluster) == ["a", "b"]
    assert query(server.requests[2])["continue"] == ["from here"]


def test_an_expired_list_that_must_start_again_gives_nothing_twice(tmp_path: Path) -> None:
    """Meanwhile `b` was deleted, and `aa` was created before the position of the list."""
    gone = status(410, "Expired", "too old")
    script = in_turn(
        page("a", "b", token="old"), gone, page("a", "aa", token="new"), page("c", "d")
    )
    with serving(script, tmp_path) as server:
        assert names(server.cluster) == ["a", "b", "c", "d"]


def test_a_namespace_whose_name_starts_with_another_ones_is_not_taken_for_seen(
    tmp_path: Path,
) -> None:
    """The API server's order is by key: `a-b/x` before `a/x`, for - is less than /."""
    first = Reply(body={"metadata": {"continue": "old"}, "items": [pod("x", "a-b")]})
    again = Reply(body={"metadata": {}, "items": [pod("x", "a-b"), pod("x", "a")]})
    script = in_turn(first, status(410, "Expired", "too old"), again)
    with serving(script, tmp_path) as server:
        found = [
            json.loads(bytes(raw)) for part in server.cluster.pages(PODS) for raw in part.items
        ]
    assert [one["metadata"]["namespace"] for one in found] == ["a-b", "a"]


def test_a_busy_api_server_is_called_again_after_its_retry_after(
    tmp_path: Path, waits: list[float]
) -> None:
    busy = status(429, "TooManyRequests", "slow down")._replace(headers={"Retry-After": "3"})
    with serving(in_turn(busy, busy, page("a")), tmp_path) as server:
        assert names(server.cluster) == ["a"]
    assert [round(wait) in (2, 3, 4) for wait in waits] == [True, True]


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_a_failing_api_server_is_called_again_after_longer_and_longer_pauses(
    tmp_path: Path, waits: list[float], code: int
) -> None:
    failed = Reply(code, b"<html>not today</html>")
    with serving(in_turn(failed, failed, failed, page("a")), tmp_path) as server:
        assert names(server.cluster) == ["a"]
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[0]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (status(410, "Expired", "too old"), r"^too old$"),
        (status(401, "Unauthorized", "Unauthorized"), r"^you are not logged in, or no longer"),
        (Reply(body=b"hello"), r"^\S+/api/v1/pods gives no list: "),
    ],
)
def test_a_list_that_the_api_server_does_not_give_is_reported(
    tmp_path: Path, reply: Reply, why: str
) -> None:
    with serving(always(reply), tmp_path) as server, pytest.raises(ClusterError, match=why):
        names(server.cluster)


def test_an_api_server_that_fails_for_good_is_reported_in_one_line(
    tmp_path: Path, waits: list[float]
) -> None:
    with (
        serving(always(Reply(503, b"<html>\nno</html>")), tmp_path) as server,
        pytest.raises(StatusError, match=r"^HTTP 503 Service Unavailable for /api/v1/pods$"),
    ):
        names(server.cluster)
    assert len(server.requests) == len(waits) + 1 == 6


def test_a_cut_connection_is_taken_up_again(tmp_path: Path, waits: list[float]) -> None:
    script = in_turn(page("a", token="t"), page("b")._replace(cut=10), page("b"))
    with serving(script, tmp_path) as server:
        assert names(server.cluster) == ["a", "b"]
    assert len(waits) == 1


def test_what_creates_something_is_not_done_twice(tmp_path: Path, waits: list[float]) -> None:
    with (
        serving(always(Reply(cut=0)), tmp_path) as server,
        pytest.raises(ClusterError, match=f"^{server.url} does not answer: "),
    ):
        server.cluster.create(PODS, pod("a"))
    assert len(server.requests) == 1
    assert waits == []


def test_what_creates_something_is_tried_again_if_nothing_was_done(
    tmp_path: Path, waits: list[float]
) -> None:
    busy = status(429, "TooManyRequests", "slow down")
    script = in_turn(busy, Reply(201, pod("a"), {"Warning": '299 - "a \\"b\\"", 299 - "c"'}))
    with serving(script, tmp_path) as server:
        assert server.cluster.create(PODS, pod("a"), dry_run=True) == (pod("a"), ['a "b"', "c"])
    assert [query(request) for request in server.requests] == [{"dryRun": ["All"]}] * 2
    assert json.loads(server.requests[1].body) == pod("a")


def test_an_eviction_that_a_budget_forbids_is_not_tried_again(
    tmp_path: Path, waits: list[float]
) -> None:
    causes = {"causes": [{"reason": "DisruptionBudget", "message": "needs 1"}]}
    reply = status(429, "TooManyRequests", "Cannot evict pod", details=causes)
    with serving(always(reply), tmp_path) as server:
        with pytest.raises(StatusError) as caught:
            server.cluster.create(f"{PODS}/a/eviction", {})
        assert caught.value.is_budget
    assert waits == []


@pytest.mark.parametrize(
    ("how", "tries", "kind"), [("merge", 2, "merge-patch"), ("json", 1, "json-patch")]
)
def test_a_patch_is_sent_again_only_if_that_does_no_harm(
    tmp_path: Path, waits: list[float], how: str, tries: int, kind: str
) -> None:
    with serving(in_turn(Reply(cut=0), Reply(body=pod("a"))), tmp_path) as server:
        try:
            server.cluster.patch(f"{PODS}/a", {}, how=how)  # type: ignore[arg-type]
        except ClusterError:
            assert tries == 1
    assert len(server.requests) == tries
    assert kind in server.requests[0].headers["Content-Type"]


def test_what_is_gone_counts_as_deleted(tmp_path: Path) -> None:
    script = in_turn(status(404, "NotFound", "gone"), status(409, "Conflict", "uid"), Reply())
    with serving(script, tmp_path) as server:
        answers = [server.cluster.delete(f"{PODS}/a", uid="1") for _ in range(3)]
    assert answers == [False, False, True]
    assert json.loads(server.requests[0].body) == {"preconditions": {"uid": "1"}}


def test_what_does_not_exist_is_none(tmp_path: Path) -> None:
    script = in_turn(status(404, "NotFound", "no"), status(403, "Forbidden", "you may not"))
    with serving(script, tmp_path) as server:
        assert server.cluster.find(f"{PODS}/a") is None
        with pytest.raises(StatusError, match=r"^you may not$") as caught:
            server.cluster.find(f"{PODS}/a")
    assert caught.value.is_forbidden


def test_a_cluster_that_is_not_there_is_reported_soon(tmp_path: Path, waits: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    cluster = Cluster.connect(str(write_kubeconfig(tmp_path / "kubeconfig", url)))
    with pytest.raises(ClusterError) as caught:
        names(cluster)
    assert str(caught.value) == (
        f"{url} does not answer: [Errno 111] Connection refused; "
        "is the context the right one, and the cluster up?"
    )
    assert len(waits) == 1


def test_the_context_and_its_namespace_are_the_given_ones(tmp_path: Path) -> None:
    file = str(write_kubeconfig(tmp_path / "kubeconfig", "https://example.com"))
    current, other = Cluster.connect(file), Cluster.connect(file, "there")
    assert (current.context, current.namespace) == ("here", "default")
    assert (other.context, other.namespace) == ("there", "mendix")
    assert current.server == "https://example.com"


def test_a_context_that_is_named_needs_no_current_one(tmp_path: Path) -> None:
    file = write_kubeconfig(tmp_path / "kubeconfig", "https://example.com")
    content = yaml.safe_load(file.read_text())
    del content["current-context"]
    file.write_text(yaml.safe_dump(content))
    assert Cluster.connect(str(file), "there").context == "there"


def test_kubeconfig_files_are_merged_as_kubectl_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_kubeconfig(tmp_path / "kubeconfig", "https://example.com")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}{os.pathsep}{file}")
    assert Cluster.connect().context == "here"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no cluster: there is no kubeconfig {file}; give --kubeconfig, or set KUBECONFIG"),
        ("", "can't use the kubeconfig {file}: .* is empty"),
        ("{", "can't use the kubeconfig {file}: not YAML: "),
        ("a: 1", "can't use the kubeconfig {file}: Expected "),
        ("[]", "can't use the kubeconfig {file}: "),
    ],
)
def test_an_invalid_kubeconfig_is_reported_in_one_line(
    tmp_path: Path, content: str | None, why: str
) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ClusterError, match=why.format(file=file)) as caught:
        Cluster.connect(str(file))
    assert "\n" not in str(caught.value)


def test_an_unknown_context_is_reported_with_the_known_ones(tmp_path: Path) -> None:
    file = write_kubeconfig(tmp_path / "kubeconfig", "https://example.com")
    with pytest.raises(ClusterError, match=r"it has no context prod, but here, there$"):
        Cluster.connect(str(file), "prod")


def test_a_user_that_impersonates_another_one_is_rejected(tmp_path: Path) -> None:
    file = write_kubeconfig(tmp_path / "kubeconfig", "https://example.com", **{"as": "somebody"})
    with pytest.raises(ClusterError, match=r"acts as another one \(as\)"):
        Cluster.connect(str(file))


def test_a_pod_without_an_account_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ClusterError, match=r"^no cluster: Service token file does not exist"):
        Cluster.connect()
