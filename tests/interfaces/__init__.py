"""Driving racksack by interfaces that people know: concurrent.futures, GNU parallel, a shell."""
