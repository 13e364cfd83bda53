"""The dashboard: read-only pages about the auditor's last scan, rendered on the server.

`create_app` returns a WSGI application that shows the contents of `Scans`. Pods, Events and the
like are read when a page needs them. Their number and the waiting time are limited.
"""

from webhook.cluster.dashboard.access import reviewer
from webhook.cluster.dashboard.app import create_app

__all__ = ["create_app", "reviewer"]
