"""Readers of the state: HTTP API, status page, event stream and metrics."""
