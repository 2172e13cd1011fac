"""Benchmarks of the toolkit beside its peers; tools/bench/run runs them."""

import omnirouter.bin  # noqa: F401  before torch, whose memory it sets as every command has it
