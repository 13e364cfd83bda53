"""Linkerd's inbound policy, by the rules of its policy controller."""

from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as configure
from hypothesis import strategies as st

from webhook.policy.plaintext import Reading, linkerd, objects
from webhook.policy.plaintext.linkerd import Inbound, LinkerdPolicies, PodMarks

POLICY = "config.linkerd.io/default-inbound-policy"
CLOSED = "all-authenticated"
T = TypeVar("T")


def made(kind: type[T], name: str, labels: dict[str, str] | None = None, **spec: Any) -> T:
    meta = {"name": name, "namespace": "mendix", "labels": labels}
    return msgspec.convert({"metadata": meta, "spec": spec}, kind)


def server(name: str = "http", port: int | str = 8080, **spec: Any) -> objects.Server:
    selector = {"podSelector": {"matchLabels": {"app": "shop"}}}
    return made(objects.Server, name, {"tier": "web"}, port=port, **(selector | spec))


def policy(*kinds: str, target: str = "Server", name: str = "http") -> objects.AuthorizationPolicy:
    wanted = [{"kind": kind, "name": f"the-{kind}"} for kind in kinds]
    return made(objects.AuthorizationPolicy, "ap", targetRef={"kind": target, "name": name},
                requiredAuthenticationRefs=wanted)  # fmt: skip


def granted(client: dict[str, Any], **server: Any) -> objects.ServerAuthorization:
    return made(objects.ServerAuthorization, "sa", server=server or {"name": "http"}, client=client)


NETWORK = made(objects.NetworkAuthentication, "the-NetworkAuthentication",
               networks=[{"cidr": "10.1.0.0/16"}])  # fmt: skip


def read(
    *servers: objects.Server, default: str = CLOSED, annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None, **more: Any,
) -> Reading:  # fmt: skip
    given_ = LinkerdPolicies(servers=servers, networks=[NETWORK], **more)
    marks = PodMarks(labels or {"app": "shop"}, annotations or {}, {"web": [80, 81]})
    return Inbound(given_, default).of(marks)


@pytest.mark.parametrize(
    ("cluster", "own", "accepts"),
    [
        ("all-unauthenticated", None, "yes"),
        ("cluster-unauthenticated", None, "yes"),
        ("audit", None, "yes"),
        ("all-authenticated", None, "no"),
        ("cluster-authenticated", None, "no"),
        ("deny", None, "no"),
        ("nonsense", None, "yes"),
        ("all-authenticated", "all-unauthenticated", "yes"),
        ("all-unauthenticated", "all-authenticated", "no"),
        ("all-authenticated", "nonsense", "no"),
        ("all-unauthenticated", "nonsense", "yes"),
    ],
)
def test_the_pod_s_annotation_wins_over_the_cluster_s_default(
    cluster: str, own: str | None, accepts: str
) -> None:
    annotations = {POLICY: own} if own else {}
    assert read(default=cluster, annotations=annotations).accepts == accepts


def test_the_reason_says_whose_policy_it_is() -> None:
    (_, opening), = read(default="all-unauthenticated").openings()  # fmt: skip
    assert (
        opening.because
        == "the default inbound policy is all-unauthenticated (the cluster's default)"
    )
    (_, opening), = read(annotations={POLICY: "audit"}).openings()  # fmt: skip
    assert opening.because == "the default inbound policy is audit (from the pod's annotation)"


