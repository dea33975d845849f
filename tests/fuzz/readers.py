"""What is fuzzed: for each reader of files, valid files to begin with, and what may come of any file at all.

Beside a format as it lies on the disk, most have an entry whose input is a part of it (an array's member, the
JSON of a tree), around which the rest is made afresh: a checksum that no longer fits would hide the parser
behind it.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import data
from fastnn.training import CheckpointError, History, checkpoint
from tests.files import npz, safetensors
from tests.fuzz.watch import nothing_but_reading


@dataclass(frozen=True)
class Reader:
    """One thing that is fuzzed.

    Attributes
    ----------
    name : str
        Of the entry, and of the file: what follows the first dot is its suffix.
    read : callable
        Reads the file at a path and checks what it gets: an AssertionError is a finding.
    error : type
        The documented exception. Any other is a finding.
    seeds : list of bytes
        Inputs that make valid files.
    wrap : callable
        The file that an input makes.
    room : int
        Bytes of memory that reading may take for any file of a few KiB.
    """

    name: str
    read: Callable[[Path], None]
    error: type[Exception]
    seeds: list[bytes]
    wrap: Callable[[bytes], bytes] = bytes
    room: int = 2_000_000

    @property
    def file(self) -> str:
        return f"fuzzed.{self.name.partition('.')[2]}"

    def try_(self, content: bytes, folder: Path) -> bool:
        """Read a file of this input in `folder`, where nothing else is; whether it was a valid one.

        Raises
        ------
        AssertionError, or whatever reading raised that is not documented
            A finding.
        """
        path = folder / self.file
        path.write_bytes(self.wrap(content))
        refused = None
        try:
            with nothing_but_reading():
                self.read(path)
        except self.error as error:
            refused = error
        assert list(folder.iterdir()) == [path]
        if refused is not None:
            assert type(refused) is self.error, repr(refused)
            assert str(path) in str(refused), str(refused)
            assert len(str(refused)) < 3000
            assert not isinstance(refused.__cause__, MemoryError), repr(refused.__cause__)
        return refused is None


def _idx(path: Path) -> None:
    array = data.read_idx(path)
    assert array.dtype.isnative
    assert array.dtype.kind in "iuf"
    assert array.ndim >= 1


def _cifar(path: Path) -> None:
    images, labels = data.read_cifar_batch(path)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert images.shape == (len(labels), 3, 32, 32)
    assert set(labels.tolist()) <= set(range(10))


def _model() -> fastnn.Layer:
    with fastnn.use_backend("numpy"):
        return fastnn.Sequential(fastnn.Linear(2, 3), fastnn.BatchNorm1d(3))


def _weights(path: Path) -> None:
    model = _model()
    before = {name: array.tobytes() for name, array in model.state_dict().items()}
    try:
        model.load(path)
    except ValueError:
        assert before == {name: array.tobytes() for name, array in model.state_dict().items()}
        raise


def _checkpoint(path: Path) -> None:
    assert isinstance(checkpoint.load(path), dict | list | str | int | float | None)


def _history(path: Path) -> None:
    history = History.load(path)
    assert all(isinstance(loss, float) for loss in history.step_loss)
    assert all(isinstance(record, dict) for record in history.epochs)


def _saved(name: str, save: Callable[[Path], Any], folder: Path) -> bytes:
    save(folder / name)
    return (folder / name).read_bytes()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _idx_files() -> list[bytes]:
    head = b"\0\0"
    return [
        head + b"\x08\1\0\0\0\5\1\2\3\4\5",
        head + b"\x08\3\0\0\0\2\0\0\0\2\0\0\0\2" + bytes(8),
        head + b"\x0d\2\0\0\0\1\0\0\0\3" + bytes(12),
        head + b"\x0b\1\0\0\0\0",
    ]


def _cifar_files() -> list[bytes]:
    pixels = np.arange(3072, dtype=np.uint8)[None]
    batches = [
        {b"data": pixels, b"labels": [3], b"filenames": [b"a.png"]},
        {"data": np.asfortranarray(pixels.repeat(2, 0)), "labels": np.array([1, 2], ">i4")},
    ]
    files = [pickle.dumps(batch, protocol) for batch in batches for protocol in (2, 3, 4, 5)]
    return [*files, files[0].replace(b"_core", b"core")]


def readers(folder: Path) -> dict[str, Reader]:
    """All of them, by name; `folder` is for making their first files in."""
    model = _model()
    saved = _saved("w.npz", model.save, folder)
    tensors = _saved("w.safetensors", model.save, folder)
    header = tensors[8 : 8 + int.from_bytes(tensors[:8], "little")]
    state = {"a": np.arange(3.0), "b": [1, None, {"c": np.float32([[1, 2]])}], "text": "ü"}
    tree = json.dumps({"format": "fastnn checkpoint 1", "state": {"a": {"__array__": "a"}, "b": [1.5, "x"]}})
    text = _npy(np.array(tree))
    history = json.dumps(asdict(History([0.5, 0.25], [{"epoch": 1, "loss": 0.3}])))
    weight = [_npy(model.state_dict()["0.weight"]), _npy(np.zeros((2, 3), order="F")), _npy(np.array([None]))]
    others = [
        (f"{name}.npy", _npy(array)) for name, array in model.state_dict().items() if name != "0.weight"
    ]
    cifar = _cifar_files()
    entries = [
        Reader("raw.idx", _idx, data.DataError, _idx_files()),
        Reader("packed.gz", _idx, data.DataError, [gzip.compress(f) for f in _idx_files()], room=6_000_000),
        Reader("unpacked.gz", _idx, data.DataError, _idx_files(), gzip.compress),
        Reader("cifar", _cifar, data.DataError, cifar, room=3_000_000),
        Reader("cifar.bin", _cifar, data.DataError, [bytes([3]) + bytes(3072)]),
        Reader("weights.npz", _weights, ValueError, [saved]),
        Reader("weight.npz", _weights, ValueError, weight, lambda c: npz([("0.weight.npy", c), *others])),
        Reader("weights.safetensors", _weights, ValueError, [tensors]),
        Reader(
            "header.safetensors",
            _weights,
            ValueError,
            [header],
            lambda c: safetensors(c, tensors[8 + len(header) :]),
        ),
        Reader(
            "checkpoint.npz",
            _checkpoint,
            CheckpointError,
            [_saved("c.npz", lambda path: checkpoint.save(path, state), folder)],
        ),
        Reader(
            "tree.npz",
            _checkpoint,
            CheckpointError,
            [tree.encode()],
            lambda c: npz([("__array__.npy", _npy(np.array(c.decode("latin-1")))), ("a.npy", weight[0])]),
        ),
        Reader(
            "member.npz",
            _checkpoint,
            CheckpointError,
            weight,
            lambda c: npz([("__array__.npy", text), ("a.npy", c)]),
        ),
        Reader("history.json", _history, ValueError, [history.encode()]),
    ]
    for path in list(folder.iterdir()):
        path.unlink()
    return {entry.name: entry for entry in entries}
