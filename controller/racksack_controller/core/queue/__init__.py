"""Which job comes first: the queue, fair share and limits."""
