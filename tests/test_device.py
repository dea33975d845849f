"""What a user is told where there is no GPU to work on, or not enough of it: each case, pretended."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.kernels.cuda import _launch, device
from tests import pretended

pytestmark = pytest.mark.skipif(pretended.WHY_NOT is not None, reason=str(pretended.WHY_NOT))


@pytest.fixture
def cupy(built: Path) -> Iterator[Any]:
    """What stands for CuPy, on a machine with all it needs."""
    with pretended.pretended(built):
        yield sys.modules["cupy"]


class CUDAError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"cudaError {status}")
        self.status = status


def fail(error: Exception) -> Any:
    def function(*_: Any, **__: Any) -> Any:
        raise error

    return function


def out_of_memory(size: int) -> Exception:
    """As CuPy raises it."""
    return pretended.real.cuda.memory.OutOfMemoryError(size, 512, 0)


def told(cupy: Any, **runtime: Any) -> str:
    """The reason why cupy cannot be switched to, with other functions of the runtime."""
    vars(cupy.cuda.runtime).update(CUDARuntimeError=CUDAError, **runtime)
    with pytest.raises(fastnn.BackendUnavailable) as caught:
        fastnn.set_backend("cupy")
    assert fastnn.available_backends()["cupy"] in str(caught.value)
    return str(caught.value)


def test_a_gpu_that_can_be_used_has_no_reason_against_it(cupy: Any) -> None:
    assert fastnn.available_backends()["cupy"] is None


def test_without_a_driver_one_is_to_be_installed(cupy: Any) -> None:
    text = told(cupy, getDeviceCount=fail(CUDAError(35)), driverGetVersion=lambda: 0)
    assert "no NVIDIA driver" in text


def test_a_driver_too_old_for_the_cupy_is_named_with_what_would_do(cupy: Any) -> None:
    no, old = {"getDeviceCount": fail(CUDAError(35))}, {"driverGetVersion": lambda: 12_040}
    text = told(cupy, **no, **old, runtimeGetVersion=lambda: 13_020)
    for part in ("CUDA 12.4", "CUDA 13.2", "580 or newer", "cupy-cuda12x"):
        assert part in text
    text = told(cupy, **no, driverGetVersion=lambda: 11_080, runtimeGetVersion=lambda: 12_090)
    assert "525 or newer" in text
    assert "cupy-cuda" not in text  # there is none for CUDA 11 that fastnn takes


@pytest.mark.parametrize("count", [lambda: 0, fail(CUDAError(100))], ids=["zero", "error"])
def test_without_a_device_the_variable_that_hides_them_is_named(cupy: Any, count: Any) -> None:
    assert "CUDA_VISIBLE_DEVICES" in told(cupy, getDeviceCount=count)


def test_any_other_error_of_the_runtime_is_passed_on(cupy: Any) -> None:
    assert "cudaError 999" in told(cupy, getDeviceCount=fail(CUDAError(999)))


def test_without_nvrtc_the_extras_that_bring_it_are_named(cupy: Any) -> None:
    cupy.cuda.nvrtc.getVersion = fail(RuntimeError("libnvrtc.so.13: cannot open"))
    text = told(cupy)
    for part in ("NVRTC", "libnvrtc.so.13", "[cuda13x]", "[cuda12x]"):
        assert part in text


def test_a_cupy_that_does_not_import_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    text = device.why_not()
    assert text is not None
    assert "does not import" in text


@pytest.mark.parametrize("name", ["empty", "asarray", "zeros_like"])
def test_out_of_memory_in_a_kernel_says_how_much_was_asked_for_and_is_there(cupy: Any, name: str) -> None:
    setattr(cupy, name, fail(out_of_memory(5 << 30)))
    with pytest.raises(device.OutOfMemory, match=r"5\.0 GiB were asked for, 3\.0 GiB are free of 4\.0 GiB"):
        getattr(device.Arrays(cupy), name)(1)


def test_data_too_large_for_the_gpu_are_a_memory_error_with_the_sizes(cupy: Any) -> None:
    cupy.asarray = fail(out_of_memory(300 << 20))
    with fastnn.use_backend("cupy"), pytest.raises(MemoryError, match=r"300\.0 MiB were asked for"):
        fastnn.functional.relu(np.ones(3, np.float32))


def test_a_kernel_that_nvrtc_refuses_is_named_with_the_gpu_and_the_compiler(cupy: Any) -> None:
    refusal = SimpleNamespace(compile=fail(RuntimeError("invalid value for --gpu-architecture")))
    cupy.RawModule = lambda code, options: refusal
    with pytest.raises(device.KernelsNotBuilt, match=r"NVRTC 13\.0 .* linear\.cu .* 9\.0, .*invalid value"):
        _launch.CuPy().compile("linear", "", ())
    refusal.compile = fail(out_of_memory(1 << 20))
    with pytest.raises(device.OutOfMemory, match=r"1\.0 MiB were asked for"):
        _launch.CuPy().compile("linear", "", ())


def test_images_keep_their_order_in_memory_on_their_way_to_the_gpu(cupy: Any) -> None:
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 4, 5, 3)
    for array in (x.transpose(0, 3, 1, 2), x, x.T, x[0], x[..., 0], x.reshape(-1), x[:, ::2], x[::-1]):
        moved = fastnn.backend._backends["cupy"].asarray(array)
        np.testing.assert_array_equal(moved.get(), array)
        assert np.argsort(moved.strides).tolist() == np.argsort(np.abs(array.strides)).tolist()
    assert fastnn.backend._backends["cupy"].asarray(moved) is moved


def test_info_shows_the_gpu(cupy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    typer_testing = pytest.importorskip("typer.testing")
    from fastnn.cli.app import app

    monkeypatch.setenv("CUPY_CACHE_DIR", "/some/where")
    monkeypatch.setattr(device, "driver_version", lambda: "580.1.2")
    monkeypatch.setenv("COLUMNS", "200")
    shown = typer_testing.CliRunner().invoke(app, ["info"]).stdout
    rows = {tuple(" ".join(line.split()).split("  ")) for line in shown.splitlines()}
    text = "\n".join(" ".join(row) for row in rows)
    for part in (
        *("gpu Pretended GPU", "gpu memory 4.0 GiB, 3.0 GiB free", "compute capability 9.0"),
        *("gpu driver CUDA 13.0, 580.1.2", "gpu kernel cache /some/where", "backend cupy available"),
    ):
        assert part in text


def test_info_shows_the_reason_where_there_is_no_gpu(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    typer_testing = pytest.importorskip("typer.testing")
    from fastnn.cli.app import app

    monkeypatch.setenv("COLUMNS", "200")
    vars(cupy.cuda.runtime).update(getDeviceCount=lambda: 0)
    shown = typer_testing.CliRunner().invoke(app, ["info"]).stdout
    assert "CUDA_VISIBLE_DEVICES" in shown
    assert "gpu memory" not in shown


def test_info_shows_a_gpu_where_numba_is_missing(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    typer_testing = pytest.importorskip("typer.testing")
    from fastnn.cli.app import app

    monkeypatch.setattr(fastnn.backend, "_default", None)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setenv("COLUMNS", "200")
    shown = typer_testing.CliRunner().invoke(app, ["info"]).stdout
    assert "Numba is not installed" in shown
    assert "Pretended GPU" in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n", "580.95.05"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104  Wed\nGCC version: 12.3.0\n", "535.104"),
    ],
)
def test_the_driver_s_own_number_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "version").write_text(text)
    monkeypatch.setattr(device, "Path", lambda _: tmp_path / "version")
    assert device.driver_version() == expected
