"""Writing that fails, on a full disk, in a read-only folder, over a folder, or killed at any line: one error
that names the file, nothing half-written, what was there before intact.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import plots
from fastnn.layers import atomic
from fastnn.training import History, checkpoint
from tests.files import Disk, disk  # noqa: F401 (a fixture)

posix = pytest.mark.skipif(os.name != "posix", reason="limits, mounts and SIGKILL are POSIX's")


def save_weights(path: Path, size: int) -> None:
    with fastnn.use_backend("numpy"):
        fastnn.Linear(size, size).save(path)


def save_history(path: Path, size: int) -> None:
    History(step_loss=[0.1] * size**2).save(path)


def save_checkpoint(path: Path, size: int) -> None:
    checkpoint.save(path, {"model": [np.ones((size, size), np.float32)], "step": size})


def save_picture(path: Path, size: int) -> None:
    values = np.random.default_rng(0).random((size**2, 4))
    plots.weight_images(values, (size, size), path)


# Of size 2 all of them take less than 60 KB, of size 200 more than 100 KB.
WRITERS: dict[str, Callable[[Path, int], None]] = {
    "weights.npz": save_weights,
    "weights.safetensors": save_weights,
    "checkpoint.npz": save_checkpoint,
    "history.json": save_history,
    "picture.png": save_picture,
}


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest) -> tuple[str, Callable[[Path, int], None]]:
    if request.param.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    return request.param, WRITERS[request.param]


def assert_one_clear_error(error: OSError, path: Path, number: int) -> None:
    assert error.errno == number
    assert error.filename == str(path)
    assert os.strerror(number) in error.strerror
    assert "what was there, if anything, is unchanged" in error.strerror


@pytest.mark.parametrize("before", [True, False])
def test_a_full_disk(writer: tuple[str, Callable[[Path, int], None]], disk: Disk, before: bool) -> None:  # noqa: F811
    name, write = writer
    path = disk.folder / name
    if before:
        write(path, 2)
    content = path.read_bytes() if before else None
    disk.fill(left=16384)
    with pytest.raises(OSError) as caught:
        write(path, 200)
    assert_one_clear_error(caught.value, path, errno.ENOSPC)
    assert disk.files() == ([path] if before else [])
    assert content is None or path.read_bytes() == content
    (disk.folder / "filling").unlink()
    write(path, 200)  # with room again, all is well


@posix
def test_a_file_larger_than_files_may_be(
    writer: tuple[str, Callable[[Path, int], None]], tmp_path: Path
) -> None:
    name, write = writer
    path = tmp_path / name
    write(path, 2)
    content = path.read_bytes()
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (61440, limits[1]))
    try:
        with pytest.raises(OSError) as caught:
            write(path, 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_one_clear_error(caught.value, path, errno.EFBIG)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_may_not_be_written(writer: tuple[str, Callable[[Path, int], None]], disk: Disk) -> None:  # noqa: F811
    name, write = writer
    path = disk.folder / name
    write(path, 2)
    content = path.read_bytes()
    disk.make_read_only()
    with pytest.raises(OSError) as caught:
        write(path, 3)
    assert_one_clear_error(caught.value, path, errno.EROFS)
    assert path.read_bytes() == content
    assert disk.files() == [path]


@posix
def test_a_folder_that_may_not_be_written(writer: tuple[str, Callable[[Path, int], None]]) -> None:
    name, write = writer
    with tempfile.TemporaryDirectory() as folder:  # not below tmp_path, where only its owner may look
        path = Path(folder, name)
        write(path, 2)
        content = path.read_bytes()
        os.chmod(folder, 0o555)
        user = os.geteuid()
        if user == 0:  # who may write anywhere
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError) as caught:
                write(path, 3)
        finally:
            os.seteuid(user)
            os.chmod(folder, 0o755)
        assert_one_clear_error(caught.value, path, errno.EACCES)
        assert path.read_bytes() == content
        assert os.listdir(folder) == [name]


def test_a_folder_in_the_place_of_the_file(
    writer: tuple[str, Callable[[Path, int], None]], tmp_path: Path
) -> None:
    name, write = writer
    path = tmp_path / name
    path.mkdir()
    (path / "mine").touch()
    with pytest.raises(OSError) as caught:
        write(path, 2)
    assert caught.value.filename == str(path)
    assert [file.relative_to(tmp_path) for file in tmp_path.rglob("*")] == [Path(name), Path(name, "mine")]


@pytest.mark.parametrize("name", ["weights.npz", "picture.png"])
def test_no_folder_for_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "none" / name
    with pytest.raises(FileNotFoundError) as caught:
        WRITERS[name](path, 2)
    assert_one_clear_error(caught.value, path, errno.ENOENT)
    assert not path.parent.exists()


@pytest.mark.parametrize("left", [8192, 240_000])
def test_training_on_a_full_disk_is_one_line_on_stderr(disk: Disk, data_root: Path, left: int) -> None:  # noqa: F811
    """Be it the first checkpoint there is no room for, or the results at the end."""
    testing = pytest.importorskip("typer.testing")
    from fastnn.cli.app import app

    disk.fill(left)
    words = ["train", "mnist-mlp", "--variant", "tuned-2000", "--epochs", "1", "--hidden", "40"]
    with fastnn.use_backend("numpy"):
        result = testing.CliRunner().invoke(
            app, [*words, "--data", str(data_root), "--out", str(disk.folder)]
        )
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert f"error: {disk.folder}/" in line
    assert "cannot be written (No space left on device)" in line
    for path in disk.files():
        assert path.name == "checkpoint.npz"
        checkpoint.load(path)
    assert len(disk.files()) == (left == 240_000)


def killed_at_line(number: int, write: Callable[[], None]) -> bool:
    """Call `write` in a forked process that is killed when it comes to that line of ``atomic.py``."""
    process = os.fork()
    if process == 0:
        lines = itertools.count()

        def trace(frame: object, event: str, argument: object) -> object:
            if frame.f_code.co_filename != atomic.__file__:  # type: ignore[attr-defined]
                return None
            if event == "line" and next(lines) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)  # type: ignore[arg-type]
        write()
        os._exit(0)
    return os.waitpid(process, 0)[1] == signal.SIGKILL


@posix
def test_a_save_killed_at_any_line_leaves_the_old_file_or_the_new_and_the_next_one_clears_up(
    tmp_path: Path,
) -> None:
    path = tmp_path / "c.npz"
    checkpoint.save(path, {"x": np.full(1000, 0.0)})
    found = []
    for number in itertools.count():
        new = {"x": np.full(1000, number + 1.0)}
        if not killed_at_line(number, lambda new=new: checkpoint.save(path, new)):  # type: ignore[misc]
            break
        values = checkpoint.load(path)["x"]
        assert set(values) <= {0.0, number + 1.0}
        found.append(values[0] > 0)
        assert len(list(tmp_path.iterdir())) <= 2
        checkpoint.save(path, {"x": np.full(1000, 0.0)})
        assert list(tmp_path.iterdir()) == [path]
    assert len(found) > 20
    assert not found[0]  # the first line is before the renaming, the last one behind it
    assert found[-1]
    assert found == sorted(found)


@posix
def test_a_temporary_file_that_is_being_written_is_left_to_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "file"
    others = [
        tmp_path / name
        for name in (".file.0123456.tmp", ".file.01234567.tmp.x", ".other.01234567.tmp", "file.tmp")
    ]
    for other in others:
        other.touch()
    abandoned = tmp_path / ".file.01234567.tmp"
    abandoned.touch()

    def write(file: object) -> None:
        atomic.write_atomically(path, lambda inner: inner.write(b"inner"))
        assert path.read_bytes() == b"inner"
        assert len(list(tmp_path.glob(".file.????????.tmp"))) == 1  # the outer one's
        file.write(b"outer")  # type: ignore[attr-defined]

    atomic.write_atomically(path, write)
    assert path.read_bytes() == b"outer"
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


@posix
def test_a_new_temporary_file_taken_for_an_abandoned_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its creation and its lock, another process may take a file for one that nobody holds."""
    made = []
    lock = atomic.fcntl.flock

    def slow(file: object, operation: int) -> None:
        if not isinstance(file, int):
            made.append(file.name)  # type: ignore[attr-defined]
            if len(made) == 1:
                atomic._remove_abandoned(tmp_path / "file")
                assert not Path(made[0]).exists()
        lock(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(atomic.fcntl, "flock", slow)
    atomic.write_atomically(tmp_path / "file", lambda file: file.write(b"content"))
    assert len(made) == 2
    assert (tmp_path / "file").read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
