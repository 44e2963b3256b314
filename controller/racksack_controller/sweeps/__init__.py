"""Sweeps on the controller: the ledger, the dispatcher that hands out chunks, and what reads the results."""
