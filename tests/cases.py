"""The shapes that fastnn is tested and timed on: one table a stem, read by tests/ and by bench/ alike.

``REAL`` rows are what the networks of ``fastnn/experiments`` compute in one training step: timed, and tested.
``ODD`` rows are small and awkward — sizes of one, primes, nothing at all, windows that overlap or overhang —
and only tested.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.reference._shared import pooled_shape

Pair = tuple[int, int]
by_name = attrgetter("name")  # for pytest: ids=cases.by_name


def draw(shape: tuple[int, ...], seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Standard normal values, the same for the same shape and seed whatever the dtype's precision."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def channels_last(x: np.ndarray) -> np.ndarray:
    """The same logical NCHW array over NHWC memory, as convolution and pooling return it."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def hwio(weight: np.ndarray) -> np.ndarray:
    """The same logical OIHW array over (KH, KW, I, O) memory, as Conv2d keeps its weight."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)


class Linear(NamedTuple):
    name: str
    n: int
    in_features: int
    out_features: int
    activation: str | None = None
    zeros: float = 0.0  # so many of the numbers in x are zero

    def operands(self, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """x, weight, bias and the gradient of the output."""
        scale = dtype(1 / max(1, self.in_features) ** 0.5)
        x, grad = draw((self.n, self.in_features), 1, dtype), draw((self.n, self.out_features), 4, dtype)
        x[np.random.default_rng(5).random(x.shape) < self.zeros] = 0
        return (
            x,
            draw((self.in_features, self.out_features), 2, dtype) * scale,
            draw((self.out_features,), 3, dtype),
            grad,
        )


LINEAR_REAL = [
    Linear("cifar2-mlp hidden", 64, 3072, 100, "relu"),
    Linear("cifar2-mlp out", 64, 100, 1),
    Linear("cifar10-clr hidden", 100, 3072, 50, "relu"),
    Linear("cifar10-clr out", 100, 50, 10),
    Linear("mnist-mlp hidden", 64, 784, 64, "sigmoid"),
    Linear("mnist-mlp out", 64, 64, 10),
    Linear("mnist-mlp hidden, batch 256", 256, 784, 64, "sigmoid"),
    Linear("mnist-lenet fc1", 64, 256, 120, "relu"),
    Linear("mnist-lenet fc2", 64, 120, 84, "relu"),
    Linear("mnist-lenet out", 64, 84, 10),
    Linear("cifar10-sigmoid hidden", 500, 3072, 200, "sigmoid"),
    Linear("cifar10-sigmoid out", 500, 200, 10),
    Linear("cifar10-cnn hidden", 50, 1024, 64, "sigmoid"),
]
LINEAR_ODD = [
    Linear("all ones", 1, 1, 1),
    Linear("empty batch", 0, 7, 5, "relu"),
    Linear("no inputs", 3, 0, 5),
    Linear("no outputs", 3, 5, 0),
    Linear("one row", 1, 65, 33, "tanh"),
    Linear("one column", 19, 33, 1, "sigmoid"),
    Linear("one input", 13, 1, 17, "gelu"),
    Linear("small primes", 3, 5, 7, "leaky_relu"),
    Linear("larger primes", 61, 127, 97),
    Linear("primes, from memory", 701, 823, 37, "tanh"),
    Linear("weights packed block by block", 397, 1409, 53, "sigmoid"),
    Linear("weights packed as a whole", 787, 1031, 53, "gelu"),
    Linear("wide weights packed as a whole", 773, 701, 263, "relu"),
    Linear("just past a tile", 13, 16, 33, "relu"),
    Linear("few columns", 503, 209, 10, "tanh"),
    Linear("few columns, in parts", 2051, 227, 12, "relu"),
    Linear("few columns in two groups", 131, 783, 7, "gelu"),
    Linear("a single column of many terms", 517, 1031, 1),
    Linear("just short of a tile", 11, 15, 31, "sigmoid"),
    Linear("mostly zeros", 277, 523, 101, "tanh", zeros=0.9),
    Linear("mostly zeros, few rows", 49, 521, 67, zeros=0.9),
    Linear("mostly zeros, the terms in parts and blocks", 67, 1201, 131, "relu", zeros=0.8),
    Linear("mostly zeros, many samples", 1101, 521, 17, "sigmoid", zeros=0.85),
    Linear("nothing but zeros", 48, 512, 16, zeros=1.0),
]
# of them, those with few columns and enough to do: kernels/cpu/_linear_narrow.py
LINEAR_ZEROS = [case for case in LINEAR_ODD if case.zeros]  # kernels/cpu/_mostly_zeros.py
LINEAR_NARROW = [case for case in LINEAR_ODD if "column" in case.name and case.n > 100]


class Conv(NamedTuple):
    name: str
    x: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    activation: str | None = None

    @property
    def geometry(self) -> tuple[Pair, Pair, Pair]:
        return self.stride, self.padding, self.dilation

    @property
    def kernel_size(self) -> Pair:
        return self.weight[2:]

    @property
    def output(self) -> tuple[int, int, int, int]:
        height, width = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip(
                self.x[2:], self.kernel_size, *self.geometry, strict=True
            )
        )
        return self.x[0], self.weight[0], height, width

    def operands(self, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """x, weight, bias and the gradient of the output, laid out in memory as a training step has them."""
        scale = dtype(1 / max(1, int(np.prod(self.weight[1:]))) ** 0.5)
        x, weight = channels_last(draw(self.x, 1, dtype)), hwio(draw(self.weight, 2, dtype) * scale)
        return x, weight, draw(self.weight[:1], 3, dtype), channels_last(draw(self.output, 4, dtype))


CONV_REAL = [
    Conv("mnist-lenet conv1", (64, 1, 28, 28), (6, 1, 5, 5), activation="relu"),
    Conv("mnist-lenet conv2", (64, 6, 12, 12), (16, 6, 5, 5), activation="relu"),
    Conv("cifar10-cnn conv1", (50, 3, 32, 32), (32, 3, 3, 3), padding=(1, 1), activation="sigmoid"),
    Conv("cifar10-cnn conv2", (50, 32, 16, 16), (64, 32, 3, 3), padding=(1, 1), activation="sigmoid"),
    Conv("cifar10-cnn conv3", (50, 64, 8, 8), (64, 64, 3, 3), padding=(1, 1), activation="sigmoid"),
]
CONV_ODD = [
    Conv("all ones", (1, 1, 1, 1), (1, 1, 1, 1)),
    Conv("empty batch", (0, 3, 5, 5), (2, 3, 3, 3), activation="relu"),
    Conv("1 x 1", (2, 5, 6, 7), (3, 5, 1, 1)),
    Conv("1 x 1, strided", (2, 5, 6, 7), (3, 5, 1, 1), stride=(2, 3)),
    Conv("window larger than image", (2, 2, 3, 2), (3, 2, 5, 4), padding=(2, 1)),
    Conv("wide window", (2, 3, 4, 19), (5, 3, 1, 7), padding=(0, 3), activation="tanh"),
    Conv("tall window", (1, 2, 17, 3), (3, 2, 5, 1), padding=(1, 0), activation="sigmoid"),
    Conv("stride skips the edge", (2, 3, 8, 9), (4, 3, 3, 3), stride=(2, 3)),
    Conv("stride past the window", (2, 2, 11, 10), (3, 2, 2, 2), stride=(3, 4), activation="leaky_relu"),
    Conv("dilated", (2, 3, 11, 12), (5, 3, 3, 3), padding=(2, 1), dilation=(2, 3), activation="gelu"),
    Conv("dilated and strided", (1, 2, 13, 13), (3, 2, 3, 2), (2, 3), (1, 2), (3, 2)),
    Conv("two groups", (3, 4, 7, 6), (6, 2, 3, 3), padding=(1, 1), groups=2),
    Conv("two groups, strided, padded to the full", (2, 4, 6, 7), (6, 2, 3, 3), (2, 2), (2, 2), groups=2),
    Conv("depthwise", (2, 5, 6, 6), (5, 1, 3, 3), padding=(1, 1), groups=5),
    Conv("depthwise, two outputs a channel", (1, 3, 6, 5), (6, 1, 2, 3), stride=(2, 1), groups=3),
    Conv("many channels, one pixel", (2, 37, 1, 1), (41, 37, 3, 3), padding=(1, 1)),
    Conv("few channels, many filters", (3, 3, 9, 11), (40, 3, 3, 3), padding=(1, 1)),
    Conv("one channel, a row of filters and some", (1, 1, 21, 18), (37, 1, 2, 3), padding=(0, 2)),
    Conv("four channels, padding wider than window", (9, 4, 7, 8), (33, 4, 3, 2), padding=(3, 2)),
    Conv("padding wider than window", (1, 2, 3, 3), (2, 2, 2, 2), padding=(3, 3)),
]


class Pool(NamedTuple):
    name: str
    x: tuple[int, int, int, int]
    kernel_size: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False


POOL_REAL = [
    Pool("mnist-lenet pool1", (64, 6, 24, 24), (2, 2), (2, 2)),
    Pool("mnist-lenet pool2", (64, 16, 8, 8), (2, 2), (2, 2)),
    Pool("cifar10-cnn pool1", (50, 32, 32, 32), (2, 2), (2, 2)),
    Pool("cifar10-cnn pool2", (50, 64, 16, 16), (2, 2), (2, 2)),
    Pool("cifar10-cnn pool3", (50, 64, 8, 8), (2, 2), (2, 2)),
]
POOL_ODD = [
    Pool("all ones", (1, 1, 1, 1), (1, 1), (1, 1)),
    Pool("empty batch", (0, 3, 4, 4), (2, 2), (2, 2)),
    Pool("overlapping", (2, 3, 7, 8), (3, 3), (2, 2), (1, 1)),
    Pool("overlapping, half as many as pixels", (3, 5, 8, 6), (3, 3), (2, 2), (1, 1)),
    Pool("a vector of channels and some", (2, 19, 4, 6), (2, 2), (2, 2)),
    Pool("overlapping by rows only", (1, 5, 9, 7), (3, 2), (1, 2)),
    Pool("gaps between windows", (2, 2, 11, 9), (2, 2), (3, 4)),
    Pool("leftover edge dropped", (1, 3, 5, 7), (2, 2), (2, 2)),
    Pool("leftover column dropped", (2, 3, 6, 7), (2, 2), (2, 2)),
    Pool("leftover edge kept", (1, 3, 5, 7), (2, 2), (2, 2), ceil_mode=True),
    Pool("window starting in the padding is dropped", (1, 2, 4, 4), (2, 2), (2, 2), (1, 1), ceil_mode=True),
    Pool("ceil with overlap", (2, 2, 8, 6), (3, 3), (2, 2), (1, 0), ceil_mode=True),
    Pool("dilated", (1, 2, 9, 10), (2, 3), (2, 1), (1, 1), (3, 2)),
    Pool("dilated, ceil", (1, 2, 9, 10), (3, 2), (2, 3), (1, 0), (2, 2), ceil_mode=True),
    Pool("one window for all", (3, 4, 6, 5), (6, 5), (1, 1)),
]


class ConvPool(NamedTuple):
    """A convolution and the max-pooling behind it; the activation is the convolution's."""

    name: str
    conv: Conv
    kernel_size: Pair = (2, 2)
    stride: Pair = (2, 2)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False

    @property
    def convolution(self) -> tuple[Pair, Pair, Pair, int]:
        return *self.conv.geometry, self.conv.groups

    @property
    def pooling(self) -> tuple[Pair, Pair, Pair, Pair, bool]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode

    @property
    def output(self) -> tuple[int, int, int, int]:
        n, outputs, *between = self.conv.output
        axes = zip(between, *self.pooling[:4], strict=True)
        height, width = (pooled_shape(*axis, self.ceil_mode) for axis in axes)
        return n, outputs, height, width

    def operands(self, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """x, weight, bias and the gradient of the pooled output."""
        return *self.conv.operands(dtype)[:3], channels_last(draw(self.output, 5, dtype))


CONV_POOL_REAL = [ConvPool(f"{conv.name} and pool", conv) for conv in CONV_REAL]
CONV_POOL_ODD = [
    ConvPool("all ones", Conv("", (1, 1, 1, 1), (1, 1, 1, 1)), (1, 1), (1, 1)),
    ConvPool("empty batch", Conv("", (0, 3, 6, 6), (2, 3, 3, 3), activation="relu")),
    ConvPool("one image", Conv("", (1, 3, 12, 11), (4, 3, 3, 3), padding=(1, 1), activation="relu")),
    ConvPool("one channel", Conv("", (3, 1, 9, 9), (2, 1, 4, 2), activation="tanh")),
    ConvPool("1 x 1", Conv("", (2, 5, 6, 8), (3, 5, 1, 1), activation="sigmoid")),
    ConvPool("just past a vector", Conv("", (9, 17, 6, 7), (33, 17, 2, 1), activation="leaky_relu")),
    ConvPool("100 channels", Conv("", (2, 100, 6, 6), (7, 100, 3, 3), padding=(1, 1), activation="gelu")),
    ConvPool("150 channels, a row past the registers", Conv("", (2, 150, 5, 6), (3, 150, 2, 3))),
    ConvPool("windows of 3 x 3", Conv("", (2, 3, 13, 14), (5, 3, 3, 3), padding=(1, 1)), (3, 3), (3, 3)),
    ConvPool("overlapping", Conv("", (2, 3, 11, 12), (5, 3, 3, 3)), (3, 3), (2, 2)),
    ConvPool("overlapping, many rows", Conv("", (1, 2, 41, 9), (3, 2, 3, 3)), (3, 3), (2, 2), (1, 1)),
    ConvPool("overlapping by more than half", Conv("", (2, 3, 8, 9), (4, 3, 3, 3)), (3, 2), (1, 1)),
    ConvPool("halved by rows only", Conv("", (2, 3, 8, 9), (4, 3, 3, 2)), (2, 1), (2, 1)),
    ConvPool("padded windows", Conv("", (2, 3, 8, 9), (4, 3, 3, 3), padding=(1, 1)), (3, 2), (3, 3), (1, 1)),
    ConvPool("leftover edge kept", Conv("", (2, 3, 9, 11), (4, 3, 3, 3)), ceil_mode=True),
    ConvPool("start in padding", Conv("", (1, 2, 8, 8), (3, 2, 3, 3)), padding=(1, 1), ceil_mode=True),
    ConvPool("gaps between windows", Conv("", (2, 3, 13, 12), (4, 3, 3, 3)), (2, 2), (3, 4)),
    ConvPool("dilated windows", Conv("", (2, 2, 12, 12), (3, 2, 3, 2)), (2, 3), (2, 3), (1, 1), (3, 2), True),
    ConvPool("one window for all", Conv("", (3, 4, 8, 7), (5, 4, 3, 3)), (6, 5), (1, 1)),
    ConvPool("strided", Conv("", (2, 3, 19, 18), (5, 3, 3, 2), (2, 1), (1, 2), (2, 1))),
    ConvPool("dilated by columns", Conv("", (2, 6, 9, 14), (4, 6, 3, 3), (1, 2), (1, 3), (1, 3))),
    ConvPool("window larger than image", Conv("", (2, 2, 3, 2), (3, 2, 5, 4), padding=(3, 3))),
    ConvPool("few taps", Conv("", (3, 2, 9, 8), (37, 2, 2, 3), padding=(1, 2), activation="relu")),
    ConvPool("few taps, strided", Conv("", (9, 1, 15, 12), (17, 1, 3, 2), stride=(2, 1))),
    ConvPool("few taps, dilated", Conv("", (2, 2, 9, 11), (32, 2, 2, 3), (1, 2), (1, 2), (2, 3))),
    ConvPool("few taps, of one vector and more", Conv("", (2, 4, 7, 9), (40, 4, 3, 3), padding=(1, 1))),
    ConvPool("few taps, all in one run", Conv("", (2, 30, 6, 4), (48, 30, 1, 1))),
    ConvPool("a pooled pixel for more than a word of filters", Conv("", (2, 3, 5, 4), (70, 3, 2, 2))),
    ConvPool("a row that no window reaches", Conv("", (2, 18, 10, 8), (5, 18, 2, 3), padding=(0, 1))),
    ConvPool("two groups", Conv("", (3, 4, 9, 8), (6, 2, 3, 3), padding=(1, 1), groups=2)),
    ConvPool("depthwise", Conv("", (2, 5, 8, 8), (5, 1, 3, 3), groups=5, activation="relu")),
]  # fmt: skip


class Elementwise(NamedTuple):
    name: str
    shape: tuple[int, ...]


ACTIVATION_REAL = [
    Elementwise("64 x 64", (64, 64)),
    Elementwise("500 x 200", (500, 200)),
    Elementwise("50 x 32 x 32 x 32", (50, 32, 32, 32)),
]
SOFTMAX_REAL = [
    Elementwise("64 x 10", (64, 10)),
    Elementwise("10000 x 10", (10000, 10)),
    Elementwise("64 x 1000", (64, 1000)),
]
DROPOUT_REAL = [
    Elementwise("64 x 120", (64, 120)),
    Elementwise("64 x 84", (64, 84)),
    Elementwise("500 x 200", (500, 200)),
]
ELEMENTWISE_ODD = [
    Elementwise("one", (1, 1)),
    Elementwise("empty", (0, 5)),
    Elementwise("vector", (13,)),
    Elementwise("one row", (1, 67)),
    Elementwise("one column", (31, 1)),
    Elementwise("a vector of rows and some", (19, 17)),
    Elementwise("as many columns as are turned", (35, 64)),
    Elementwise("one column more", (35, 65)),
    Elementwise("three axes", (3, 5, 7)),
    Elementwise("images", (2, 3, 5, 4)),
    Elementwise("past a chunk", (3, 4099)),
]


class Loss(NamedTuple):
    name: str
    loss: str  # the kernel's name
    shape: tuple[int, int]

    def operands(self, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
        """Predictions, and targets: labels for softmax, values in 0 ... 1 otherwise."""
        n, classes = self.shape
        rng = np.random.default_rng([5, n, classes])
        if self.loss == "softmax_cross_entropy":
            targets = rng.integers(0, classes, n)
        else:
            targets = rng.integers(0, 2, self.shape).astype(dtype)
        return draw(self.shape, 1, dtype) * dtype(3), targets


LOSS_REAL = [
    Loss("cifar10-clr", "softmax_cross_entropy", (100, 10)),
    Loss("mnist-mlp", "softmax_cross_entropy", (64, 10)),
    Loss("cifar10-cnn, all of the training set", "softmax_cross_entropy", (45000, 10)),
    Loss("cifar2-mlp", "sigmoid_cross_entropy", (64, 1)),
    Loss("cifar10-mse", "mse", (200, 10)),
    Loss("cifar10-linear", "mse", (45000, 10)),
]
LOSS_ODD = [
    Loss(f"{loss} {label}", loss, shape)
    for loss in ("softmax_cross_entropy", "sigmoid_cross_entropy", "mse")
    for label, shape in (
        ("one", (1, 1)),
        ("empty", (0, 3)),
        ("odd", (7, 5)),
        ("wide", (3, 131)),
        ("tall", (1031, 3)),
    )
]


class Norm(NamedTuple):
    name: str
    x: tuple[int, ...]


NORM_REAL = [Norm("after a hidden layer", (64, 100)), Norm("after a convolution", (50, 32, 16, 16))]
NORM_ODD = [
    Norm("two rows", (2, 3)),
    Norm("one channel", (17, 1)),
    Norm("odd", (5, 37)),
    Norm("one pixel", (4, 7, 1, 1)),
    Norm("odd images", (3, 5, 7, 3)),
    Norm("one image", (1, 3, 5, 4)),
]


class Update(NamedTuple):
    name: str
    shapes: list[tuple[int, ...]]


UPDATE_REAL = [
    Update("mnist-mlp", [(784, 64), (64,), (64, 10), (10,)]),
    Update("cifar10-sigmoid", [(3072, 200), (200,), (200, 10), (10,)]),
    Update(
        "mnist-lenet",
        [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (256, 120), (120,), (120, 84), (84,), (84, 10), (10,)],
    ),
    Update(
        "cifar10-cnn",
        [
            (32, 3, 3, 3),
            (32,),
            (64, 32, 3, 3),
            (64,),
            (64, 64, 3, 3),
            (64,),
            (1024, 64),
            (64,),
            (64, 10),
            (10,),
        ],
    ),
]
UPDATE_ODD = [
    Update("one number", [(1,)]),
    Update("one empty array", [(0,)]),
    Update("some empty", [(3, 5), (0, 7), (7,)]),
    Update("odd sizes", [(1, 1), (17, 33), (33,), (4099,), (3, 2, 5, 1)]),
]
