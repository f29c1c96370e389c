"""The published evaluation in one command: every data set, every number of shots, tables and images."""

from sowa.evaluation.benchmark.network import Network
from sowa.evaluation.benchmark.run import run_benchmark
from sowa.evaluation.benchmark.suite import SUITES, BenchmarkConfig, Suite

__all__ = ["SUITES", "BenchmarkConfig", "Network", "Suite", "run_benchmark"]
