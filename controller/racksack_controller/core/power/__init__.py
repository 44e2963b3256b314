"""Power, decided: the records of nodes, the events that change them, whom to switch on for the queue and whom off."""
