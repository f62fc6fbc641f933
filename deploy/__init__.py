"""Deployment: what builds, provisions, demonstrates and updates hubs."""
