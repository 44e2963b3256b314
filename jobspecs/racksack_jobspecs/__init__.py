"""The vocabulary that client and controller share: units, resources, job specs, states and the spool's layout."""
