"""A package index for nodes that reach none: the controller asks the real one, and keeps what it got."""