@pytest.mark.parametrize(
    ("given_", "because"),
    [
        ({}, None),
        ({"authorization_policies": [policy("MeshTLSAuthentication")]}, None),
        ({"authorization_policies": [policy("ServiceAccount")]}, None),
        ({"authorization_policies": [policy("MeshTLSAuthentication", "NetworkAuthentication")]},
         None),
        ({"authorization_policies": [policy("NetworkAuthentication")]},
         "AuthorizationPolicy ap lets clients without mutual TLS from 10.1.0.0/16 use Server http"),
        ({"authorization_policies": [policy()]},
         "AuthorizationPolicy ap lets any client use Server http"),
        ({"authorization_policies": [policy(target="Namespace", name="mendix")]},
         "AuthorizationPolicy ap lets any client use Server http"),
        ({"authorization_policies": [policy(name="other")]}, None),
        ({"authorization_policies": [policy(target="HTTPRoute")]}, None),
        ({"server_authorizations": [granted({"unauthenticated": True})]},
         "ServerAuthorization sa lets clients without mutual TLS use Server http"),
        ({"server_authorizations": [granted({"unauthenticated": True},
                                            selector={"matchLabels": {"tier": "web"}})]},
         "ServerAuthorization sa lets clients without mutual TLS use Server http"),
        ({"server_authorizations": [granted({"unauthenticated": True},
                                            selector={"matchLabels": {"tier": "db"}})]}, None),
        ({"server_authorizations": [granted({"unauthenticated": True}, name="other")]}, None),
        ({"server_authorizations": [granted({"meshTLS": {"unauthenticatedTLS": True}})]}, None),
    ],
)  # fmt: skip
def test_a_server_is_closed_but_for_what_authorizes_clients_without_identity(
    given_: dict[str, Any], because: str | None
) -> None:
    reading = read(server(), **given_)
    assert reading.default is None
    opening = reading.ports["8080"]
    assert (opening.because if opening else None) == because


def test_a_policy_that_requires_a_missing_object_admits_no_client() -> None:
    lost = made(
        objects.AuthorizationPolicy,
        "ap",
        targetRef={"kind": "Server", "name": "http"},
        requiredAuthenticationRefs=[{"kind": "NetworkAuthentication", "name": "gone"}],
    )
    assert read(server(), authorization_policies=[lost]).accepts == "no"


@pytest.mark.parametrize(
    ("access", "opens"),
    [(None, False), ("deny", False), ("all-authenticated", False), ("all-unauthenticated", True),
     ("audit", True)],
)  # fmt: skip
def test_a_server_s_own_access_policy(access: str | None, opens: bool) -> None:
    assert (read(server(accessPolicy=access)).ports["8080"] is not None) == opens


def test_a_server_closes_its_port_if_the_default_is_open() -> None:
    reading = read(server(), default="all-unauthenticated")
    assert [ports for ports, _ in reading.openings()] == ["all ports but 8080"]


def test_a_server_of_other_pods_or_of_machines_says_nothing() -> None:
    assert read(server(), labels={"app": "crm"}).ports == {}
    assert read(server(podSelector=None)).ports == {}
    expression = {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["shop"]}]}
    assert read(server(podSelector=expression)).ports == {}


def test_a_named_port_is_every_port_that_the_pod_calls_so() -> None:
    assert set(read(server(port="web")).ports) == {"80", "81"}
    assert read(server(port="nobody")).ports == {}


def test_of_two_servers_of_one_port_the_open_one_counts() -> None:
    opened = server("b", accessPolicy="all-unauthenticated")
    assert read(server("a"), opened).accepts == read(opened, server("a")).accepts == "partly"


def test_ports_that_demand_an_identity_are_closed_and_skipped_ones_are_open() -> None:
    required = {"config.linkerd.io/proxy-require-identity-inbound-ports": "8080"}
    reading = read(default="all-unauthenticated", annotations=required)
    assert [ports for ports, _ in reading.openings()] == ["all ports but 8080"]
    skipped = {"config.linkerd.io/skip-inbound-ports": "8900-8901"}
    assert [ports for ports, _ in read(annotations=skipped).openings()] == ["port 8900-8901"]


def test_a_policy_for_a_route_is_distinguished() -> None:
    policies = LinkerdPolicies(authorization_policies=[policy(target="HTTPRoute", name="r")])
    (opening,) = Inbound(policies).routes()
    assert opening.because == "AuthorizationPolicy ap lets any client use HTTPRoute r"


