"""The published evaluation in one command: every data set, every number of shots, tables and pictures."""

from sowa.benchmark.network import Network
from sowa.benchmark.run import run_benchmark
from sowa.benchmark.suite import SUITES, BenchmarkConfig, Suite

__all__ = ["SUITES", "BenchmarkConfig", "Network", "Suite", "run_benchmark"]
