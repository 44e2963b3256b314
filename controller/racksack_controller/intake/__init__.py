"""The way in: from a dropped file and an upload to accepted jobs."""
