"""Benchmarks of the toolkit beside its peers; tools/bench/run runs them."""