@pytest.mark.parametrize(
    ("namespace", "settings", "accepts"),
    [({}, None, "yes"), ({POLICY: CLOSED}, None, "no"), ({}, CLOSED, "no"),
     ({POLICY: "all-unauthenticated"}, CLOSED, "no")],
)  # fmt: skip
def test_a_new_pod_gets_what_the_settings_add_else_the_namespace_s(
    namespace: dict[str, str], settings: str | None, accepts: str
) -> None:
    assert Inbound(LinkerdPolicies()).new_pods(namespace, settings).accepts == accepts


any_server = st.builds(
    server,
    st.sampled_from("abc"),
    st.sampled_from([8080, 9090, "web"]),
    accessPolicy=st.sampled_from([None, "deny", "all-unauthenticated", "audit"]),
)
any_policy = st.builds(
    policy, st.sampled_from(["MeshTLSAuthentication", "NetworkAuthentication"]),
    target=st.sampled_from(["Server", "Namespace"]), name=st.sampled_from("abc"),
)  # fmt: skip
law = configure(max_examples=200)


@law
@given(st.lists(any_server, max_size=4), st.lists(any_policy, max_size=3), st.randoms())
def test_the_order_of_objects_does_not_change_what_is_open(
    servers: list[Any], policies: list[Any], random: Any
) -> None:
    one = read(*servers, authorization_policies=policies)
    other = read(*random.sample(servers, len(servers)),
                 authorization_policies=random.sample(policies, len(policies)))  # fmt: skip
    shut = {port for port, opening in one.ports.items() if opening is None}
    assert shut == {port for port, opening in other.ports.items() if opening is None}
    assert set(one.ports) == set(other.ports)


@law
@given(st.lists(any_server, max_size=4), st.lists(any_policy, max_size=3))
def test_a_more_restrictive_default_never_opens_a_port(
    servers: list[Any], policies: list[Any]
) -> None:
    loose = read(*servers, authorization_policies=policies, default="all-unauthenticated")
    strict = read(*servers, authorization_policies=policies)
    assert strict.default is None
    assert {p for p, one in strict.ports.items() if one} == {
        p for p, one in loose.ports.items() if one
    }


LAN = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"]


@pytest.mark.parametrize(
    ("networks", "inside"),
    [
        (None, []),
        ([], []),
        ([{"cidr": "93.184.215.0/24"}], []),
        ([{"cidr": "10.0.0.0/8"}], ["10.0.0.0/8"]),
        ([{"cidr": "93.184.215.0/24"}, {"cidr": "192.168.7.7"}], ["192.168.7.7"]),
        ([{"cidr": "0.0.0.0/0"}], ["0.0.0.0/0"]),
        # Linkerd's own default.
        ([{"cidr": "0.0.0.0/0", "except": LAN}, {"cidr": "::/0", "except": ["fd00::/8"]}], []),
        ([{"cidr": "0.0.0.0/0", "except": LAN[1:]}], ["0.0.0.0/0"]),
        ([{"cidr": "10.0.0.0/8", "except": ["10.0.0.0/9"]}], ["10.0.0.0/8"]),
        ([{"cidr": "10.1.0.0/16", "except": ["10.0.0.0/8"]}], []),
        ([{"cidr": "::/0"}], ["::/0"]),
        ([{"cidr": "nonsense"}], ["nonsense"]),
    ],
)
def test_an_egress_network_must_not_have_addresses_of_the_cluster(
    networks: list[Any] | None, inside: list[str]
) -> None:
    for policy_, level in (("Allow", None), (None, None), ("Deny", "warning")):
        egress = made(objects.EgressNetwork, "e", networks=networks, trafficPolicy=policy_)
        found = list(linkerd.of_egress_network(egress))
        assert [value for one in found for value in one.values] == inside
        assert [one.level for one in found] == ([level] if inside else [])
