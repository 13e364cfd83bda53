"""Errors of calls to the API server, with their messages."""

import re

import msgspec
import urllib3


class ClusterError(Exception):
    """No cluster, or no response. The text is one line: which cluster, why, and how to fix it."""


class StatusError(ClusterError):
    """An error response; the text is the API server's: `pods is forbidden: User "x" cannot …`."""

    def __init__(
        self,
        code: int,
        message: str,
        reason: str = "",
        causes: list[dict[str, str]] | None = None,
        token: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        #: The reason in metav1.Status, like `NotFound` or `TooManyRequests`.
        self.reason = reason
        #: details.causes in metav1.Status, each with reason, message and field.
        self.causes = causes or []
        #: The token with which an expired list can continue, with the current state.
        self.token = token

    @property
    def is_forbidden(self) -> bool:
        """Return whether the user lacks a right. The text names verb, resource and namespace."""
        return self.code == 403

    @property
    def is_budget(self) -> bool:
        """Return whether a PodDisruptionBudget rejected an eviction."""
        return any(cause.get("reason") == "DisruptionBudget" for cause in self.causes)


class _Meta(msgspec.Struct):
    continue_: str = msgspec.field(name="continue", default="")


class _Details(msgspec.Struct):
    causes: list[dict[str, str]] | None = None


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    details: _Details | None = None
    metadata: _Meta = msgspec.field(default_factory=_Meta)


_statuses = msgspec.json.Decoder(_Status)


def status_error(got: urllib3.BaseHTTPResponse, where: str) -> StatusError:
    """Return the error in a response of the API server, or of a proxy in front of it."""
    try:
        status = _statuses.decode(got.data)
    except msgspec.MsgspecError:
        status = _Status()
    message = status.message or f"HTTP {got.status} {got.reason or ''}".rstrip() + f" for {where}"
    if got.status == 401:
        message = "you are not logged in, or no longer: see the user in the kubeconfig"
    causes = status.details.causes if status.details else None
    return StatusError(
        got.status, _one_line(message), status.reason, causes, status.metadata.continue_
    )


def failure(error: Exception) -> str:
    """Return the text of a urllib3 error without its objects and their prefixes."""
    first = error.args[0] if error.args else error
    text = re.sub(r"<[^<>]* object at 0x\w+>:? ?", "", _one_line(str(first)))
    text = re.sub(r"^\w*Connection(Pool)?\([^)]*\): ", "", text)
    return text.removeprefix("Failed to establish a new connection: ")


def _one_line(text: str) -> str:
    return " ".join(text.split())
