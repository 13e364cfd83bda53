"""Finds the cluster and the credentials. Only this module uses the official client.

The official client supports exec plugins, OIDC, expiring tokens, merged kubeconfig files and
proxies, as kubectl does.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.kube_config import KubeConfigMerger

from webhook.cluster.api.errors import ClusterError


class Login(NamedTuple):
    """The address and the credentials of an API server."""

    server: str
    context: str
    namespace: str
    pool: urllib3.PoolManager
    #: Returns the headers that authenticate the user. It renews expiring tokens.
    headers: Callable[[], dict[str, str]]


def log_in(kubeconfig: str | None, context: str | None) -> Login:
    """Find the cluster as kubectl does: kubeconfig, KUBECONFIG, ~/.kube/config, else as a pod.

    Raise `ClusterError` if no cluster is configured.
    """
    settings = client.Configuration()
    settings.retries = False  # the connection itself knows which calls may be tried again
    files = _files(kubeconfig)
    paths = [os.path.expanduser(part) for part in files.split(os.pathsep) if part]
    if not any(map(os.path.exists, paths)):
        if not kubeconfig and not context and "KUBERNETES_SERVICE_HOST" in os.environ:
            return _in_pod(settings)
        raise ClusterError(
            f"no cluster: there is no kubeconfig {files}; give --kubeconfig, or set KUBECONFIG"
        )
    try:
        chosen = _chosen(files, context)
        _demand_own_rights(files, chosen)
        config.load_kube_config(
            config_file=files, context=context or None, client_configuration=settings
        )
        namespace = chosen["context"].get("namespace") or "default"
        return _login(settings, context=str(chosen["name"]), namespace=str(namespace))
    except ConfigException as error:
        why = str(error).removeprefix("Invalid kube-config file. ")
    except yaml.YAMLError as error:
        why = f"not YAML: {error}"
    except (OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        why = str(error)
    raise ClusterError(f"can't use the kubeconfig {files}: {' '.join(why.split())}")


def contexts(kubeconfig: str | None) -> list[str]:
    """Return the names of the kubeconfig's contexts. Raise any error of reading a file."""
    return [str(one["name"]) for one in _contexts(_files(kubeconfig))]


def _files(kubeconfig: str | None) -> str:
    return kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"


def _contexts(files: str) -> list[Mapping[str, Any]]:
    """Return the contexts of these files. A current context is not required."""
    return [one.value for one in KubeConfigMerger(files).config["contexts"]]


def _chosen(files: str, name: str | None) -> Mapping[str, Any]:
    """Return the context of that name, or the current one, as in the kubeconfig."""
    if not name:
        _, found = config.list_kube_config_contexts(config_file=files)
        current: Mapping[str, Any] = found
        return current
    known = _contexts(files)
    for one in known:
        if one["name"] == name:
            return one
    names = ", ".join(str(one["name"]) for one in known)
    raise ConfigException(f"it has no context {name}, but {names or 'none at all'}")


def _demand_own_rights(files: str, chosen: Mapping[str, Any]) -> None:
    """Raise `ConfigException` if the context's user impersonates another user.

    The official client ignores impersonation, and would act with the rights of the original user.
    """
    for one in KubeConfigMerger(files).config.safe_get("users") or ():
        name, user = one.value["name"], one.value.get("user") or {}
        keys = [key for key in user if key == "as" or key.startswith("as-")]
        if name == chosen["context"].get("user") and keys:
            raise ConfigException(
                f"its user {name} acts as another one ({', '.join(keys)}), which "
                "mendix-mesh can't do; give a context whose user has the rights itself"
            )


def _in_pod(settings: client.Configuration) -> Login:
    try:
        config.load_incluster_config(client_configuration=settings)
    except ConfigException as error:
        raise ClusterError(f"no cluster: {error}") from None
    return _login(settings, context="", namespace="default")


def _login(settings: client.Configuration, *, context: str, namespace: str) -> Login:
    api = client.ApiClient(settings)
    server = str(settings.host)

    def headers() -> dict[str, str]:
        made: dict[str, str] = {}
        try:
            api.update_params_for_auth(made, [], ["BearerToken"], "", "GET", None)
        except (ApiException, ConfigException, OSError) as error:
            raise ClusterError(f"can't log in to {server}: {error}") from None
        return made

    return Login(server, context, namespace, api.rest_client.pool_manager, headers)
