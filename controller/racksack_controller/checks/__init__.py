"""Looks at everything on the way of a job and tells it in findings. Nothing is changed, and nothing switched."""
