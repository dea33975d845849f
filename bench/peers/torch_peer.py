"""PyTorch: eager as it comes, eager with channels_last images, compiled (channels_last too: it is faster).

The optimiser is the fused one, which on small networks saves a tenth of a step.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import nn

from bench.networks import Activation, Conv, Dense, Dropout, Flatten, Layer, Network, Pool
from bench.peers import LR, MOMENTUM, WEIGHT_DECAY

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}
LOSSES = {
    "softmax_cross_entropy": nn.CrossEntropyLoss,
    "sigmoid_cross_entropy": nn.BCEWithLogitsLoss,
    "mse": nn.MSELoss,
}


def module(layer: Layer) -> nn.Module:
    match layer:
        case Dense(inputs, outputs):
            return nn.Linear(inputs, outputs)
        case Conv(inputs, outputs, kernel, padding):
            return nn.Conv2d(inputs, outputs, kernel, padding=padding)
        case Pool(size):
            return nn.MaxPool2d(size)
        case Activation(name):
            return ACTIVATIONS[name]()
        case Dropout(p):
            return nn.Dropout(p)
        case Flatten():
            return nn.Flatten()


def build(network: Network, memory_format: torch.memory_format) -> nn.Module:
    net = nn.Sequential(*map(module, network.layers))
    parameters = iter(net.parameters())
    with torch.no_grad():
        for weight, bias in network.weights():
            next(parameters).copy_(torch.from_numpy(weight.T if weight.ndim == 2 else weight))
            next(parameters).copy_(torch.from_numpy(bias))
    return net.to(memory_format=memory_format)


def training(network: Network, variant: str) -> Callable[[], float]:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    images_last = variant != "eager" and len(network.x) == 4
    memory_format = torch.channels_last if images_last else torch.contiguous_format
    x, y = network.batch()
    net = build(network, memory_format).train()
    loss_function = LOSSES[network.loss]()
    parameters = net.parameters()
    sgd = torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)

    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss_function(net(x), y)

    run = torch.compile(forward, fullgraph=True) if variant == "compile" else forward

    def step() -> float:
        batch = torch.from_numpy(x)
        if images_last:
            batch = batch.contiguous(memory_format=memory_format)
        loss = run(batch, torch.from_numpy(y))
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()
        return loss.item()

    return step
