"""Downloading, from a server on this machine's loopback: checksums, mirrors in turn, nothing half-written."""

import gzip
import hashlib
import io
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from fastnn import data
from fastnn.data import download
from tests.files import disk  # noqa: F401 (a fixture)

pytest.importorskip("pooch")
NAMES = list(download._MNIST)
BATCHES = {name: f"content of {name}".encode() for name in download._CIFAR}


def md5(content):
    return hashlib.md5(content).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder, what it is served as, and MNIST's checksums as those of small files."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    for mirror in ("empty", "wrong", "right"):
        (folder / mirror).mkdir(parents=True)
    table = {}
    for name in NAMES:
        content = gzip.compress(name.encode())
        table[name] = md5(content)
        (folder / "right" / name).write_bytes(content)
        (folder / "wrong" / name).write_bytes(content[:-1])
    monkeypatch.setattr(download, "_MNIST", table)
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{http.server_port}/"
    http.shutdown()
    http.server_close()


def use_mirrors(monkeypatch, url, *names):
    mirrors = tuple(f"{url}{name}/" for name in names)
    monkeypatch.setattr(download, "_MNIST_MIRRORS", mirrors)
    monkeypatch.setattr(download, "_CIFAR_MIRRORS", mirrors)


def everything_under(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_mirrors_are_tried_in_turn(tmp_path, server, monkeypatch, capfd):
    folder, url = server
    use_mirrors(monkeypatch, url, "empty", "wrong", "right")
    root = tmp_path / "root"
    assert data.get("mnist", root, progress=False) == root / "MNIST" / "raw"
    assert everything_under(root) == sorted(f"MNIST/raw/{name}" for name in NAMES)
    for name in NAMES:
        assert (root / "MNIST" / "raw" / name).read_bytes() == (folder / "right" / name).read_bytes()
    assert capfd.readouterr() == ("", "")


def test_what_is_there_is_not_fetched_again_and_what_is_damaged_is(tmp_path, server, monkeypatch):
    folder, url = server
    use_mirrors(monkeypatch, url, "right")
    raw = data.get("mnist", tmp_path / "root", progress=False)
    (folder / "right" / NAMES[0]).unlink()  # would now be a 404
    (raw / NAMES[1]).write_bytes(b"damaged")
    data.get("mnist", tmp_path / "root", progress=False)
    assert (raw / NAMES[1]).read_bytes() == (folder / "right" / NAMES[1]).read_bytes()


def test_wrong_checksums_everywhere_are_one_error_and_leave_what_was_there(tmp_path, server, monkeypatch):
    _, url = server
    use_mirrors(monkeypatch, url, "wrong", "empty")
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / NAMES[0]).write_bytes(b"mine")
    with pytest.raises(data.DataError) as caught:
        data.get("mnist", tmp_path / "root", progress=False)
    message = str(caught.value)
    assert f"{url}wrong/{NAMES[0]}: what came is not the file with MD5" in message
    assert f"{url}empty/{NAMES[0]}: 404" in message
    assert everything_under(tmp_path / "root") == [f"MNIST/raw/{NAMES[0]}"]
    assert (raw / NAMES[0]).read_bytes() == b"mine"


def test_no_server_at_all_is_one_error(tmp_path, server, monkeypatch):
    use_mirrors(monkeypatch, "http://127.0.0.1:1/", "a", "b")  # nobody listens on port 1
    for name in ("mnist", "cifar10"):
        with pytest.raises(data.DataError, match=r"127\.0\.0\.1.*/a/.*/b/"):
            data.get(name, tmp_path / "root", progress=False)
    assert everything_under(tmp_path / "root") == []


def test_a_root_that_cannot_be_written_is_one_error(tmp_path, server, monkeypatch):
    _, url = server
    use_mirrors(monkeypatch, url, "right")
    (tmp_path / "root").write_text("a file")
    for name in ("mnist", "cifar2"):
        with pytest.raises(data.DataError, match="could not be stored"):
            data.get(name, tmp_path / "root", progress=False)


