"""Settings from an installed mesh's configuration, and the verdicts for its pods with them."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.standins import istio as istio_standin
from tests.standins import linkerd as standin
from tests.standins.linkerd_config import InjectorConfig
from tests.standins.linkerd_values import values
from webhook.cluster.doctor import mesh_settings
from webhook.cluster.doctor.mesh_settings import Installed, Revision, beside_defaults, differences
from webhook.policy import meshes
from webhook.policy.pod import objects
from webhook.policy.pod.request import Request
from webhook.policy.settings import Settings, parse
from webhook.policy.validate import validate

NAMESPACE = {
    "metadata": {"name": "mendix", "annotations": {}, "labels": {"mendix-mesh.io/mesh": "linkerd"}}
}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "shop",
        "namespace": "mendix",
        "annotations": {"linkerd.io/inject": "enabled"},
    },
    "spec": {"containers": [{"name": "app", "image": "shop:1"}]},
}
#: Configurations of Linkerd, each with the settings that it requires.
LINKERD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as the chart has it": ({}, {}),
    "another mirror": (
        {"image": "registry.example.com:5000/linkerd/proxy:edge-26.8.3"},
        {"linkerd": {"proxyImages": ["registry.example.com:5000/linkerd/proxy"]}},
    ),
    "another user": (
        {"proxy_uid": 3000, "proxy_gid": 3001},
        {"linkerd": {"proxyUid": 3000, "proxyGid": 3001}},
    ),
    "moved ports": (
        {"inbound_port": 5143, "outbound_port": 5140},
        {"linkerd": {"inboundPort": 5143, "outboundPort": 5140}},
    ),
    "moved admin and control ports": (
        {"admin_port": 5191, "control_port": 5190},
        {"linkerd": {"skipInboundPorts": "5190,5191,4567,4568"}},
    ),
    "further ports that are skipped": (
        {"skip_inbound": "4567,9100-9200", "skip_outbound": "5432", "skip_subnets": "10.1.0.0/16"},
        {
            "linkerd": {
                "skipInboundPorts": "4190,4191,4567,9100-9200",
                "skipOutboundPorts": "5432",
                "skipSubnets": ["10.1.0.0/16"],
            }
        },
    ),
    "another domain": ({"cluster_domain": "corp.example"}, {"clusterDomain": "corp.example"}),
    "another namespace": (
        {"control_plane_namespace": "mesh"},
        {"linkerd": {"controlPlaneNamespace": "mesh"}},
    ),
}


def of_linkerd(config: InjectorConfig) -> Installed:
    where = config.control_plane_namespace
    return mesh_settings.linkerd(values(config), f"ConfigMap {where}/linkerd-config", where)


def said(*installed: Installed) -> dict[str, Any]:
    """Return the output for the chart, read as the server reads it."""
    printed: dict[str, Any] = yaml.safe_load(mesh_settings.yaml_text(installed))
    assert printed.keys() == {"settings"}
    assert printed["settings"] == mesh_settings.document(beside_defaults(installed)[0])
    found: dict[str, Any] = printed["settings"]
    return found


def settings_for(*installed: Installed) -> Settings:
    return parse(said(*installed), checks=frozenset())


def broken(config: InjectorConfig, settings: Settings) -> set[str]:
    """The checks that deny a pod with the proxy that the injector adds."""
    pod = standin.inject(copy.deepcopy(POD), NAMESPACE, config).pod
    request = Request(namespace="mendix", object=objects.convert(pod))
    verdict = validate(request, meshes.load(settings)["linkerd"], "enforce", settings)
    return {one.check for one in verdict.violations if one.level == "deny"}


@pytest.mark.parametrize("case", LINKERD)
def test_only_what_differs_from_the_defaults_is_reported(case: str) -> None:
    change, expected = LINKERD[case]
    installed = of_linkerd(replace(InjectorConfig(), **change))
    assert (said(installed), installed.notes) == (expected, [])


@pytest.mark.parametrize("case", LINKERD)
def test_with_the_printed_settings_nothing_differs_any_more(case: str) -> None:
    installed = of_linkerd(replace(InjectorConfig(), **LINKERD[case][0]))
    assert differences(installed.facts, settings_for(installed)) == []


@pytest.mark.parametrize("case", LINKERD)
def test_the_injected_pod_is_admitted_with_what_is_reported(case: str) -> None:
    config = replace(InjectorConfig(), **LINKERD[case][0])
    assert broken(config, settings_for(of_linkerd(config))) == set()


@pytest.mark.parametrize(
    "case", ["another mirror", "another user", "moved admin and control ports",
             "further ports that are skipped"],
)  # fmt: skip
def test_with_the_defaults_the_same_pod_is_denied(case: str) -> None:
    assert broken(replace(InjectorConfig(), **LINKERD[case][0]), Settings()) != set()


port_lists = st.lists(
    st.integers(1, 65534).map(str) | st.integers(1, 60000).map(lambda low: f"{low}-{low + 9}"),
    max_size=4,
).map(",".join)
free_ports = st.lists(st.integers(1, 65535), min_size=4, max_size=4, unique=True)


@st.composite
def configs(draw: st.DrawFn) -> InjectorConfig:
    """Draw Linkerd's values as an admin can set them."""
    admin, control, inbound, outbound = draw(free_ports)
    registry = draw(st.sampled_from(["cr.l5d.io/linkerd", "registry.example.com:5000/mirror"]))
    return InjectorConfig(
        image=f"{registry}/proxy:edge-26.8.3",
        proxy_uid=draw(st.integers(1, 2**31 - 1)),
        proxy_gid=draw(st.just(-1) | st.integers(1, 2**31 - 1)),
        admin_port=admin,
        control_port=control,
        inbound_port=inbound,
        outbound_port=outbound,
        skip_inbound=draw(port_lists),
        skip_outbound=draw(port_lists),
        skip_subnets=draw(st.sampled_from(["", "10.1.0.0/16", "10.1.0.0/16,10.2.0.0/16"])),
        cluster_domain=draw(st.sampled_from(["cluster.local", "corp.example"])),
        control_plane_namespace=draw(st.sampled_from(["linkerd", "mesh"])),
    )


