"""What is compared: the workloads, the peers that can run each, and how fast fastnn means to be."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from bench.networks import Conv, Network, by_name


class Peer(NamedTuple):
    """A library in one of its ways of running: `bench.peers.<module>`, and the packages it stands on."""

    module: str
    variant: str
    packages: tuple[str, ...]


PEERS = {
    "fastnn": Peer("fastnn_peer", "numba", ("numpy", "numba", "llvmlite")),
    "NumPy": Peer("fastnn_peer", "numpy", ("numpy",)),
    "PyTorch": Peer("torch_peer", "eager", ("torch",)),
    "PyTorch channels_last": Peer("torch_peer", "channels_last", ("torch",)),
    "torch.compile": Peer("torch_peer", "compile", ("torch",)),
    "JAX": Peer("jax_peer", "jit", ("jax", "jaxlib")),
    "scikit-learn": Peer("sklearn_peer", "", ("scikit-learn",)),
    "ONNX Runtime": Peer("onnxruntime_peer", "", ("onnxruntime", "onnx")),
}
OURS, BASELINE = "fastnn", "NumPy"  # the baseline is no peer: it is what fastnn's users come from


class Workload(NamedTuple):
    """A training step or an inference, those who run it, and the ratios aimed at.

    Attributes
    ----------
    bar : float or None
        Time of the fastest peer over that of fastnn; None: as it comes.
    baseline_bar : float or None
        The same for the NumPy baseline.
    """

    name: str
    kind: str  # training | inference
    network: Network
    peers: tuple[str, ...]
    bar: float | None
    baseline_bar: float | None = None


def _training(name: str, bar: float | None = None, baseline_bar: float | None = None) -> Workload:
    network = by_name[name]
    more: tuple[str, ...] = ("scikit-learn",)  # it has networks of dense layers, one hidden layer at least
    if any(isinstance(layer, Conv) for layer in network.layers):
        more = ("PyTorch channels_last",)
    elif len(network.layers) == 1:
        more = ()
    peers = (OURS, BASELINE, "PyTorch", "torch.compile", "JAX", *more)
    title = f"{name.split(',')[0]}, batch {network.x[0]:,}"
    return Workload(title, "training", network, peers, bar, baseline_bar)


def _inference(name: str, batch: int, bar: float) -> Workload:
    network = by_name[name]
    network = replace(network, x=(batch, *network.x[1:]))
    title = f"{name}, inference, batch {batch}"
    return Workload(title, "inference", network, (OURS, BASELINE, "ONNX Runtime"), bar)


WORKLOADS = [
    _training("cifar2-mlp", 2.0),
    _training("cifar10-clr", 2.0),
    _training("mnist-mlp", 3.0),
    _training("mnist-mlp, batch 256", 2.5),
    _training("mnist-mlp on digits", 3.0),
    _training("mnist-mlp on digits, batch 256", 2.5),
    _training("cifar10-mse"),
    _training("cifar10-linear, full batch"),
    _training("cifar10-sigmoid", 1.35),
    _training("cifar10-sigmoid, full batch", 1.3),
    _training("mnist-lenet", 3.0, 10.0),
    _training("mnist-lenet, batch 256", 3.0, 10.0),
    _training("cifar10-cnn", 1.5, 10.0),
    _inference("mnist-lenet", 1, 0.5),
    _inference("mnist-lenet", 64, 1.5),
    _inference("cifar10-cnn", 1, 1.0),
    _inference("cifar10-cnn", 64, 1.2),
]
