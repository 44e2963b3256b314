"""The owner's emergency: backups of the spool, bringing them back, and checking and repairing what is there."""