@given(configs())
def test_whatever_an_admin_sets_in_linkerd_is_printed_and_then_matches(
    config: InjectorConfig,
) -> None:
    installed = of_linkerd(config)
    settings = settings_for(installed)
    assert installed.notes == []
    assert differences(installed.facts, settings) == []
    assert broken(config, settings) == set()
    assert settings.linkerd.proxy_uid == config.proxy_uid
    assert (settings.linkerd.inbound_port, settings.linkerd.outbound_port) == (
        config.inbound_port, config.outbound_port,
    )  # fmt: skip


def test_keys_that_the_values_lack_say_nothing() -> None:
    installed = mesh_settings.linkerd({"proxy": {}}, "ConfigMap linkerd/linkerd-config", "linkerd")
    assert said(installed) == {}


def test_an_init_container_with_an_image_of_its_own_is_reported() -> None:
    given = values(InjectorConfig())
    given["proxyInit"]["image"] = {"name": "registry.example.com/proxy-init", "version": "v2"}
    installed = mesh_settings.linkerd(given, "ConfigMap linkerd/linkerd-config", "linkerd")
    assert said(installed) == {"linkerd": {"initImages": ["registry.example.com/proxy-init"]}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("uid", 0),
        ("gid", 0),
        ("uid", 2**70),
        ("ports", {"inbound": 70000}),
        ("image", {"name": "x\ny"}),
    ],
)
def test_what_settings_cannot_say_is_a_note_with_its_place(key: str, value: Any) -> None:
    given = values(InjectorConfig())
    given["proxy"][key] = value
    installed = mesh_settings.linkerd(given, "ConfigMap linkerd/linkerd-config", "linkerd")
    assert settings_for(installed) == Settings()
    if value != 2**70:
        (note,) = installed.notes
        assert note.startswith(f"ConfigMap linkerd/linkerd-config: proxy.{key}")
        assert "which the settings can't express" in note


def test_numbers_may_stand_in_quotes_and_ports_as_numbers() -> None:
    given = values(InjectorConfig())
    given["proxy"]["uid"] = "3000"
    given["proxyInit"]["ignoreOutboundPorts"] = 5432
    installed = mesh_settings.linkerd(given, "ConfigMap linkerd/linkerd-config", "linkerd")
    assert said(installed) == {"linkerd": {"proxyUid": 3000, "skipOutboundPorts": "5432"}}


