"""Test or time: plain ``pytest`` runs tests/ and times nothing; ``pytest --benchmark`` runs bench/ too."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--benchmark", action="store_true", help="also run bench/, with timing")


def pytest_configure(config: pytest.Config) -> None:
    timing = config.getoption("benchmark")
    if timing and not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("--benchmark needs pytest-benchmark: pip install 'fastnn-kernels[bench]'")
    if timing and config.args_source == pytest.Config.ArgsSource.TESTPATHS:
        config.args.append("bench")
    if not timing and hasattr(config.option, "benchmark_disable"):
        config.option.benchmark_disable = (
            True  # a bench file named by hand is then run once, as a test of its result
        )
