"""Helpers of the tests that write hostile files."""

import contextlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def peak_of(call):
    """The most memory that `call` held at once, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@contextlib.contextmanager
def little_memory(extra):
    """While the block runs, this process gets no more than `extra` bytes more, for Python, C or Rust."""
    if sys.platform != "linux":
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def npy(shape=(1,), descr="'<f4'", content=None, *, order=False, version=1, header=None):
    """A ``.npy`` file, its header as `shape` (a text or a tuple), `descr` and `order` or `header` say."""
    if header is None:
        header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    text = header.encode("latin-1") + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + (bytes(4) if content is None else content)


def npz(members, compression=zipfile.ZIP_STORED):
    """A zip file of `members`, pairs of name and content."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore")  # zipfile's word on a name that is there twice
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def safetensors(header, content=b"", length=None):
    """A ``.safetensors`` file; `header` is its JSON, as text or as what the text is made of."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


class Disk:
    """A file system of its own, of a quarter of a megabyte."""

    def __init__(self, folder):
        self.folder = folder

    def fill(self, left):
        """Take up all but `left` bytes, in pages of 4 KiB."""
        with (self.folder / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        os.truncate(self.folder / "filling", (self.folder / "filling").stat().st_size - left)

    def make_read_only(self):
        subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)

    def files(self):
        """Whatever is on it, but for what takes up the room."""
        return sorted(path for path in self.folder.rglob("*") if path.name != "filling")


@pytest.fixture
def disk(tmp_path):
    """A :class:`Disk`, where this process may mount one: as root, on Linux."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() or not shutil.which("mount"):
        pytest.skip("needs root, on Linux, to mount a small disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted: {mounted.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
