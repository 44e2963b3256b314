"""`racksack.Executor`: Python functions as jobs, by the interface of `concurrent.futures`."""
