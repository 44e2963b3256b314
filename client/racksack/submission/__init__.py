"""From a project folder and options to an accepted job."""
