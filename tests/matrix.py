"""The tests on the oldest and the newest Python, NumPy and Numba that are supported: ``make test-matrix``.

Each row gets a virtual environment of its own below ``out/matrix`` and the project as a wheel, so that
nothing of a checkout helps, and runs the tests against what is installed there. Left out are the tests that
need more than that: of the CUDA sources (compiled by wheels of one age), of ONNX (whose test data come with
its newest release), and of the packaging, the linters, the README and the mutants, which are about a
checkout.

Needs nothing but a Python. Others are looked for as ``python3.N`` on the PATH and among pyenv's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ["pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100", "scipy>=1.12", "safetensors>=0.4.3"]
ABOUT_A_CHECKOUT = ["test_packaging*", "test_imports*", "test_readme*", "test_mutants*"]
OTHERS = ["test_cuda_*", "test_onnx*", "test_gpu_*", "test_bench*", *ABOUT_A_CHECKOUT]


class Row(NamedTuple):
    python: str
    pins: tuple[str, ...]  # none: the newest that pip finds


ROWS = {
    "oldest": Row("3.11", ("numpy==1.26.0", "numba==0.61.0", "tqdm==4.60.0")),
    "middle": Row("3.12", ("numpy==2.1.3", "numba==0.61.2")),
    "newest": Row("3.13", ()),
}


def interpreter(version: str) -> str | None:
    """A Python of this version on this machine."""
    candidates = [shutil.which(f"python{version}"), sys.executable]
    candidates += map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), reverse=True))
    for path in filter(None, candidates):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return path
    return None


def run(name: str, row: Row, folder: Path, pytest_args: list[str]) -> str:
    """Install and test; what came of it, in one line."""
    base = interpreter(row.python)
    if base is None:
        return f"no Python {row.python} on this machine"
    shutil.rmtree(folder / name, ignore_errors=True)
    subprocess.run([base, "-m", "venv", folder / name], check=True)
    python = folder / name / "bin" / "python"
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    wheel = f"fastnn-kernels[cli,data,plot] @ {ROOT.as_uri()}"
    if subprocess.run([*pip, wheel, *TOOLS, *row.pins], check=False).returncode:
        return "could not be installed"
    tests = folder / name / "tests"  # away from the checkout: only the wheel can be imported
    tests.mkdir()
    for part in ("tests", "bench", "examples", "docs", "README.md", "conftest.py", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tests / part)
    said = "import numpy, numba, sys; print(sys.version.split()[0], numpy.__version__, numba.__version__)"
    versions = subprocess.run([python, "-c", said], cwd=tests, capture_output=True, text=True, check=True)
    ignored = [f"--ignore-glob=*/{pattern}" for pattern in OTHERS]
    data = os.environ.get("FASTNN_DATA") or str(ROOT.parent / "shared" / "data")
    env = {**os.environ, "FASTNN_DATA": data} if Path(data).is_dir() else dict(os.environ)
    command = [
        python,
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadfile",
        *ignored,
        *(pytest_args or ["tests"]),
    ]
    start = time.monotonic()
    done = subprocess.run(command, cwd=tests, env=env, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout[-6000:] if done.returncode else "", end="")
    last = done.stdout.strip().splitlines()[-1]
    return f"Python, NumPy, Numba {versions.stdout.strip()}: {last} ({time.monotonic() - start:.0f} s)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", choices=ROWS, action="append", help="default: all")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "matrix")
    arguments, pytest_args = parser.parse_known_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in arguments.row or ROWS:
        results[name] = run(name, ROWS[name], arguments.folder.resolve(), pytest_args)
        print(f"{name}: {results[name]}", flush=True)
    return 0 if all(" passed" in line and " failed" not in line for line in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
