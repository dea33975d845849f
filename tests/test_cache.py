"""The cache of compiled kernels: never out of date, never in the way.

Each test runs processes of its own on a copy of the package.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastnn
from fastnn.kernels.cpu import _jit, linear

CALL = """
import warnings
import numpy as np
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastnn.functional as F
    half = F.sigmoid(np.zeros(9))
about = [str(w.message) for w in caught if "cache is unusable" in str(w.message)]
print(f"{half[0]:.4f}", len(about), *about)
"""


@pytest.fixture(scope="module")
def house() -> Iterator[Path]:
    """The package as it is installed, in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        no_caches = shutil.ignore_patterns("__pycache__")
        package, rooms = Path(fastnn.__file__).parent, Path(linear.__file__).parents[1]
        shutil.copytree(package, folder / "fastnn", ignore=no_caches)
        shutil.copytree(rooms, folder / "fastnn" / "kernels", ignore=no_caches, dirs_exist_ok=True)
        yield folder


def start(
    house: Path, cache: Path | None, home: Path | None = None, **options: object
) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    env |= {"NUMBA_CACHE_DIR": str(cache)} if cache else {}
    env |= {"HOME": str(home)} if home else {}
    command = [sys.executable, "-B", "-c", CALL]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=house, env=env, stdout=pipe, stderr=pipe, text=True, **options)


def result(child: subprocess.Popen[str]) -> tuple[float, int, str]:
    """sigmoid(0), and the warnings about the cache: their number and text."""
    out, errors = child.communicate(timeout=400)
    assert child.returncode == 0, errors
    half, warnings, *words = out.split()
    return float(half), int(warnings), " ".join(words)


def machine_code(cache: Path) -> dict[Path, int]:
    """The files of a cache that hold a compiled kernel, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")}


def without_root_s_privilege() -> None:
    """Let the mode of a file hold for root too: CAP_DAC_OVERRIDE does not pass the next exec."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        drop, capability = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: <linux/prctl.h>, <linux/capability.h>
        assert libc.prctl(drop, capability, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())


@pytest.fixture(scope="module")
def filled(house: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that one process has filled."""
    cache = tmp_path_factory.mktemp("cache")
    assert result(start(house, cache)) == (0.5, 0, "")
    assert machine_code(cache)
    return cache


def test_second_process_loads_what_the_first_compiled(house: Path, filled: Path) -> None:
    written = machine_code(filled)
    assert result(start(house, filled)) == (0.5, 0, "")
    assert machine_code(filled) == written


def test_edited_helper_reaches_the_kernels_of_other_files_that_use_it(house: Path, filled: Path) -> None:
    helper = house / "fastnn" / "kernels" / "cpu" / "_math.py"
    source = helper.read_text()
    assert source.count("/ (_one8 + e)") == 1
    helper.write_text(source.replace("/ (_one8 + e)", "/ (_one8 + _one8 + e)"))
    try:
        assert result(start(house, filled))[0] == pytest.approx(1 / 3, abs=1e-4)
    finally:
        helper.write_text(source)


def test_damaged_entries_are_compiled_anew_with_one_warning(
    house: Path, filled: Path, tmp_path: Path
) -> None:
    cache = shutil.copytree(filled, tmp_path / "cache")
    for i, path in enumerate(machine_code(cache)):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if i % 2 else b"\x80garbage" + content[8:])
    assert result(start(house, cache))[:2] == (0.5, 1)


def test_processes_may_fill_a_cache_at_once(house: Path, tmp_path: Path) -> None:
    children = [start(house, tmp_path) for _ in range(3)]
    assert [result(child) for child in children] == [(0.5, 0, "")] * 3
    written = machine_code(tmp_path)
    assert result(start(house, tmp_path)) == (0.5, 0, "")
    assert machine_code(tmp_path) == written


@pytest.mark.parametrize("last", ["narrow", "wide"])
def test_of_two_that_save_at_once_neither_finds_the_others_code(last: str, tmp_path: Path) -> None:
    both_looked, first_saved = threading.Barrier(2), threading.Event()

    class Files(_jit._NamedFiles):
        def _load_index(self) -> Any:
            index = super()._load_index()
            both_looked.wait(10)
            return index

        def _save_data(self, name: str, data: str) -> None:
            if data == last:
                first_saved.wait(10)
            super()._save_data(name, data)

        def save(self, key: Any, data: str) -> None:
            super().save(key, data)
            first_saved.set()

    keys = {variant: ("signature", "cpu", ("room", variant)) for variant in ("narrow", "wide")}
    savers = [
        threading.Thread(target=Files(str(tmp_path), "kernel", 0).save, args=(key, variant))
        for variant, key in keys.items()
    ]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    found = {variant: _jit._NamedFiles(str(tmp_path), "kernel", 0).load(key) for variant, key in keys.items()}
    assert found[last] == last
    assert set(found.values()) <= {None, *keys}
    assert all(code in (None, variant) for variant, code in found.items())


def test_code_of_a_function_that_was_edited_is_not_left_lying_about(tmp_path: Path) -> None:
    for stamp in (1, 2):
        for variant in ("narrow", "wide"):
            _jit._NamedFiles(str(tmp_path), "kernel", stamp).save(("signature", variant), variant)
        assert len(list(tmp_path.glob("*.nbc"))) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="root is bound to the modes of files as Linux does it")
def test_read_only_installation_with_no_home_works_uncached_with_one_warning(house: Path) -> None:
    home = house / "home"
    home.mkdir()
    folders = [house, *(path for path in house.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        half, warnings, text = result(start(house, None, home, preexec_fn=without_root_s_privilege))
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert (half, warnings) == (0.5, 1)
    assert "set NUMBA_CACHE_DIR to a writable folder" in text
    assert not list(home.iterdir())
