"""What points returned: the ledger, ranking, plots and exports."""
