"""Weights and checkpoints as attackers make them: one clear error each, no code run, no memory taken, nothing
written, nothing changed. (``test_data_files.py`` and ``test_data_cifar.py`` do the same to data sets.)
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn.optim import SGD
from fastnn.training import CheckpointError, History, Trainer, checkpoint
from tests.files import little_memory, npy, npz, peak_of, safetensors

BIAS = ("bias.npy", npy((1,), content=np.float32([7]).tobytes()))
TREE = {"format": "fastnn checkpoint 1", "state": {"weight": {"__array__": "weight"}, "steps": 3}}


def text_array(text: str) -> bytes:
    return npy("()", f"'<U{len(text)}'", text.encode("utf-32-le"))


JSON = ("__array__.npy", text_array(json.dumps(TREE)))


class Touch:
    """Makes a file when unpickled by an ordinary unpickler."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


def weights_from(path: Path) -> None:
    """Read weights for a layer, whose own must stay as they are when that fails."""
    with fastnn.use_backend("numpy"):
        layer = fastnn.Linear(1, 1)
        before = layer.state_dict()
        try:
            layer.load(path)
        except ValueError:
            for name, values in layer.state_dict().items():
                np.testing.assert_array_equal(values, before[name])
            raise


def assert_one_clear_error(read: Callable[[Path], object], path: Path, kind: type, reason: str) -> None:
    """`read` refuses the file for this reason, naming it, in one printable line, without taking memory."""
    folder = sorted(path.parent.iterdir())

    def refused() -> None:
        with little_memory(2**27), pytest.raises(kind, match=reason) as caught:
            read(path)
        message = str(caught.value)
        assert str(path) in message
        assert message.isprintable()
        assert len(message) < 2500

    refused()
    assert peak_of(refused) < 3_000_000
    assert sorted(path.parent.iterdir()) == folder


def crc_is_wrong(member: bytes) -> bytes:
    whole = npz([("weight.npy", member)])
    at = whole.index(member) + len(member) - 1
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


