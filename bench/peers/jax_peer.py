"""JAX: one jitted function a step, to which parameters and velocities are donated: it updates them in place.

Images are NHWC and pooling is a reshape and a maximum: on a CPU both take less time than NCHW and
``reduce_window``, whose gradient scatters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from bench.networks import Activation, Conv, Dense, Dropout, Flatten, Layer, Network, Pool
from bench.peers import LR, MOMENTUM, WEIGHT_DECAY


def apply(layer: Layer, parameters: Any, x: jax.Array, key: jax.Array) -> jax.Array:
    match layer:
        case Dense():
            weight, bias = parameters
            return x @ weight + bias
        case Conv(_, _, _, padding):
            weight, bias = parameters
            order = ("NHWC", "HWIO", "NHWC")
            pads = [(padding, padding)] * 2
            return jax.lax.conv_general_dilated(x, weight, (1, 1), pads, dimension_numbers=order) + bias
        case Pool(size):
            n, height, width, channels = x.shape
            return x.reshape(n, height // size, size, width // size, size, channels).max((2, 4))
        case Activation(name):
            return getattr(jax.nn, name)(x)
        case Dropout(p):
            return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)
        case Flatten():
            return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def loss_of(name: str, out: jax.Array, y: jax.Array) -> jax.Array:
    if name == "softmax_cross_entropy":
        return -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], axis=1).mean()
    if name == "sigmoid_cross_entropy":
        return (jnp.logaddexp(0, out) - out * y).mean()
    return ((out - y) ** 2).mean()


def training(network: Network, variant: str) -> Callable[[], float]:
    x, y = network.batch()

    def loss_function(parameters: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> jax.Array:
        own = iter(parameters)
        if x.ndim == 4:
            x = x.transpose(0, 2, 3, 1)
        for number, layer in enumerate(network.layers):
            needed = next(own) if isinstance(layer, Dense | Conv) else None
            x = apply(layer, needed, x, jax.random.fold_in(key, number))
        return loss_of(network.loss, x, y)

    @partial(jax.jit, donate_argnums=0)
    def update(state: Any, x: jax.Array, y: jax.Array) -> Any:
        parameters, velocities, key = state
        key, own = jax.random.split(key)
        loss, grads = jax.value_and_grad(loss_function)(parameters, x, y, own)
        velocities = jax.tree.map(
            lambda v, g, w: MOMENTUM * v + g + WEIGHT_DECAY * w, velocities, grads, parameters
        )
        parameters = jax.tree.map(lambda w, v: w - LR * v, parameters, velocities)
        return (parameters, velocities, key), loss

    parameters = [
        (jnp.array(weight if weight.ndim == 2 else weight.transpose(2, 3, 1, 0)), jnp.array(bias))
        for weight, bias in network.weights()
    ]
    state = (parameters, jax.tree.map(jnp.zeros_like, parameters), jax.random.key(0))

    def step() -> float:
        nonlocal state
        state, loss = update(state, x, y)
        jax.block_until_ready(state)  # the loss may be known before the parameters are
        return float(loss)

    return step
