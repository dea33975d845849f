"""Imports: cheap from outside, and one way inside."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAZY = (
    "numba",
    "llvmlite",
    "cupy",
    "scipy",
    "sklearn",
    "matplotlib",
    "typer",
    "rich",
    "pooch",
    "tqdm",
    "safetensors",
    "onnx",
    "optuna",
)


def run_python(code: str, cwd: Path = ROOT) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True
    ).stdout


def test_import_fastnn_loads_no_heavy_package() -> None:
    loaded = run_python("import sys, fastnn; print(*sys.modules)").split()
    assert "fastnn" in loaded
    assert sorted(set(LAZY) & {name.partition(".")[0] for name in loaded}) == []


def test_import_fastnn_costs_a_fifth_of_a_second_beyond_numpy() -> None:
    # Processor time, not wall time: a busy machine stretches the latter only.
    code = "import time, numpy; t = time.process_time(); import fastnn; print(time.process_time() - t)"
    run_python(code)  # writes the .pyc files
    seconds = [float(run_python(code)) for _ in range(5)]
    assert statistics.median(seconds) <= 0.2, seconds


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as a wheel lays it out: only there do folders and import paths agree, as linters need."""
    house = tmp_path_factory.mktemp("house")
    no_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "fastnn", house / "fastnn", ignore=no_caches)
    shutil.copytree(ROOT / "kernels", house / "fastnn" / "kernels", ignore=no_caches, dirs_exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", house)
    return house


def lint_imports(house: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=house, capture_output=True, text=True, check=False)


def test_imports_run_one_way(house: Path) -> None:
    """The contracts are in pyproject.toml under [tool.importlinter]."""
    verdict = lint_imports(house)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize(
    ("file", "statement", "broken"),
    [
        (
            "fastnn/kernels/reference/linear.py",
            "import fastnn.layers",
            "fastnn.kernels is not allowed to import fastnn.layers",
        ),
        (
            "fastnn/kernels/cpu/linear.py",
            "from fastnn import backend",
            "fastnn.kernels is not allowed to import fastnn.backend",
        ),
        (
            "fastnn/kernels/reference/conv.py",
            "import fastnn.kernels.cpu.conv",
            "fastnn.kernels.reference is not allowed",
        ),
        (
            "fastnn/functional.py",
            "from fastnn.layers import base",
            "fastnn.functional is not allowed to import fastnn.layers",
        ),
    ],
)
def test_one_way_rule_sees_an_import_against_it(
    house: Path, tmp_path: Path, file: str, statement: str, broken: str
) -> None:
    wrong = tmp_path / "house"
    shutil.copytree(house, wrong)
    with open(wrong / file, "a") as source:
        source.write(f"\n{statement}\n")
    verdict = lint_imports(wrong)
    assert verdict.returncode != 0
    assert broken in verdict.stdout
