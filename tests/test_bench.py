"""The benchmarks' switch and their table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import report

ROOT = Path(__file__).resolve().parents[1]


def collected(*options: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "::" in line or ".py: " in line]


def test_plain_pytest_collects_no_benchmark() -> None:
    assert not [line for line in collected("--ignore=tests/test_bench.py") if line.startswith("bench")]


def test_benchmark_option_adds_the_benchmarks_to_the_tests() -> None:
    pytest.importorskip("pytest_benchmark")
    lines = collected("--benchmark", "--ignore=tests/test_bench.py")
    assert any(line.startswith("bench/bench_conv.py") for line in lines)
    assert any(line.startswith("tests/test_parity_conv.py") for line in lines)


def result(operation: str, case: str, contender: str, median: float, fastest: float | None = None) -> dict:
    info = {"operation": operation, "case": case, "contender": contender}
    return {"extra_info": info, "stats": {"median": median, "min": fastest or median}}


def test_report_compares_with_the_first_contender_and_marks_unsteady_times() -> None:
    run = {
        "machine_info": {"machine": "x86_64", "load": 1.26, "cpu": {"count": 2, "brand_raw": "A CPU"}},
        "datetime": "2030-01-02T03:04:05",
        "benchmarks": [
            result("conv2d", "small", "numpy", 2e-3),
            result("conv2d", "small", "numba", 1.25e-4),
            result("conv2d", "large", "numpy", 1.5, 0.7),
            result("relu", "small", "numpy", 3e-7),
            result("relu", "small", "numba", 6e-7),
        ],
    }
    assert report.table(run).splitlines() == [
        "Medians on A CPU, 2 CPUs, 2030-01-02.",
        "**The machine was busy (load 1.3): time this again when it is idle.**",
        "",
        "### conv2d",
        "",
        "| case | numpy | numba | numpy / numba |",
        "|---|---:|---:|---:|",
        "| small | 2.00 ms | 125 µs | 16.0 |",
        r"| large | 1.50 s \* |  |  |",
        "",
        "### relu",
        "",
        "| case | numpy | numba | numpy / numba |",
        "|---|---:|---:|---:|",
        "| small | 0.30 µs | 0.60 µs | 0.5 |",
        "",
        r"\* The median is over twice the fastest round: time this again.",
    ]


def test_report_says_in_one_line_that_a_file_cannot_be_read(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.report", str(tmp_path / "none.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "none.json" in done.stderr