# Istio

HUB = "registry.example.com/istio"


def revision(
    name: str = "", *, proxy: Any = None, config: Any = None, mesh: Any = None, **whole: Any
) -> Revision:
    """Return a revision as the chart creates it, with some values of its own."""
    given: dict[str, Any] = {
        "hub": "docker.io/istio",
        "tag": "1.31.0",
        "istioNamespace": "istio-system",
        "proxy": {
            "image": "proxyv2",
            "clusterDomain": "cluster.local",
            "excludeInboundPorts": "",
            "excludeOutboundPorts": "",
            "excludeIPRanges": "",
            "statusPort": 15020,
            **(proxy or {}),
        },
        "proxy_init": {"image": "proxyv2"},
        **whole,
    }
    address = f"istiod{f'-{name}' if name else ''}.istio-system.svc:15012"
    return Revision(
        name,
        "istio-system",
        {"global": given, "revision": name, "pilot": {"env": {}}},
        {"defaultTemplates": ["sidecar"], **(config or {})},
        {"defaultConfig": {"discoveryAddress": address, **(mesh or {})}},
    )


def of_istio(*revisions: Revision, names: tuple[str, ...] = ("default",)) -> Installed:
    return mesh_settings.istio(revisions, names, "MutatingWebhookConfiguration istio")


ISTIO: dict[str, tuple[Revision, dict[str, Any]]] = {
    "as the chart has it": (revision(), {}),
    "another mirror": (revision(hub=HUB), {"proxyImages": [f"{HUB}/proxyv2"]}),
    "an image with its own registry": (
        revision(proxy={"image": f"{HUB}/proxy:1.31.0"}),
        {"proxyImages": [f"{HUB}/proxy"]},
    ),
    "an image of its own for istio-init": (
        revision(proxy_init={"image": f"{HUB}/init:1"}),
        {"proxyImages": ["docker.io/istio/proxyv2", f"{HUB}/init"]},
    ),
    "OpenShift": (revision(platform="openshift"), {"proxyUid": None}),
    "ports and ranges that are left out": (
        revision(
            proxy={
                "excludeInboundPorts": "9100, 9200",
                "excludeOutboundPorts": 5432,
                "excludeIPRanges": "10.1.0.0/16, 10.2.0.0/16",
            }
        ),
        {
            "excludeInboundPorts": "9100,9200",
            "excludeOutboundPorts": "5432",
            "excludeOutboundIPRanges": ["10.1.0.0/16", "10.2.0.0/16"],
        },
    ),
    "a moved status port": (
        revision(proxy={"statusPort": 16020}),
        {"excludeInboundPorts": "16020"},
    ),
    "no status port": (revision(proxy={"statusPort": 0}), {}),
    "another namespace": (
        revision(istioNamespace="mesh", caAddress="istiod.mesh.svc:15012"),
        # Pods still find istiod in the old namespace.
        {"controlPlaneNamespace": "mesh", "controlPlaneHosts": ["istiod.istio-system.svc"]},
    ),
    "a certificate authority of its own, and an external istiod": (
        revision(
            caAddress="cert-manager-istio-csr.cert-manager.svc.cluster.local:443",
            mesh={"discoveryAddress": "istiod.example.com:15012"},
        ),
        {"controlPlaneHosts": ["cert-manager-istio-csr.cert-manager.svc", "istiod.example.com"]},
    ),
    "a further default template": (
        revision(config={"defaultTemplates": ["sidecar", "audit"]}),
        {"templates": ["audit"]},
    ),
    "older than the annotation for native sidecars": (
        revision(tag="1.23.4-distroless"),
        {"nativeSidecars": False},
    ),
}


@pytest.mark.parametrize("case", ISTIO)
def test_what_istio_has_is_printed_and_then_matches(case: str) -> None:
    given, expected = ISTIO[case]
    installed = of_istio(given)
    assert said(installed) == ({"istio": expected} if expected else {})
    assert installed.notes == []
    assert differences(installed.facts, settings_for(installed)) == []