def patched(content: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """`content` with `value` so far behind the first `signature`."""
    at = content.index(signature) + offset
    return content[:at] + value + content[at + len(value) :]


DIRECTORY, END = b"PK\x01\x02", b"PK\x05\x06"
WEIGHT = [("weight.npy", npy((1, 1)))]
NESTED = "(" * 150 + ")" * 150
# What is wrong with the weight, or with the archive; and what the error then says.
MEMBERS: dict[str, tuple[bytes, str]] = {
    "terabytes": (npy((10**7, 10**7)), r"\(10000000, 10000000\)|promises 4000000*"),
    "an overflow": (npy((2**40, 2**40)), r"\(1099511627776, 10|promises 48357"),
    "none of very many": (npy((0, 2**62, 2**62), content=b""), r"\(0, 46|dimension|too (big|large)"),
    "a negative size": (npy("(-1, -1)"), "shape"),
    "a size that is none": (npy("(1, 'a')"), "shape"),
    "a size of many digits": (npy(f"({'9' * 900},)"), "shape|promises 3999"),
    "texts of no characters": (npy((10**12,), "'<U0'", b""), "shape|promises 0 bytes"),
    "objects": (npy((1, 1), "'|O'", pickle.dumps([Touch("touched")])), "dtype object|promises 8"),
    "records with objects": (npy((1, 1), "[('a', '|O')]"), "dtype .*O|promises 8"),
    "too little": (npy((1, 1), content=bytes(3)), "promises 4 bytes, 3 are there"),
    "too much": (npy((1, 1), content=bytes(5)), "promises 4 bytes, 5 are there"),
    "a call": (npy(header="__import__('os').system('touch touched')"), "malformed|not a dict"),
    "brackets": (npy(header=NESTED), "not a dict|parse|Error"),
    "signs": (npy(header="-" * 990 + "1"), "RecursionError|malformed|not a dict"),
    "no literal": (npy(header="{'descr': "), "parse|EOF"),
    "a long header": (npy(header=" " * 60_000), "is large"),
    "a header without end": (b"\x93NUMPY\x01\0\xff\xff{", "header"),
    "other keys": (npy(header="{'descr': '<f4', 'shape': (1, 1)}"), "keys"),
    "an unknown type": (npy((1, 1), "'<q9'"), "descr|dtype"),
    "a type that is a shape": (npy((1, 1), "('<f4', (1000000000, 4))"), "descr|dtype|itemsize|promises"),
    "version 2.0": (npy((1, 1), version=2), "version"),
    "version 9.0": (npy((1, 1), version=9), "version"),
    "no array": (b"hello", "magic"),
    "nothing": (b"", "magic"),
}
ARCHIVES: dict[str, tuple[bytes, str]] = {
    "a wrong checksum": (crc_is_wrong(npy((1, 1))), "CRC"),
    "a name twice": (npz(WEIGHT * 2), "two members weight"),
    "a name with and without its suffix": (npz([*WEIGHT, ("weight", b"")]), "two members weight"),
    "a bzip2 member": (npz(WEIGHT, zipfile.ZIP_BZIP2), "method 12"),
    "an lzma member": (npz(WEIGHT, zipfile.ZIP_LZMA), "method 14"),
    "an encrypted member": (patched(npz(WEIGHT), DIRECTORY, 8, b"\x01"), "encrypted|password"),
    "a length in the directory alone": (patched(npz(WEIGHT), DIRECTORY, 24, b"\0\0\0\x40"), "two lengths"),
    "lengths beyond the file's": (
        patched(npz(WEIGHT), DIRECTORY, 20, b"\0\0\0\x40" * 2),
        "members would take",
    ),
    "a directory beyond the file's end": (patched(npz(WEIGHT), END, 12, b"\xff\xff\xff\x7f"), "damaged"),
    "another name in front of the member": (npz(WEIGHT).replace(b"weight", b"wEight", 1), "differ"),
    "an archive cut short": (npz(WEIGHT)[:-5], "zip"),
    "a single array": (npy((10**13,)), "zip"),
    "a pickle": (pickle.dumps(Touch("touched")), "zip"),
    "no bytes at all": (b"", "zip"),
}
READERS = {"weights": (weights_from, ValueError), "checkpoint": (checkpoint.load, CheckpointError)}


@pytest.mark.parametrize(("content", "reason"), ARCHIVES.values(), ids=ARCHIVES)
@pytest.mark.parametrize("reader", READERS)
def test_a_hostile_archive_is_one_error(
    reader: str, content: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.npz"
    path.write_bytes(content)
    assert_one_clear_error(READERS[reader][0], path, READERS[reader][1], f"damaged .*({reason})|({reason})")


@pytest.mark.parametrize(("member", "reason"), MEMBERS.values(), ids=MEMBERS)
@pytest.mark.parametrize("reader", READERS)
def test_a_hostile_array_is_one_error(
    reader: str, member: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.npz"
    path.write_bytes(npz([("weight.npy", member), BIAS if reader == "weights" else JSON]))
    assert_one_clear_error(READERS[reader][0], path, READERS[reader][1], reason)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("member", [b" " * 30_000_000, npy(header=" ", version=2)[:8] + b"\x80\xc3\xc9\1"])
def test_a_zip_bomb_is_not_unpacked(reader: str, member: bytes, tmp_path: Path) -> None:
    member = member.ljust(30_000_000)
    path = tmp_path / "w.npz"
    name = "weight.npy" if reader == "weights" else "__array__.npy"
    path.write_bytes(npz([(name, member), BIAS], zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 200_000
    assert_one_clear_error(READERS[reader][0], path, READERS[reader][1], "magic|version|method 8")


@pytest.mark.parametrize("name", ["../../weight", "/tmp/weight", "C:\\weight", "a/../weight", "weight/"])
def test_a_path_for_a_name_is_only_an_unknown_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(npz([(f"{name}.npy", npy((1, 1))), BIAS]))
    assert_one_clear_error(weights_from, path, ValueError, "missing weight; unknown ")


def test_names_that_steer_a_terminal_or_are_very_many_stay_out_of_the_message(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(npz([(f"\x1b[2J\n{'long' * 100}{i}", b"") for i in range(300)]))
    assert_one_clear_error(weights_from, path, ValueError, "x1b.*longlong.*and 282 more")
    pytest.importorskip("safetensors")
    path = tmp_path / "w.safetensors"
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    path.write_bytes(safetensors({f"\x1b[2J\n{i}": empty for i in range(300)}))
    assert_one_clear_error(weights_from, path, ValueError, "x1b.*and 282 more")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_arrays_of_any_order_in_memory_and_of_bytes_are_read(
    order: str, dtype: str, compression: int, tmp_path: Path
) -> None:
    values = np.arange(12).reshape(3, 4)
    members = []
    for name, array in (("weight", values), ("bias", values[1])):
        buffer = io.BytesIO()
        np.save(buffer, np.array(array, dtype, order=order))
        members.append((f"{name}.npy", buffer.getvalue()))
    (tmp_path / "w.npz").write_bytes(npz(members, compression))
    with fastnn.use_backend("numpy"):
        layer = fastnn.Linear(3, 4)
        layer.load(tmp_path / "w.npz")
    np.testing.assert_array_equal(layer.weight.data, values)
    np.testing.assert_array_equal(layer.bias.data, values[1])


TREES = {
    "brackets": ("[" * 100_000, "Recursion"),
    "no JSON": ("{'a': 1}", "JSON"),
    "another format": (json.dumps({**TREE, "format": "x" * 10_000}), "format is 'xxx"),
    "no format": ("{}", "format"),
    "no object": ("3", "TypeError"),
    "an array that is not there": (json.dumps({**TREE, "state": {"__array__": "other"}}), "other"),
    "an array of an array": (json.dumps({**TREE, "state": {"__array__": [1]}}), "unhashable"),
    # Read a thousand times, the largest array of a file takes a thousand times its length.
    "an array twice": (json.dumps({**TREE, "state": [{"__array__": "weight"}] * 1000}), "KeyError: 'weight'"),
    "a number of many digits": (json.dumps(TREE)[:-1] + f', "n": {"9" * 5000}}}', "digits"),
}


@pytest.mark.parametrize(("tree", "reason"), TREES.values(), ids=TREES)
def test_a_checkpoint_whose_tree_is_none_is_one_error(tree: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    path.write_bytes(npz([("__array__.npy", text_array(tree)), *WEIGHT]))
    with pytest.raises(CheckpointError, match=reason) as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value)
    assert "delete it to begin again" in str(caught.value)


CHANGES = {
    "a negative epoch": ("position", "epoch", -1),
    "a step that is a text": ("position", "step", "3"),
    "a sum that is a list": ("position", "loss_sum", []),
    "a position that is none": ("position", "speed", 1),
    "losses that are no array": ("history", "step_loss", "none"),
    "a generator of another kind": ("streams", "generator", {"bit_generator": "MT19937"}),
    "a generator without a state": (
        "streams",
        "generator",
        {"bit_generator": "PCG64", "state": {"state": "a"}},
    ),
    "settings of another optimiser": ("optimizer", "groups", [{"state": {}, "settings": {}}]),
    "weights that are no arrays": ("model", "weight", 3),
}


@pytest.mark.parametrize(("part", "name", "value"), CHANGES.values(), ids=CHANGES)
def test_a_checkpoint_that_no_run_has_written_is_one_error(
    part: str, name: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "c.npz"
    with fastnn.use_backend("numpy"):
        layer = fastnn.Linear(2, 2)
        trainer = Trainer(
            layer, F.softmax_cross_entropy, SGD(layer.parameters(), 0.1), progress=False, checkpoint=path
        )
        x, y = np.ones((4, 2), np.float32), np.array([0, 1, 0, 1])
        trainer.fit(x, y, 1, 2)
        state = checkpoint.load(path)
        state[part][name] = value
        checkpoint.save(path, state)
        with pytest.raises(CheckpointError, match=r"c\.npz is (no training run's|of another model)"):
            trainer.fit(x, y, 2, 2, resume=True)


HISTORIES = ["", "[" * 100_000, "[]", "3", '{"step_loss": [1e999]}', '{"step_loss": [' + "9" * 400 + "]}"]
HISTORY = json.loads(json.dumps(vars(History())))
HISTORIES += [json.dumps({**HISTORY, "epochs": epochs}) for epochs in (3, [3], None, ["a"])]


@pytest.mark.parametrize("content", HISTORIES, ids=range(len(HISTORIES)))
def test_a_history_that_is_none_is_one_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"history\.json is not a training history"):
        History.load(path)


def tensor(shape: list[int], start: int, stop: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


BOTH = {"weight": tensor([1, 1], 0, 4), "bias": tensor([1], 4, 8)}
TENSORS: dict[str, bytes] = {
    "nothing": b"",
    "less than a length": b"\x08\0\0",
    "a length of 2^64 - 1": safetensors(BOTH, bytes(8), 2**64 - 1),
    "a length of 2^63": safetensors(BOTH, bytes(8), 2**63),
    "a length of 90 MB": safetensors(BOTH, bytes(8), 90_000_000),
    "a length of 0": safetensors(BOTH, bytes(8), 0),
    "no JSON": safetensors(b"\xff\xfe", bytes(8)),
    "a number that is none": safetensors(b'{"weight": NaN}'),
    "brackets": safetensors(b"[" * 100_000),
    "brackets in an entry": safetensors(b'{"__metadata__": ' + b'{"a":' * 100_000),
    "a list": safetensors([BOTH], bytes(8)),
    "an offset beyond the end": safetensors({**BOTH, "bias": tensor([1], 4, 12)}, bytes(8)),
    "an offset of 2^63": safetensors({**BOTH, "bias": tensor([1], 2**63, 2**63 + 4)}, bytes(8)),
    "an offset of 2^64": safetensors({**BOTH, "bias": tensor([1], 2**64, 2**64 + 4)}, bytes(8)),
    "a negative offset": safetensors({**BOTH, "bias": tensor([1], -4, 0)}, bytes(8)),
    "an end before its start": safetensors({**BOTH, "bias": tensor([1], 8, 4)}, bytes(8)),
    "arrays that overlap": safetensors({**BOTH, "bias": tensor([1], 2, 6)}, bytes(8)),
    "arrays in one place": safetensors({**BOTH, "bias": tensor([1], 0, 4)}, bytes(4)),
    "a hole": safetensors({**BOTH, "bias": tensor([1], 8, 12)}, bytes(12)),
    "bytes of no array": safetensors(BOTH, bytes(9)),
    "sizes whose product overflows": safetensors({**BOTH, "bias": tensor([2**33, 2**33], 4, 8)}, bytes(8)),
    "a size of 2^64": safetensors({**BOTH, "bias": tensor([2**64], 4, 8)}, bytes(8)),
    "a shape of other length": safetensors({**BOTH, "bias": tensor([2], 4, 8)}, bytes(8)),
    "an unknown type": safetensors({**BOTH, "bias": tensor([1], 4, 8, "F33")}, bytes(8)),
    "a type that is an object": safetensors({**BOTH, "bias": tensor([1], 4, 8, "|O")}, bytes(8)),
    "a name twice": safetensors(
        b'{"weight": ' + json.dumps(BOTH["weight"]).encode() + b", " + json.dumps(BOTH).encode()[1:], bytes(4)
    ),
    "an archive": npz([*WEIGHT, BIAS]),
    "a pickle": pickle.dumps(Touch("touched")),
}


@pytest.mark.parametrize("content", TENSORS.values(), ids=TENSORS)
def test_hostile_safetensors_are_one_error(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert_one_clear_error(weights_from, path, ValueError, "not a weights file, or is damaged")


@pytest.mark.parametrize("dtype", ["I32", "U32"])
def test_safetensors_of_another_type_do_not_fit(dtype: str, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors({**BOTH, "bias": tensor([1], 4, 8, dtype)}, bytes(8)))
    assert_one_clear_error(weights_from, path, ValueError, f"bias has dtype {dtype}, need float32 or float64")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_folder_where_a_file_belongs_is_an_error_that_names_it(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    path.mkdir()
    for read in (weights_from, checkpoint.load):
        with pytest.raises(IsADirectoryError if os.name == "posix" else PermissionError, match=path.name):
            read(path)


def test_the_weapons_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary reader runs what the files above hold: that they do nothing here is not for want of it."""
    monkeypatch.chdir(tmp_path)
    Path("w.npz").write_bytes(npz([("weight.npy", MEMBERS["objects"][0])]))
    np.load("w.npz", allow_pickle=True)["weight"]
    assert Path("touched").exists()
