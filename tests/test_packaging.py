"""The three ways fastnn is used — a wheel, an editable install, a bare checkout — all hold all of kernels/.

Everything is built offline, with the build tools of this environment, and from a copy, since setuptools takes
stale files in build/ along.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    f"fastnn.kernels.{path.parent.name}.{path.stem}"
    for room in ("reference", "cpu")
    for path in (ROOT / "kernels" / room).glob("[a-z]*.py")
)
IMPORT_ALL = (
    f"import importlib, fastnn; [importlib.import_module(m) for m in {MODULES}]; print(fastnn.__file__)"
)


def make_venv(folder: Path) -> Path:
    """A fresh environment's interpreter; dependencies come, last in line, from the tests' own environment."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    Path(site, "borrowed.pth").write_text(str(Path(np.__file__).parents[1]) + "\n")
    return python


def run(command: list[object], cwd: Path) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FASTNN"))}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def pip(python: Path, *arguments: object, cwd: Path) -> None:
    run(
        [sys.executable, "-m", "pip", "--python", python, *arguments, "--quiet", "--no-deps", "--no-index"],
        cwd,
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("fastnn", "kernels"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip(Path(sys.executable), "wheel", "--no-build-isolation", "--wheel-dir", folder, checkout, cwd=folder)
    return next(folder.glob("*.whl"))


def test_wheel_holds_every_source_file_under_fastnn_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = [path for suffix in ("*.py", "*.cu", "*.cuh") for path in ROOT.glob(f"fastnn/**/{suffix}")]
    kernels = [path for suffix in ("*.py", "*.cu", "*.cuh") for path in ROOT.glob(f"kernels/**/{suffix}")]
    expected = {path.relative_to(ROOT).as_posix() for path in sources}
    expected |= {"fastnn/" + path.relative_to(ROOT).as_posix() for path in kernels}
    assert names == expected


def test_wheel_imports_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    python = make_venv(tmp_path / "venv")
    pip(python, "install", wheel, cwd=tmp_path)
    assert Path(run([python, "-I", "-c", IMPORT_ALL], tmp_path)).is_relative_to(tmp_path / "venv")


def test_editable_install_imports_from_the_checkout(checkout: Path, tmp_path: Path) -> None:
    python = make_venv(tmp_path / "venv")
    pip(python, "install", "--no-build-isolation", "--editable", checkout, cwd=tmp_path)
    assert Path(run([python, "-I", "-c", IMPORT_ALL], tmp_path)).is_relative_to(checkout)


def test_bare_checkout_imports_without_install(checkout: Path, tmp_path: Path) -> None:
    python = make_venv(tmp_path / "venv")
    assert Path(run([python, "-c", IMPORT_ALL], checkout)).is_relative_to(checkout)
