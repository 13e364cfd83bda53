"""Image references, as container runtimes take them apart."""

import pytest

from webhook.policy.pod.images import differ, repository

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("cr.l5d.io/linkerd/proxy", "cr.l5d.io/linkerd/proxy"),
        ("cr.l5d.io/linkerd/proxy:edge-26.8.3", "cr.l5d.io/linkerd/proxy"),
        (f"cr.l5d.io/linkerd/proxy@{DIGEST}", "cr.l5d.io/linkerd/proxy"),
        (f"cr.l5d.io/linkerd/proxy:edge@{DIGEST}", "cr.l5d.io/linkerd/proxy"),
        ("mirror.local:5000/linkerd/proxy", "mirror.local:5000/linkerd/proxy"),
        ("mirror.local:5000/linkerd/proxy:edge", "mirror.local:5000/linkerd/proxy"),
        ("[fd00::1]:5000/linkerd/proxy:edge", "[fd00::1]:5000/linkerd/proxy"),
        ("proxy:edge", "proxy"),
        ("cr.l5d.io/linkerd/proxy:../evil", "cr.l5d.io/linkerd/proxy:../evil"),
        ("", ""),
    ],
)
def test_the_repository_is_what_is_before_tag_and_digest(image: str, name: str) -> None:
    assert repository(image) == name


@pytest.mark.parametrize(
    ("one", "other", "are_different"),
    [
        ("cr.l5d.io/linkerd/proxy:edge-26.8.3", "cr.l5d.io/linkerd/proxy:edge-26.7.1", True),
        ("docker.io/istio/proxyv2:1.31.0-distroless", "docker.io/istio/proxyv2:1.31.0", False),
        ("docker.io/istio/proxyv2:1.31.0-debug", "docker.io/istio/proxyv2:1.30.0", True),
        ("docker.io/istio/proxyv2@sha256:aa", "docker.io/istio/proxyv2:1.30.0", False),
        ("cr.l5d.io/linkerd/proxy-init:v2", "cr.l5d.io/linkerd/proxy:edge-26.8.3", False),
    ],
)
def test_versions_are_compared_without_variants_and_in_one_repository(
    one: str, other: str, are_different: bool
) -> None:
    assert differ(one, other) == differ(other, one) == are_different
