"""Weights files: what is written comes back, and a hostile file is one clear error that changes nothing."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastnn
from fastnn import layers as ly
from tests import cases
from tests.backends import on_backend  # noqa: F401

FORMATS = [".npz", ".safetensors"]


def network(dtype: Any = np.float32, hidden: int = 6) -> ly.Sequential:
    return ly.Sequential(
        *(ly.Conv2d(2, 3, 3, dtype=dtype), ly.BatchNorm2d(3, dtype=dtype), ly.ReLU(), ly.Flatten()),
        *(ly.Linear(12, hidden, dtype=dtype), ly.Tanh(), ly.Linear(hidden, 2, dtype=dtype)),
    )


def trained() -> ly.Sequential:
    net = network()
    out = net.forward(cases.draw((5, 2, 4, 4)), training=True)
    net.backward(np.ones_like(out))
    net.step(0.1)
    return net


def assert_same_state(a: ly.Layer, b: ly.Layer) -> None:
    theirs = b.state_dict()
    assert list(a.state_dict()) == list(theirs)
    for name, values in a.state_dict().items():
        np.testing.assert_array_equal(values, theirs[name], name)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_saved_model_comes_back_to_the_bit(backend: str, tmp_path: Path, suffix: str) -> None:
    net, path = trained(), tmp_path / f"w{suffix}"
    net.save(path)
    other = network()
    arrays = [p.data for p in other.parameters()]
    other.load(str(path))
    assert_same_state(net, other)
    assert all(p.data is array for p, array in zip(other.parameters(), arrays, strict=True))
    x = cases.draw((3, 2, 4, 4))
    np.testing.assert_array_equal(net(x), other(x))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # nothing temporary is left


def test_files_are_plain_arrays_by_parameter_name_for_any_reader(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    with fastnn.use_backend("numpy"):
        net = trained()
        net.save(tmp_path / "w.npz")
        net.save(tmp_path / "w.safetensors")
    with np.load(tmp_path / "w.npz", allow_pickle=False) as archive:
        npz = dict(archive)
    assert {p.name for p in net.parameters()} <= npz.keys()
    assert {"1.running_mean", "1.running_var"} <= npz.keys()
    for arrays in (npz, safetensors.load_file(tmp_path / "w.safetensors")):
        assert arrays.keys() == net.state_dict().keys()
        for name, values in net.state_dict().items():
            np.testing.assert_array_equal(arrays[name], values)


def test_float64_weights_round_into_a_float32_model_and_back(tmp_path: Path) -> None:
    with fastnn.use_backend("numpy"):
        net, wide = trained(), network(np.float64)
        wide.load_state_dict(net.state_dict())
        wide.save(tmp_path / "w.npz")
        other = network()
        other.load(tmp_path / "w.npz")
    assert wide[0].weight.data.dtype == np.float64
    assert_same_state(net, other)


def test_state_dict_is_a_snapshot() -> None:
    with fastnn.use_backend("numpy"):
        net = trained()
        before = net.state_dict()
        kept = {name: values.copy() for name, values in before.items()}
        for parameter in net.parameters():
            parameter.data[...] = 0
        for name, values in before.items():
            np.testing.assert_array_equal(values, kept[name])
        net.load_state_dict(before)
        before["0.weight"][...] = 7
    assert (net[0].weight.data != 7).all()


def test_a_state_that_does_not_fit_is_one_error_naming_all_faults_and_changes_nothing() -> None:
    with fastnn.use_backend("numpy"):
        net = network()
        before, state = net.state_dict(), network(hidden=7).state_dict()
    del state["0.bias"]
    state["extra"] = np.zeros(1)
    state["1.weight"] = np.zeros(3, int)
    with pytest.raises(ValueError) as caught:
        net.load_state_dict(state)
    message = str(caught.value)
    for fault in (
        "missing 0.bias",
        "unknown extra",
        "4.weight has shape (12, 7), need (12, 6)",
        "1.weight has dtype int64",
    ):
        assert fault in message
    for name, values in net.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_another_model_is_one_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    with fastnn.use_backend("numpy"):
        network(hidden=7).save(path)
        net = network()
        before = net.state_dict()
        with pytest.raises(ValueError, match=r"w\.\w+ does not fit the model: .*\(12, 7\), need \(12, 6\)"):
            net.load(path)
    for name, values in net.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileNotFoundError):
        ly.ReLU().load(tmp_path / f"w{suffix}")


@pytest.mark.parametrize("name", ["w", "w.pkl", "w.npy", "npz"])
def test_an_unknown_suffix_is_refused_by_both(tmp_path: Path, name: str) -> None:
    for method in (ly.ReLU().save, ly.ReLU().load):
        with pytest.raises(ValueError, match=r"\.npz or \.safetensors"):
            method(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_without_the_safetensors_package_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for method in (ly.ReLU().save, ly.ReLU().load):
        with pytest.raises(ImportError, match="pip install safetensors"):
            method(tmp_path / "w.safetensors")


class Exploit:
    ran = False

    def __reduce__(self) -> Any:
        return setattr, (Exploit, "ran", True)


def test_object_arrays_are_refused_unread(tmp_path: Path) -> None:
    with fastnn.use_backend("numpy"):
        net = ly.Linear(1, 1)
    path = tmp_path / "w.npz"
    np.savez(path, weight=np.array([[Exploit()]], dtype=object), bias=np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="weight has dtype object"):
        net.load(path)
    path.write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(ValueError, match="not a weights file"):
        net.load(path)
    assert not Exploit.ran


def header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_a_header_that_promises_terabytes_is_refused_before_it_is_believed(tmp_path: Path) -> None:
    with fastnn.use_backend("numpy"):
        net = ly.Linear(1, 1)
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weight.npy", header((10**7, 10**7)))
        archive.writestr("bias.npy", header((1,)) + bytes(4))
    with pytest.raises(ValueError, match=r"\(10000000, 10000000\), need \(1, 1\)"):
        net.load(path)
    path = tmp_path / "w.safetensors"
    promise = json.dumps(
        {"weight": {"dtype": "F32", "shape": [10**7, 10**7], "data_offsets": [0, 4 * 10**14]}}
    )
    path.write_bytes(len(promise).to_bytes(8, "little") + promise.encode())
    with pytest.raises(ValueError, match="not a weights file"):
        net.load(path)


def test_data_shorter_or_longer_than_the_header_says_is_refused(tmp_path: Path) -> None:
    with fastnn.use_backend("numpy"):
        net = ly.Linear(1, 1)
    for length in (0, 3, 5):
        path = tmp_path / "w.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weight.npy", header((1, 1)) + bytes(length))
            archive.writestr("bias.npy", header((1,)) + bytes(4))
        with pytest.raises(ValueError, match="not a weights file, or is damaged"):
            net.load(path)


@pytest.fixture(scope="module", params=FORMATS)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bytes, ly.Layer]:
    path = tmp_path_factory.mktemp("hostile") / f"w{request.param}"
    with fastnn.use_backend("numpy"):
        net = ly.Linear(2, 3)
        net.save(path)
    return path, path.read_bytes(), net


@given(data=st.data())
def test_a_truncated_or_altered_file_loads_right_or_is_a_value_error(
    saved: tuple[Path, bytes, ly.Layer], data: st.DataObject
) -> None:
    path, content, net = saved
    altered = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if altered:
            altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(altered)
    shapes = [p.data.shape for p in net.parameters()]
    message = None
    try:
        net.load(path)
    except ValueError as error:
        message = str(error)
    assert message is None or str(path) in message
    assert [p.data.shape for p in net.parameters()] == shapes


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_save_that_fails_leaves_the_old_file(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"w{suffix}"
    with fastnn.use_backend("numpy"):
        ly.Linear(2, 3).save(path)
        before = path.read_bytes()

        def full(descriptor: int) -> None:
            raise OSError("no space left")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="no space"):
            ly.Linear(4, 5).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
