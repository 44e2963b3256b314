"""The process that answers the controller, over the pipes of the connection."""