class Hasty(Quiet):
    """Hangs up in the middle of every file, of which it has told the length."""

    def copyfile(self, source, output):
        content = source.read()
        output.write(content[: len(content) // 2])
        output.flush()
        self.close_connection = True


def test_a_download_cut_short_is_one_error_and_leaves_what_was_there(tmp_path, server, monkeypatch):
    folder, _ = server
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hasty, directory=folder))
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    try:
        use_mirrors(monkeypatch, f"http://127.0.0.1:{http.server_port}/", "right")
        (folder / "right" / "cifar-10-python.tar.gz").write_bytes(bytes(100_000))
        for name, file in (("mnist", NAMES[0]), ("cifar10", "cifar-10-python.tar.gz")):
            root = tmp_path / name
            with pytest.raises(
                data.DataError, match=f"{file} could not be downloaded.*/right/{file}: .*ncomplete"
            ):
                data.get(name, root, progress=False)
            assert everything_under(root) == []
    finally:
        http.shutdown()
        http.server_close()


def test_a_full_disk_is_one_error_and_leaves_what_was_there(server, monkeypatch, disk):  # noqa: F811
    folder, url = server
    use_mirrors(monkeypatch, url, "right")
    large = np.random.default_rng(0).bytes(100_000)
    (folder / "right" / NAMES[1]).write_bytes(large)
    monkeypatch.setitem(download._MNIST, NAMES[1], md5(large))
    root = disk.folder / "root"
    (root / "MNIST" / "raw").mkdir(parents=True)
    (root / "MNIST" / "raw" / NAMES[1]).write_bytes(b"mine")
    disk.fill(left=32768)
    with pytest.raises(data.DataError, match=f"mnist could not be stored in {root}: .*No space left"):
        data.get("mnist", root, progress=False)
    assert everything_under(root) == sorted(f"MNIST/raw/{name}" for name in NAMES[:2])
    assert (root / "MNIST" / "raw" / NAMES[1]).read_bytes() == b"mine"


@pytest.mark.parametrize(
    "left", [4096 * 3, 4096 * 32]
)  # no room for the archive; for that, but not for its files
def test_a_disk_too_small_for_an_archive_is_one_error_and_stays_clean(server, monkeypatch, disk, left):  # noqa: F811
    folder, url = server
    use_mirrors(monkeypatch, url, "right")
    large = entry("cifar-10-batches-py/data_batch_1", bytes(200_000))
    serve_archive(folder, monkeypatch, [large, entry("noise", np.random.default_rng(0).bytes(50_000))])
    root = disk.folder / "root"
    disk.fill(left)
    with pytest.raises(data.DataError, match=f"cifar10 could not be stored in {root}: .*No space left"):
        data.get("cifar10", root, progress=False)
    assert everything_under(root) == []


def test_a_read_only_disk_is_one_error(server, monkeypatch, disk):  # noqa: F811
    _, url = server
    use_mirrors(monkeypatch, url, "right")
    disk.make_read_only()
    for name in ("mnist", "cifar10"):
        with pytest.raises(data.DataError, match=f"{name} could not be stored in {disk.folder}.*Read-only"):
            data.get(name, disk.folder, progress=False)


def test_a_folder_in_the_place_of_a_file_is_one_error_that_names_it(tmp_path, server, monkeypatch):
    folder, url = server
    use_mirrors(monkeypatch, url, "right")
    serve_archive(folder, monkeypatch, GOOD)
    for name, file in (("mnist", f"MNIST/raw/{NAMES[2]}"), ("cifar10", "cifar-10-batches-py/data_batch_3")):
        (tmp_path / "root" / file).mkdir(parents=True)
        with pytest.raises(data.DataError, match=f"{name} could not be stored in .*{file}"):
            data.get(name, tmp_path / "root", progress=False)
        assert not list((tmp_path / "root").rglob("*tmp*"))
        assert not list((tmp_path / "root").glob(".fastnn-*"))


