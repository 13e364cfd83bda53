"""The chart's pods on a real node: their rights, their clients, and what happens if one dies."""

import contextlib
import os
import ssl
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals

import httpx
import pytest

from tests.cluster.api import Json, StatusError, wait_for
from tests.cluster.workloads import pod
from tests.node.installed import NAMESPACE, NodeCluster
from tests.node.node import processes_of
from tests.unit.admission import reviews

pytestmark = pytest.mark.timeout(300)


def test_they_run_under_restricted_pod_security_one_on_each_node(nodes: NodeCluster) -> None:
    with pytest.raises(StatusError, match="violates PodSecurity"):
        nodes.api.create(pod(NAMESPACE), dry_run=True)
    where = {server["spec"]["nodeName"] for server in nodes.await_settled()}
    assert where == {node.name for node in nodes.nodes}


def test_they_hold_no_rights_and_no_file_that_they_could_change_and_one_alone_a_token(
    nodes: NodeCluster,
) -> None:
    script = """
import os, pathlib
lines = pathlib.Path("/proc/1/status").read_text().splitlines()
status = dict(line.split(":", 1) for line in lines)
print(*(status[key].strip() for key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")))
print(os.getuid(), os.getgid())
print(os.path.exists("/var/run/secrets/kubernetes.io"))
for place in ("/", "/etc/mendix-mesh/tls", "/opt/mendix-mesh", "/tmp"):
    try:
        pathlib.Path(place, "new").write_text("")
    except OSError:
        continue
    print(place)
"""
    auditor = nodes.await_auditor()
    for one in (*nodes.await_settled(), auditor):
        rights, user, token, *writable = nodes.run_in(one, "python", "-c", script).splitlines()
        assert rights == "0000000000000000 0000000000000000 1 2"
        assert user == "65532 65532"
        assert token == str(one is auditor)
        assert writable == ["/tmp"]


def test_the_api_server_reaches_them_at_the_services_cluster_ip(nodes: NodeCluster) -> None:
    with pytest.raises(StatusError, match="uses the node's network"):
        nodes.api.create(pod(nodes.enrolled, hostNetwork=True), dry_run=True)
    # It dials the cluster IP, and kube-proxy leads it to a pod.
    flows = nodes.nodes[0].machine.run("conntrack", "-L", "--orig-dst", nodes.service_ip)
    pods = {server["status"]["podIP"] for server in nodes.await_settled()}
    led_to = {word.removeprefix("src=") for word in flows.split() if word.startswith("src=")}
    assert "dport=443" in flows
    assert led_to & pods


def test_connections_to_the_service_are_spread_over_both(nodes: NodeCluster) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = f"https://{nodes.service_ip}/mutate/ambient"
    before = reviews_of(nodes, context)

    def both_probed() -> bool:
        answer = httpx.post(
            url, json=reviews.review(pod("mendix")), verify=context, trust_env=False
        )
        assert answer.json()["response"]["allowed"]
        after = reviews_of(nodes, context)
        return all(after[name] > before[name] for name in after)

    # The pod of a connection is random, and kube-proxy learns of a new pod last.
    wait_for(both_probed, why="both pods to be asked")


def reviews_of(nodes: NodeCluster, context: ssl.SSLContext) -> dict[str, float]:
    """Return the number of reviews that each pod has answered, by its own count."""
    found = {}
    for server in nodes.await_settled():
        url = f"https://{server['status']['podIP']}:10250/metrics"
        text = httpx.get(url, verify=context, trust_env=False).text
        lines = [line for line in text.splitlines() if line.startswith("mendix_mesh_reviews_total")]
        found[server["metadata"]["name"]] = sum(float(line.split()[-1]) for line in lines)
    return found


def test_a_server_that_hangs_gets_no_calls_until_it_answers_again(nodes: NodeCluster) -> None:
    server = nodes.await_settled()[0]
    hung, before = processes_of(server), restarts(nodes, server)
    assert len(hung) >= 2  # gunicorn's, and its worker's
    send(SIGSTOP, hung)
    try:
        wait_for(lambda: not has_endpoint(nodes, server), seconds=60, why="the endpoint to go")
    finally:
        send(SIGCONT, hung)
    wait_for(lambda: has_endpoint(nodes, server), seconds=60, why="the endpoint to come back")
    assert restarts(nodes, server) == before


def send(signal: Signals, pids: list[int]) -> None:
    """Send a signal to processes, of which some may have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal)


def test_one_that_dies_is_started_again(nodes: NodeCluster) -> None:
    server = nodes.await_settled()[0]
    before = restarts(nodes, server)
    send(SIGKILL, processes_of(server))
    wait_for(
        lambda: restarts(nodes, server) == before + 1, seconds=60, why="the container to restart"
    )
    wait_for(lambda: has_endpoint(nodes, server), seconds=60, why="the endpoint to come back")


def has_endpoint(nodes: NodeCluster, server: Json) -> bool:
    """Return whether the Service leads to a pod."""
    slices = nodes.api.list("EndpointSlice", NAMESPACE)
    endpoints = [endpoint for one in slices for endpoint in one["endpoints"] or ()]
    ready = [one for one in endpoints if one["conditions"]["ready"]]
    return any(one["targetRef"]["name"] == server["metadata"]["name"] for one in ready)


def restarts(nodes: NodeCluster, server: Json) -> int:
    now = nodes.api.get("Pod", server["metadata"]["name"], NAMESPACE)
    return int(now["status"]["containerStatuses"][0]["restartCount"])
