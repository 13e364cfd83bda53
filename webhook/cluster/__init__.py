"""What runs: looking at a cluster by the rights of anyone who asks, and acting on it.

The only room that talks to an API server. It judges by `webhook.policy`, as the webhook does.
"""
