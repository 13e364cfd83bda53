"""The dashboard: what the auditor last saw, as pages; server-rendered, and nothing can be changed.

`create_app` makes a WSGI application of what a `Seen` holds. Pods, Events and the like are read
when a page asks for them, with a limit on how many, and for how long it waits.
"""

from webhook.cluster.dashboard.access import TokenReviewer
from webhook.cluster.dashboard.app import create_app

__all__ = ["TokenReviewer", "create_app"]
