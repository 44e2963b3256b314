"""The production core under a virtual clock: replays workloads, injects faults, checks invariants, measures."""
