"""One file a command, imported when it runs."""
