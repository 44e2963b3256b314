"""The commands that need the controller's own code; the client registers them lazily."""