def serve_archive(folder, monkeypatch, members):
    """Put an archive of `members`, pairs of TarInfo and content, on the server, with its true checksum."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    (folder / "right" / "cifar-10-python.tar.gz").write_bytes(buffer.getvalue())
    monkeypatch.setattr(download, "_CIFAR_ARCHIVE", ("cifar-10-python.tar.gz", md5(buffer.getvalue())))
    monkeypatch.setattr(download, "_CIFAR", {name: md5(content) for name, content in BATCHES.items()})


def entry(name, content, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o777
    return info, content


GOOD = [entry(f"cifar-10-batches-py/{name}", content) for name, content in BATCHES.items()]


def test_an_archive_is_unpacked_without_anything_it_smuggles(tmp_path, server, monkeypatch):
    folder, url = server
    use_mirrors(monkeypatch, url, "empty", "right")
    outside = tmp_path / "outside"
    evil = [
        entry("../outside", b"evil"),
        entry(str(outside), b"evil"),
        entry("cifar-10-batches-py/../../outside", b"evil"),
        entry("cifar-10-batches-py/link", b"", tarfile.SYMTYPE, str(outside)),
        entry("cifar-10-batches-py/link/x", b"evil"),
    ]
    serve_archive(folder, monkeypatch, evil + GOOD)
    root = tmp_path / "root"
    assert data.get("cifar2", root, progress=False) == root / "cifar-10-batches-py"
    assert everything_under(root) == sorted(f"cifar-10-batches-py/{name}" for name in BATCHES)
    for name, content in BATCHES.items():
        assert (root / "cifar-10-batches-py" / name).read_bytes() == content
    assert not outside.exists()
    (folder / "right" / "cifar-10-python.tar.gz").unlink()
    data.get("cifar10", root, progress=False)  # whole, so nothing is fetched


@pytest.mark.parametrize(
    "members",
    [
        GOOD[:-1],
        [*GOOD[:-1], entry("cifar-10-batches-py/test_batch", b"other")],
        [*GOOD[:-1], entry("cifar-10-batches-py/test_batch", b"", tarfile.SYMTYPE, "data_batch_1")],
        [],
    ],
)
def test_an_archive_without_a_right_file_leaves_nothing(tmp_path, server, monkeypatch, members):
    folder, url = server
    use_mirrors(monkeypatch, url, "right")
    serve_archive(folder, monkeypatch, members)
    with pytest.raises(data.DataError, match=r"no right .*test_batch in it"):
        data.get("cifar10", tmp_path / "root", progress=False)
    assert everything_under(tmp_path / "root") == []


def test_a_damaged_archive_is_one_error(tmp_path, server, monkeypatch):
    folder, url = server
    use_mirrors(monkeypatch, url, "right")
    serve_archive(folder, monkeypatch, [entry("x", np.random.default_rng(0).bytes(200_000))])
    archive = folder / "right" / "cifar-10-python.tar.gz"
    for content in (archive.read_bytes()[:50_000], b"<html>come back later</html>"):
        archive.write_bytes(content)
        monkeypatch.setattr(download, "_CIFAR_ARCHIVE", (archive.name, md5(content)))
        with pytest.raises(data.DataError, match="not a whole tar archive"):
            data.get("cifar10", tmp_path / "root", progress=False)


def test_only_sets_that_can_be_fetched_are(tmp_path):
    with pytest.raises(ValueError, match="nothing to download"):
        data.get("digits", tmp_path)
    with pytest.raises(ValueError, match="'mnist', 'cifar10', 'cifar2'"):
        data.get("imagenet", tmp_path)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST/raw"), ("cifar10", "cifar-10-batches-py")])
def test_the_real_files_have_the_checksums_expected(name, folder, monkeypatch, data_root):
    if not (data_root / folder).is_dir():
        pytest.skip(f"no {folder} under {data_root}")
    use_mirrors(monkeypatch, "http://127.0.0.1:1/", "none")  # so a mismatch would be an error
    assert data.get(name, data_root, progress=False) == data_root / folder