def test_istios_domain_is_the_clusters() -> None:
    installed = of_istio(revision(proxy={"clusterDomain": "corp.example"}))
    assert said(installed) == {"clusterDomain": "corp.example"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("default", "1-31"), {}),
        (("1-31",), {"istio": {"revision": "1-31"}}),
        # A tag stays when the revision behind it changes.
        (("1-31", "prod"), {"istio": {"revision": "prod"}}),
    ],
)
def test_pods_ask_for_a_revision_if_none_is_the_default(
    names: tuple[str, ...], expected: dict[str, Any]
) -> None:
    assert said(of_istio(revision("1-31"), names=names)) == expected


def test_any_installed_revision_or_tag_fits() -> None:
    facts = of_istio(revision("1-31"), names=("1-31", "prod")).facts
    fitting = [
        parse({"istio": {"revision": name}}, checks=frozenset()) for name in ("1-31", "prod")
    ]
    assert [differences(facts, one) for one in fitting] == [[], []]
    (one,) = differences(facts, Settings())
    assert mesh_settings.line([one]) == "settings: {istio: {revision: prod}}"


def test_one_of_several_revisions_must_be_chosen() -> None:
    installed = of_istio(revision("1-30"), revision("1-31"), names=("1-30", "1-31"))
    assert said(installed) == {}
    (note,) = installed.notes
    assert note.endswith("set settings.istio.revision to one of: 1-30, 1-31")


def test_lists_of_several_revisions_are_taken_together() -> None:
    installed = of_istio(
        revision(proxy={"excludeOutboundPorts": "5432"}),
        revision(
            "1-31", hub=HUB, proxy={"excludeOutboundPorts": "5432,6379"}, platform="openshift"
        ),
    )
    assert said(installed) == {
        "istio": {
            "proxyImages": ["docker.io/istio/proxyv2", f"{HUB}/proxyv2"],
            "excludeOutboundPorts": "5432,6379",
        }
    }
    (note,) = installed.notes
    assert "settings.istio.proxyUid can have only one of these values" in note


def istio_broken(config: istio_standin.InjectorConfig, settings: Settings) -> set[str]:
    """Return the checks that deny a pod with the sidecar of Istio's stand-in."""
    made = copy.deepcopy(POD)
    made["metadata"] |= {"annotations": {}, "labels": {"sidecar.istio.io/inject": "true"}}
    pod = istio_standin.inject(made, config)
    request = Request(namespace="mendix", object=objects.convert(pod))
    verdict = validate(request, meshes.load(settings)["istio"], "enforce", settings)
    return {one.check for one in verdict.violations if one.level == "deny"}


def configured_as(config: istio_standin.InjectorConfig) -> Revision:
    """The revision for which the stand-in gets this configuration."""
    return revision(
        hub=config.hub,
        proxy={
            "excludeInboundPorts": config.exclude_inbound_ports,
            "excludeOutboundPorts": config.exclude_outbound_ports,
            "excludeIPRanges": config.exclude_ip_ranges,
            "statusPort": int(config.status_port),
        },
    )


@given(
    st.builds(
        istio_standin.InjectorConfig,
        native=st.booleans(),
        cni=st.booleans(),
        hub=st.sampled_from(["docker.io/istio", HUB]),
        exclude_inbound_ports=st.sampled_from(["", "9100", "9100,9200"]),
        exclude_outbound_ports=st.sampled_from(["", "5432", "5432,6379"]),
        exclude_ip_ranges=st.sampled_from(["", "10.1.0.0/16", "10.1.0.0/16,10.2.0.0/16"]),
        status_port=st.sampled_from(["15020", "16020"]),
    )
)
def test_istios_injected_pod_is_admitted_with_what_is_reported(
    config: istio_standin.InjectorConfig,
) -> None:
    assert istio_broken(config, settings_for(of_istio(configured_as(config)))) == set()


@pytest.mark.parametrize(
    "change",
    [{"hub": HUB}, {"exclude_inbound_ports": "9100"}, {"exclude_outbound_ports": "5432"},
     {"exclude_ip_ranges": "10.1.0.0/16"}, {"status_port": "16020"}],
)  # fmt: skip
def test_with_the_defaults_the_same_pod_of_istio_is_denied(change: dict[str, Any]) -> None:
    assert istio_broken(istio_standin.InjectorConfig(**change), Settings()) != set()


# Comparing


