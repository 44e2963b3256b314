"""The core under a virtual clock: made-up workloads everywhere, recorded ones where RACKSACK_TRACES names them."""
