"""Benchmarks that run anywhere the hub runs: each beside the limit of the machine, measured in the same run."""