def test_more_than_the_mesh_needs_is_a_warning_and_less_an_error() -> None:
    facts = of_istio(revision(proxy={"excludeOutboundPorts": "5432"})).facts
    severities = {
        text: [one.severity for one in differences(facts, _istio(excludeOutboundPorts=text))]
        for text in ("", "5432", "5430-5440", "6379")
    }
    assert severities == {"": ["error"], "5432": [], "5430-5440": ["warning"], "6379": ["error"]}


def test_a_user_id_that_is_not_judged_is_a_warning() -> None:
    (one,) = differences(of_istio(revision()).facts, _istio(proxyUid=None))
    assert one.severity == "warning"
    assert mesh_settings.line([one]) == "settings: {istio: {proxyUid: 1337}}"


def test_a_second_mirror_is_kept_beside_the_meshs() -> None:
    facts = of_istio(revision(hub=HUB)).facts
    assert (
        differences(facts, _istio(proxyImages=["old.example.com/proxyv2", f"{HUB}/proxyv2"])) == []
    )
    (one,) = differences(facts, _istio(proxyImages=["old.example.com/proxyv2"]))
    assert one.wanted == ["old.example.com/proxyv2", f"{HUB}/proxyv2"]


def test_a_difference_names_both_sides_and_where_it_was_read() -> None:
    (one,) = differences(of_linkerd(InjectorConfig(proxy_uid=3000)).facts, Settings())
    assert one.text == (
        "settings.linkerd.proxyUid is 2102, the mesh uses 3000 "
        "(ConfigMap linkerd/linkerd-config: proxy.uid)"
    )


def test_a_default_template_that_settings_lack_denies_no_pod() -> None:
    facts = of_istio(revision(config={"defaultTemplates": ["sidecar", "audit"]})).facts
    assert [one.severity for one in differences(facts, Settings())] == ["warning"]


@given(configs())
def test_the_line_of_all_differences_removes_them(config: InjectorConfig) -> None:
    facts = of_linkerd(config).facts
    values = yaml.safe_load(mesh_settings.line(differences(facts, Settings())))
    assert differences(facts, parse(values["settings"], checks=frozenset())) == []


# Printing


def test_meshes_of_two_domains_are_noted() -> None:
    meshes_ = [of_linkerd(InjectorConfig(cluster_domain="corp.example")), of_istio(revision())]
    _, (note,) = beside_defaults(meshes_)
    assert "settings.clusterDomain can have only one of these values" in note


def test_a_version_with_line_breaks_stays_in_its_comment() -> None:
    installed = of_linkerd(InjectorConfig(version="1\nsettings: {optOut: override}\n#"))
    assert said(installed) == {}


def _istio(**fields: Any) -> Settings:
    return parse({"istio": fields}, checks=frozenset())


def _paths(value: Any, above: str = "") -> Iterator[str]:
    for key, inner in value.items():
        path = f"{above}.{key}" if above else key
        yield path
        if isinstance(inner, dict):
            yield from _paths(inner, path)


def test_every_setting_that_is_named_exists() -> None:
    known = set(_paths(msgspec.to_builtins(Settings())))
    named = mesh_settings._PORTS | mesh_settings._OPEN_LISTS | mesh_settings.AMBIENT
    assert named <= known


def test_the_document_names_each_mesh_its_version_and_where_each_value_was_read() -> None:
    linkerd = of_linkerd(InjectorConfig(proxy_uid=3000, cluster_domain="corp.example"))
    istio = of_istio(revision(hub=HUB, proxy={"clusterDomain": "corp.example"}))
    assert mesh_settings.yaml_text([linkerd, istio]).splitlines() == [
        "# linkerd edge-26.8.3, read from ConfigMap linkerd/linkerd-config",
        "# istio 1.31.0, read from ConfigMap istio-system/istio-sidecar-injector, "
        "ConfigMap istio-system/istio",
        "settings:",
        "  # ConfigMap linkerd/linkerd-config: clusterDomain",
        "  clusterDomain: corp.example",
        "  linkerd:",
        "    # ConfigMap linkerd/linkerd-config: proxy.uid",
        "    proxyUid: 3000",
        "  istio:",
        "    # ConfigMap istio-system/istio-sidecar-injector values: "
        "global.hub and global.proxy.image",
        "    proxyImages: [registry.example.com/istio/proxyv2]",
    ]
