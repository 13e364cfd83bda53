"""A watch continues, reports if it may have missed changes, and survives errors."""

import itertools
import json
import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.unit.cluster.apiserver import HttpRequest, Reply, ScriptedServer, serving, status
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.cluster.api.watch import Watch, Watcher, WatchEvent

WHERE = "/api/v1/pods"


def event(kind: str, version: int, name: str = "", **more: Any) -> bytes:
    meta = {"name": name, "namespace": "shop", "resourceVersion": str(version)}
    return json.dumps({"type": kind, "object": {"metadata": meta, **more}}).encode() + b"\n"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the waits that are for clusters."""
    monkeypatch.setattr("webhook.cluster.api.watch._SHORT", 0.0)
    monkeypatch.setattr("webhook.cluster.api.watch._WAIT", 0.01)


EXPIRED = event("ERROR", 0, code=410, message="too old resource version", reason="Expired")


class Script:
    """Answers lists with versions that grow by ten, and watches with the given answers in order.

    After the last one it answers with an error, so that a test with too many calls ends.
    """

    def __init__(self, *replies: Reply) -> None:
        self.versions = itertools.count(10, 10)
        self.replies = iter(replies)
        self.watched_from: list[str] = []

    def __call__(self, request: HttpRequest) -> Reply:
        query = parse_qs(urlsplit(request.target).query)
        if "watch" not in query:
            return Reply(body={"metadata": {"resourceVersion": str(next(self.versions))}})
        self.watched_from += query["resourceVersion"]
        assert query["allowWatchBookmarks"] == ["true"]
        assert "as=PartialObjectMetadata;" in request.headers["Accept"]
        return next(self.replies, status(403, "Forbidden", "enough"))


def seen(script: Script, folder: Path) -> Iterator[WatchEvent | None]:
    """Return all changes until the script's end, with calls like those of a watcher."""
    with serving(script, folder) as server:
        watch = Watch(server.cluster, WHERE)
        while True:
            try:
                yield from watch.changes()
            except StatusError as error:
                if error.code != 410:
                    return
            except ClusterError:
                continue


def test_it_goes_on_from_the_last_event_or_bookmark(tmp_path: Path) -> None:
    script = Script(
        Reply(body=event("ADDED", 11, "a") + event("MODIFIED", 12, "b")),
        Reply(body=event("DELETED", 13, "a") + event("BOOKMARK", 20)),
        Reply(body=b""),
    )
    assert list(seen(script, tmp_path)) == [
        None, WatchEvent("shop", "a"), WatchEvent("shop", "b"), WatchEvent("shop", "a")
    ]  # fmt: skip
    assert script.watched_from == ["10", "12", "20", "20"]


@pytest.mark.parametrize(
    "gone", [Reply(body=EXPIRED), status(410, "Expired", "too old")], ids=["event", "answer"]
)
def test_an_expired_watch_starts_again_and_reports_that_changes_may_be_missed(
    tmp_path: Path, gone: Reply
) -> None:
    script = Script(Reply(body=event("ADDED", 11, "a")), gone, Reply(body=event("ADDED", 21, "b")))
    assert list(seen(script, tmp_path)) == [
        None,
        WatchEvent("shop", "a"),
        None,
        WatchEvent("shop", "b"),
    ]
    assert script.watched_from == ["10", "11", "20", "21"]


def test_a_cut_watch_goes_on_where_it_was(tmp_path: Path) -> None:
    body = event("ADDED", 11, "a") + event("ADDED", 12, "b")
    script = Script(Reply(body=body, cut=len(body) - 5), Reply(body=event("ADDED", 12, "b")))
    changes = list(seen(script, tmp_path))
    assert changes == [None, WatchEvent("shop", "a"), WatchEvent("shop", "b")]
    assert script.watched_from == ["10", "11", "12"]


def test_what_is_no_event_is_reported(tmp_path: Path) -> None:
    with serving(Script(Reply(body=b"<html>\n")), tmp_path) as server:
        changes = Watch(server.cluster, WHERE).changes()
        assert next(changes) is None
        with pytest.raises(ClusterError, match="no watch"):
            next(changes)


def test_a_watcher_tries_again_and_reports_every_change(
    tmp_path: Path, logged: list[MutableMapping[str, Any]]
) -> None:
    script = Script(
        status(403, "Forbidden", "may not watch"),
        status(403, "Forbidden", "may not watch"),
        Reply(body=event("ADDED", 11, "a")),
    )
    reported: list[WatchEvent | None] = []
    done = threading.Event()

    def changed(change: WatchEvent | None) -> None:
        reported.append(change)
        if change:
            done.set()

    with serving(script, tmp_path) as server:
        watcher = _watcher(server, changed)
        assert done.wait(10)
        watcher.stop()
        watcher.join(10)
    assert not watcher.is_alive()
    assert reported == [None, WatchEvent("shop", "a")]
    assert [line.get("why") for line in logged[:2]] == ["may not watch", None]
    assert logged[1]["event"] == "watches again"


def _watcher(server: ScriptedServer, changed: Any) -> Watcher:
    watcher = Watcher(server.cluster, WHERE, changed)
    watcher.start()
    assert watcher.begun.wait(10)
    return watcher
