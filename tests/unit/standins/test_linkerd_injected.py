"""The stand-in injector makes the pods that Linkerd's own injector has made of the same input."""

import copy
from typing import Any

import pytest

from tests.fixtures.cases import CASES
from tests.standins.defaults import differences, stripped
from tests.standins.linkerd import InjectorConfig, inject

Json = dict[str, Any]

CONFIG, INJECT, PROXY = "config.linkerd.io/", "linkerd.io/inject", "linkerd.io/proxy-"
ENABLED = {"metadata": {"name": "mendix", "annotations": {INJECT: "enabled"}}}
CREATED = "linkerd.io/created-by"
OWN = ("linkerd-init", "linkerd-network-validator", "linkerd-proxy")
#: The cases whose stored pods nobody has changed after the injection.
REAL = ("ptrace-ephemeral", "lasting-init-before-rules", "linkerd-openshift-uid",
        "linkerd-env-by-otel-annotation", "linkerd-cni-env-by-pull-policy",
        "linkerd-cni-default-ports", "linkerd-proxy-gid-minus-1")  # fmt: skip


def submitted(stored: Json) -> Json:
    """Return an injected pod without the injector's work."""
    pod = copy.deepcopy(stored)
    spec, meta = pod["spec"], pod["metadata"]
    for place in ("initContainers", "containers"):
        spec[place] = [one for one in spec.get(place, ()) if one["name"] not in OWN]
    spec["volumes"] = [v for v in spec.get("volumes", ()) if not v["name"].startswith("linkerd-")]
    for place in ("initContainers", "volumes"):
        if not spec[place]:
            del spec[place]
    for place in ("labels", "annotations"):
        meta[place] = {key: value for key, value in meta[place].items()
                       if key == INJECT or not key.startswith("linkerd.io/")}  # fmt: skip
    return pod


def injector(stored: Json) -> InjectorConfig:
    """Return the configuration of the injector that made a pod."""
    inits = {one["name"] for one in stored["spec"]["initContainers"]}
    every = [*stored["spec"]["initContainers"], *stored["spec"]["containers"]]
    (proxy,) = (one for one in every if one["name"] == "linkerd-proxy")
    env = {one["name"]: one.get("value", "") for one in proxy["env"]}
    return InjectorConfig(
        image=proxy["image"],
        version=stored["metadata"]["annotations"][CREATED].split()[-1],
        trust_anchors=env["LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"],
        native="linkerd-proxy" in inits,
        cni="linkerd-network-validator" in inits,
        tracing="LINKERD2_PROXY_TRACE_SERVICE_NAME" in env,
    )


@pytest.mark.parametrize("name", REAL)
def test_the_stand_in_makes_what_linkerd_made(name: str) -> None:
    (case,) = (one for one in CASES if one.name == name)
    for request in case.requests():
        real = request.old or request.pod
        owner = next(
            ({"kind": key.removeprefix(PROXY), "name": value}
             for key, value in real["metadata"]["labels"].items() if key.startswith(PROXY)), None,
        )  # fmt: skip
        made = inject(submitted(real), ENABLED, injector(real), owner=owner).pod
        for one in (real, made):  # Some were injected by Linkerd's command.
            for key in (CREATED, INJECT):
                one["metadata"]["annotations"].pop(key, None)
        assert not differences(stripped(real), stripped(made))
