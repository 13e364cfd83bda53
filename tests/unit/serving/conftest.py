"""The fixtures of these tests."""

from tests.unit.serving.fixtures import (  # noqa: F401
    client,
    flask,
    resident,
    reviewer,
    running_server,
    server,
    server_process,
    settings_file,
)
