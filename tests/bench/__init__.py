"""Benchmarks beside other schedulers; run by hand with `make bench`, never collected by pytest."""
