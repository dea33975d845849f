"""PyTorch's training step on a GPU: eager, as a CUDA graph, compiled, and compiled as a CUDA graph.

Each is set up as PyTorch's documentation has it for speed: images channels-last, the fused optimiser, the
fastest convolution of those that cuDNN tries, the loss left on the device, whole steps in a graph.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from bench.networks import Network
from bench.peers import LR, MOMENTUM, WEIGHT_DECAY
from bench.peers.torch_peer import LOSSES, build

VARIANTS = ("eager", "graph", "compile", "compile + graph")
_WARM = 4  # steps before a capture: they choose algorithms and make the optimiser's state


def set_precision(precision: str) -> None:
    """As ``fastnn.set_float32_precision`` does: "highest" uses no TF32, nor in convolutions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer names for these exist, and not in every release
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision == "high"
        torch.backends.cudnn.benchmark = True


def training(network: Network, variant: str, device: str = "cuda") -> Callable[[], torch.Tensor]:
    """A call that takes a step and returns its loss, which stays on the device."""
    images = len(network.x) == 4
    memory_format = torch.channels_last if images else torch.contiguous_format
    x, y = (torch.from_numpy(a).to(device) for a in network.batch())
    x = x.contiguous(memory_format=memory_format)
    net = build(network, memory_format).to(device).train()
    loss_function = LOSSES[network.loss]()
    sgd = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)

    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss_function(net(x), y)

    run = forward
    if "compile" in variant:
        torch.compiler.reset()  # it compiles one function for a few networks, and then no more
        run = torch.compile(forward, fullgraph=True, dynamic=False)

    def step() -> torch.Tensor:
        sgd.zero_grad(set_to_none=True)
        loss = run(x, y)
        loss.backward()
        sgd.step()
        return loss.detach()

    return graphed(step) if "graph" in variant else step


def graphed(step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """The step as one CUDA graph, after :data:`_WARM` that are not."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> torch.Tensor:
        graph.replay()
        return loss

    return replay


def first_losses(network: Network, variant: str, count: int, device: str = "cuda") -> list[float | None]:
    """The losses of the first `count` steps; None for those taken before a graph was captured."""
    step = training(network, variant, device)
    before = _WARM if "graph" in variant else 0
    return [None] * before + [float(step()) for _ in range(count - before)]
