"""`python -m webhook` is `mendix-mesh`."""

from webhook.cli import main

main(prog_name="mendix-mesh")
