"""The benchmarks' switch and their tables, and kernels held against the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import limits, medians, report
from bench.peers.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[1]


SOME = "--ignore-glob=*/test_[!p]*"  # of the tests; of the benchmarks all


def collected(*options: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "::" in line or ".py: " in line]


def test_plain_pytest_collects_no_benchmark() -> None:
    assert not [line for line in collected(SOME) if line.startswith("bench")]


def test_benchmark_option_adds_the_benchmarks_to_the_tests() -> None:
    pytest.importorskip("pytest_benchmark")
    lines = collected("--benchmark", SOME)
    assert any(line.startswith("bench/bench_conv.py") for line in lines)
    assert any(line.startswith("tests/test_parity_conv.py") for line in lines)


def result(operation: str, case: str, contender: str, median: float, fastest: float | None = None) -> dict:
    info = {"operation": operation, "case": case, "contender": contender}
    return {"extra_info": info, "stats": {"median": median, "min": fastest or median}}


def test_medians_compare_with_the_first_contender_and_mark_unsteady_times() -> None:
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
    assert medians.table(run).splitlines() == [
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


@pytest.mark.parametrize("option", [["bench.medians"], ["bench.report", "--peers"]], ids=lambda o: o[0])
def test_tables_say_in_one_line_that_a_file_cannot_be_read(option: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", *option, str(tmp_path / "none.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "none.json" in done.stderr


def timed(median: float, *rounds: float) -> dict:
    return {"median": median, "rounds": list(rounds) or [median], "steps": 30, "faults": 0.0, "peak": 10**8}


COMPARED = {
    "date": "2030-01-02T03:04:05+00:00",
    "machine": {"processor": "A CPU", "cpus": 2, "system": "Linux x86_64", "load": 0.1},
    "versions": {"python": "3.13.0", "torch": "2.13.0", "jax": "0.10.0", "numpy": "2.4.0"},
    "threads": 2,
    "workloads": {
        "small, batch 64": {
            "kind": "training",
            "bar": 2.0,
            "baseline_bar": None,
            "peers": {
                "fastnn": timed(1e-3),
                "NumPy": timed(2.5e-2),
                "PyTorch": timed(3e-3, 2e-3, 4e-3),
                "JAX": timed(2e-3),
            },
        },
        "large, batch 1,000": {
            "kind": "training",
            "bar": 2.0,
            "baseline_bar": None,
            "peers": {
                "fastnn": timed(0.4),
                "NumPy": timed(0.38),
                "PyTorch": timed(0.5),
                "JAX": {"skipped": "it has no such layer"},
            },
        },
        "small, inference, batch 1": {
            "kind": "inference",
            "bar": 0.5,
            "baseline_bar": None,
            "peers": {"fastnn": timed(1e-4), "ONNX Runtime": timed(5e-5)},
        },
    },
}


def test_report_has_ratios_the_fastest_library_in_bold_and_the_baseline_last() -> None:
    assert report.section(COMPARED).splitlines() == [
        "Time of each library over that of fastnn, 2 threads each; the fastest in bold. Medians on A CPU, "
        "2030-01-02; PyTorch 2.13.0, JAX 0.10.0, NumPy 2.4.0.",
        "",
        "| training | PyTorch | JAX | NumPy |",
        "|---|---:|---:|---:|",
        r"| small, batch 64 | 3.00 \* | **2.00** | 25 |",
        "| large, batch 1,000 | **1.25** |  | 0.95 |",
        "",
        "| inference | ONNX Runtime |",
        "|---|---:|",
        "| small, batch 1 | **0.50** |",
        "",
        r"\* Its turns differed by over half: run this again.",
    ]


def test_report_says_that_the_machine_was_busy() -> None:
    busy = {**COMPARED, "machine": {**COMPARED["machine"], "load": 1.5}}
    assert "**The machine was busy (load 1.5): run this again when it is idle.**" in report.section(busy)


def measured(name: str, family: str, limit: str, share: float, bar: float | None) -> dict:
    times = {"1": 1.8e-3, "2": 1e-3}
    kernel = {"name": name, "family": family, "limit": limit, "operations": 1e8, "traffic": 1e7, "bar": bar}
    return {**kernel, "seconds": times, "share": {"1": share, "2": share}}


def test_report_writes_the_readme_between_its_marks_and_draws_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rates = {"arithmetic": 2e11, "memory": 2e10, "plain stores": 1e10}
    run = {
        **COMPARED,
        "megabytes": 256,
        "limits": {"1": rates, "2": {limit: 2 * rate for limit, rate in rates.items()}},
        "kernels": [
            measured("1024, forward", "linear", "arithmetic", 0.9, 0.9),
            measured("relu", "activation", "memory", 0.7, 0.8),
            {**measured("im2col", "im2col", "memory", 0.5, None), "operations": 0},
        ],
    }
    (tmp_path / "peers.json").write_text(json.dumps(COMPARED))
    (tmp_path / "limits.json").write_text(json.dumps(run))
    before, _, after = (ROOT / "README.md").read_text(encoding="utf-8").partition(report.END)
    (tmp_path / "README.md").write_text(before + report.END + after, encoding="utf-8")
    options = ["--peers", "peers.json", "--limits", "limits.json", "--root", "."]
    command = [sys.executable, "-m", "bench.report", *options]
    for _ in range(2):  # the second replaces what the first wrote
        subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    written = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert written.startswith(before.partition(report.BEGIN)[0])
    assert written.endswith(after)
    assert written.count(report.section(COMPARED)) == 1
    assert written.count("](docs/roofline.png)") == 1
    picture = (tmp_path / "docs" / "roofline.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_limits_of_no_kernel_leave_the_last_ones_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = ["--megabytes", "1", "--kernel", "nothing of that name", "--out", str(tmp_path / "limits.json")]
    monkeypatch.setattr(sys, "argv", ["bench.limits", *small])
    with pytest.raises(SystemExit, match=r"bench\.limits: no kernel has nothing of that name in its name"):
        limits.main()
    assert not list(tmp_path.iterdir())


def test_limits_hold_kernels_against_arithmetic_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["--megabytes", "1", "--least", "2", "--seconds", "0", "--out", str(tmp_path / "limits.json")]
    monkeypatch.setattr(sys, "argv", ["bench.limits", "--kernel", "1024", "--kernel", "mse", *small])
    limits.main()
    run = json.loads((tmp_path / "limits.json").read_text())
    assert set(run["limits"]) == {"1", "2"}
    assert all(rate > 1e8 for rates in run["limits"].values() for rate in rates.values())
    held = {kernel["name"]: kernel for kernel in run["kernels"]}
    assert held["1024 x 1024 x 1024, forward"]["limit"] == "arithmetic"
    assert held["mse"]["limit"] == "memory"
    for kernel in held.values():
        amount = kernel["operations" if kernel["limit"] == "arithmetic" else "traffic"]
        assert amount > 0
        if "grad-input" not in kernel["name"]:  # of which the time is a difference, on a busy machine any
            assert all(seconds > 0 for seconds in kernel["seconds"].values())


def test_workloads_have_names_of_their_own_and_start_from_the_same_weights() -> None:
    assert len({workload.name for workload in WORKLOADS}) == len(WORKLOADS)
    for workload in WORKLOADS:
        for first, second in zip(workload.network.weights(), workload.network.weights(), strict=True):
            assert all((a == b).all() for a, b in zip(first, second, strict=True))
