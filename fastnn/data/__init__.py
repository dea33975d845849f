"""Image sets for classifiers: find them on disk, verify and read them safely, and prepare their arrays.

>>> from fastnn import data
>>> digits = data.load("digits")                               # x uint8 (N, C, H, W), y int64 (N,)
>>> x_train, mean, std = data.standardize(digits.x_train)      # float32, by the training set's statistics
>>> x_test, _, _ = data.standardize(digits.x_test, mean, std)  # and the test set by the same
>>> (x_train, y_train), (x_val, y_val) = data.split(x_train, digits.y_train, (0.9, 0.1), seed=0)

Rules of the room: files are hostile (nothing a file says is believed before it is compared with the file's
own length; nothing in it is ever executed), whatever is wrong with one is a single :class:`DataError`, pixels
stay uint8 until a transform is asked for, and transforms work through large sets in cache-sized pieces.
"""

from fastnn.data.arrays import batches, one_hot, split
from fastnn.data.cifar import read_cifar_batch
from fastnn.data.download import get
from fastnn.data.folders import DataError, DataNotFound, data_root
from fastnn.data.idx import read_idx
from fastnn.data.sets import NAMES, Dataset, load, load_cifar2, load_cifar10, load_digits, load_mnist
from fastnn.data.transforms import scale, standardize, subtract_mean

__all__ = [
    "NAMES",
    "DataError",
    "DataNotFound",
    "Dataset",
    "batches",
    "data_root",
    "get",
    "load",
    "load_cifar2",
    "load_cifar10",
    "load_digits",
    "load_mnist",
    "one_hot",
    "read_cifar_batch",
    "read_idx",
    "scale",
    "split",
    "standardize",
    "subtract_mean",
]
