"""mendix-mesh: every pod in a Mendix namespace joins the service mesh, or does not start."""
