"""The always-on daemon: watches the spool, decides, and acts on nodes."""
