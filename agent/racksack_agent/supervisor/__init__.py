"""One process per attempt: prepares it, runs it, limits it, ends it and records how it ended."""
