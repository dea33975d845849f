"""The sets by name: MNIST, CIFAR-10, two of its classes, and the digits that come with scikit-learn."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnn.data.cifar import CLASS_NAMES, read_cifar_batch
from fastnn.data.folders import DataError, DataNotFound, data_root, first_complete
from fastnn.data.idx import read_idx

_TWO_CLASSES = (0, 8)  # airplane, ship


@dataclass(frozen=True, eq=False)
class Dataset:
    """A set of images with their labels, in a part to train on and a part to test on.

    Attributes
    ----------
    name : str
    x_train, x_test : (N, C, H, W) ndarray of uint8
        Pixels, 0 ... 255 in every set; see :func:`fastnn.data.scale` and :func:`fastnn.data.standardize`.
    y_train, y_test : (N,) ndarray of int64
        Labels, indices of `class_names`.
    class_names : tuple of str
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def __repr__(self) -> str:
        c, h, w = self.x_train.shape[1:]
        return (
            f"<Dataset {self.name}: {len(self.x_train)} to train on, {len(self.x_test)} to test on, "
            f"{c} x {h} x {w}, {self.classes} classes>"
        )


def load(name: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Read a set from this machine's disk.

    Parameters
    ----------
    name : {"mnist", "cifar10", "cifar2", "digits"}
    root : str or path-like, optional
        The folder that holds the sets; see :func:`fastnn.data.data_root`.

    Returns
    -------
    Dataset

    Raises
    ------
    DataNotFound
        It is not there; the message says where it was looked for and how to get it.
    DataError
        A file of it is truncated or foreign; the message says which.
    ValueError
        There is no set of this name.
    """
    if name not in _LOADERS:
        raise ValueError(f"unknown set {name!r}: choose one of {', '.join(map(repr, _LOADERS))}")
    try:
        return _LOADERS[name](root)
    except DataNotFound:
        raise
    except DataError as error:
        raise DataError(f"{error}. Delete that file, and `fastnn data get {name}` fetches it anew") from error


def load_mnist(root: str | os.PathLike[str] | None = None) -> Dataset:
    """Handwritten digits (LeCun et al. 1998): 60,000 + 10,000 images of 1 × 28 × 28; see :func:`load`."""
    folder = data_root(root) / "MNIST" / "raw"
    stems = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    # Packed or not, each file on its own: torchvision leaves some of both.
    packed = [stem if (folder / stem).is_file() else f"{stem}.gz" for stem in stems]
    files = first_complete("mnist", [[folder / file for file in packed]])
    x_train, y_train = _read_mnist(files[0], files[1])
    x_test, y_test = _read_mnist(files[2], files[3])
    return Dataset("mnist", x_train, y_train, x_test, y_test, tuple("0123456789"))


def _read_mnist(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    x, y = read_idx(images), read_idx(labels)
    if x.dtype != np.uint8 or x.shape[1:] != (28, 28):
        raise DataError(f"{images} holds {x.dtype} of shape {x.shape}, MNIST's images uint8 of (N, 28, 28)")
    if y.dtype != np.uint8 or y.shape != x.shape[:1]:
        raise DataError(f"{labels} holds {y.dtype} of shape {y.shape}, not {len(x)} labels of type uint8")
    if y.size and y.max() > 9:
        raise DataError(f"{labels} has labels above 9")
    return x[:, np.newaxis], y.astype(np.int64)


def load_cifar10(root: str | os.PathLike[str] | None = None) -> Dataset:
    """Small colour photographs (Krizhevsky 2009): 50,000 + 10,000 images of 3 × 32 × 32; see :func:`load`.

    The five training batches stay in their order: ``x_train[:10_000]`` is ``data_batch_1``, and so on. The
    Python version of the files is preferred to the binary one where both are there.
    """
    return _load_cifar("cifar10", root, None)


def load_cifar2(root: str | os.PathLike[str] | None = None) -> Dataset:
    """CIFAR-10's airplanes (label 0) and ships (label 1): 10,000 + 2,000 images; see :func:`load`."""
    return _load_cifar("cifar2", root, _TWO_CLASSES)


def _load_cifar(name: str, root: str | os.PathLike[str] | None, classes: tuple[int, ...] | None) -> Dataset:
    folder = data_root(root)
    stems = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    pickled = [folder / "cifar-10-batches-py" / stem for stem in stems]
    binary = [folder / "cifar-10-batches-bin" / f"{stem}.bin" for stem in stems]
    *train, test = first_complete(name, [pickled, binary])
    x_train, y_train = _read_batches(train, classes)
    x_test, y_test = _read_batches([test], classes)
    names = CLASS_NAMES if classes is None else tuple(CLASS_NAMES[label] for label in classes)
    return Dataset(name, x_train, y_train, x_test, y_test, names)


def _read_batches(files: list[Path], classes: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for file in files:
        x, y = read_cifar_batch(file)
        if classes is not None:  # here, so that the unwanted classes of one batch at most are in memory
            wanted = np.isin(y, classes)
            x, y = x[wanted], np.searchsorted(classes, y[wanted])
        parts.append((x, y))
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def load_digits() -> Dataset:
    """Handwritten digits (Alpaydin, Kaynak 1998): 1,437 + 360 images of 1 × 8 × 8, out of scikit-learn.

    The 17 grey levels of the original, 0 ... 16, are spread over 0 ... 255, the range of the other sets. The
    parts are drawn once for all: they are the same on every machine and with every version of NumPy.

    Raises
    ------
    ImportError
        scikit-learn is not installed; the message says what to install.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn, which is not installed: pip install 'fastnn-kernels[data]'"
        ) from error
    bunch = datasets.load_digits()
    x = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, np.newaxis]
    y = bunch.target.astype(np.int64)
    # A bit generator's raw stream is fixed for good; Generator.permutation may change with NumPy's versions.
    order = np.argsort(np.random.PCG64(0).random_raw(len(x)))
    train, test = order[:1437], order[1437:]
    return Dataset("digits", x[train], y[train], x[test], y[test], tuple("0123456789"))


_LOADERS: dict[str, Callable[[str | os.PathLike[str] | None], Dataset]] = {
    "mnist": load_mnist,
    "cifar10": load_cifar10,
    "cifar2": load_cifar2,
    "digits": lambda root: load_digits(),
}
NAMES = tuple(_LOADERS)
