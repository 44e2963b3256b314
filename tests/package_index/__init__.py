"""The package index of the controller, for nodes that reach none."""
