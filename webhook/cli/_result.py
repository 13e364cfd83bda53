"""What `review` found in one object."""

import msgspec

from webhook.policy.checks import Violation
from webhook.policy.mutate import Operation


class Result(msgspec.Struct):
    """What the API server would do with one object."""

    #: File and index of the document in it, from 0: `app.yaml#1`.
    source: str
    #: The line on which the document starts, from 1.
    line: int
    kind: str
    namespace: str
    name: str
    mesh: str
    mode: str
    verdict: str
    patch: list[Operation]
    violations: list[Violation]
    #: What kubectl also shows, and no check judges.
    warnings: list[str] = []

    @property
    def file(self) -> str:
        """The file of the object; empty if it was read from standard input."""
        file = self.source.rpartition("#")[0]
        return "" if file == "-" else file
