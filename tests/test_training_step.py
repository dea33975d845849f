"""A training step as one call: the same bits as forward, loss, backward and update by hand, whatever happens
in between."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import layers as ly
from fastnn import losses, optim
from fastnn.training import TrainingStep
from fastnn.training.gradients import Penalty
from fastnn.training.repeated import _Step
from tests.test_programs import NETWORKS, draw, mlp

pytestmark = pytest.mark.usefixtures("_numba")
CLASSES = 5
OPTIMISERS = {
    "sgd": lambda p: optim.SGD(p, 0.1),
    "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.1, weight_decay=1e-3),
    "nesterov": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, 0.01, weight_decay=1e-3),
    "adamw": lambda p: optim.AdamW(p, 0.01),
    "rmsprop": lambda p: optim.RMSprop(p, 0.01, momentum=0.5),
    "groups": lambda p: optim.SGD([{"params": p[:1], "lr": 0.02}, {"params": p[1:]}], 0.1, momentum=0.5),
}
LOSSES = {
    "labels": (F.softmax_cross_entropy, "labels"),
    "shares": (losses.SoftmaxCrossEntropy(reduction="sum"), "shares"),
    "sigmoid": (F.sigmoid_cross_entropy, "shares"),
    "mse": (losses.MSE(reduction="batchmean", factor=0.5), "shares"),
}


@pytest.fixture(name="_numba")
def numba_backend():
    with fastnn.use_backend("numba"):
        yield


def targets(kind, count, seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    if kind == "labels":
        return rng.integers(CLASSES, size=count)
    shares = rng.random((count, CLASSES))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(dtype)


class Pair:
    """Two equal networks and optimisers: one trained by :class:`TrainingStep`, one by hand."""

    def __init__(self, build=mlp, loss=F.softmax_cross_entropy, make=OPTIMISERS["momentum"], l2=0.0):
        fastnn.seed(1)
        self.first = build()
        self.second = copy.deepcopy(self.first)
        self.second._programs = None  # layer by layer
        self.optimizers = [make(net.parameters()) for net in (self.first, self.second)]
        self.loss, self.l2 = losses.as_function(loss), l2
        self.step = TrainingStep(self.first, loss, self.optimizers[0], l2=l2)
        self.taken = 0

    def by_hand(self, x, y):
        output = self.second.forward(x, training=True)
        loss, grad = self.loss(output, y)
        self.second.backward(grad, input_grad=False)
        if self.l2:
            loss += Penalty(self.second.parameters(), self.l2).add()
        self.optimizers[1].step()
        return output, loss

    def take(self, x, y):
        """A step of each, and that they are the same."""
        self.taken += 1
        for optimizer in self.optimizers:
            optimizer.lr = 0.1 / self.taken
        fastnn.seed(self.taken)  # of dropout
        loss = self.step(x, y)
        fastnn.seed(self.taken)
        output, expected = self.by_hand(x, y)
        assert loss == expected
        np.testing.assert_array_equal(self.step.output, output)
        self.same()

    def same(self):
        for p, q in zip(self.first.parameters(), self.second.parameters(), strict=True):
            np.testing.assert_array_equal(p.grad, q.grad)
            np.testing.assert_array_equal(p.data, q.data)
        for ours, theirs in zip(self.optimizers[0].groups, self.optimizers[1].groups, strict=True):
            assert ours.state.keys() == theirs.state.keys()
            for name in ours.state:
                for a, b in zip(ours.state[name], theirs.state[name], strict=True):
                    np.testing.assert_array_equal(a, b)
        assert self.optimizers[0].steps == self.optimizers[1].steps

    def run(self, shape, steps=6, kind="labels"):
        dtype = self.first.parameters()[0].data.dtype
        for number in range(steps):
            self.take(draw(shape, number, dtype), targets(kind, shape[0], number, dtype))

    def recorded(self):
        return [found for found in self.step._repeated._found.values() if type(found) is _Step]


@pytest.mark.parametrize(("build", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_a_step_is_what_is_done_by_hand_for_every_network(build, shape):
    pair = Pair(build)
    pair.run(shape)
    assert len(pair.recorded()) == 1


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_step_is_what_is_done_by_hand_for_every_optimiser(name):
    pair = Pair(make=OPTIMISERS[name])
    pair.run((9, 20))
    assert len(pair.recorded()) == 1


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_is_what_is_done_by_hand_for_every_loss(name):
    loss, kind = LOSSES[name]
    pair = Pair(loss=loss)
    pair.run((9, 20), kind=kind)
    assert len(pair.recorded()) == 1


def test_an_l2_penalty_is_part_of_loss_and_gradient():
    pair = Pair(l2=0.01)
    pair.run((9, 20))
    assert len(pair.recorded()) == 1


def test_batches_of_several_sizes_are_recorded_each():
    pair = Pair()
    for count in (9, 4, 9, 4, 9, 4, 9, 4, 9, 4):
        pair.run((count, 20), steps=1)
    assert len(pair.recorded()) == 2


def test_a_step_by_hand_may_come_in_between():
    pair = Pair()
    pair.run((9, 20), steps=4)
    x, y = draw((9, 20), 7), targets("labels", 9, 7)
    for net, optimizer in zip((pair.first, pair.second), pair.optimizers, strict=True):
        _, grad = F.softmax_cross_entropy(net.forward(x, training=True), y)
        net.backward(grad)
        optimizer.step()
    pair.run((9, 20), steps=2)
    assert len(pair.recorded()) == 1


def test_a_backward_after_a_recorded_step_finds_no_forward():
    pair = Pair()
    pair.run((9, 20), steps=5)
    with pytest.raises(RuntimeError, match="forward"):
        pair.first.backward(draw((9, CLASSES), 0))


@pytest.mark.parametrize("wrong", [-1, CLASSES, 2**40])
def test_a_label_that_is_none_is_an_error_and_changes_nothing(wrong):
    pair = Pair()
    pair.run((9, 20), steps=5)
    y = targets("labels", 9, 0)
    y[4] = wrong
    with pytest.raises(ValueError, match=str(wrong)):
        pair.step(draw((9, 20), 1), y)
    for p, q in zip(pair.first.parameters(), pair.second.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    pair.run((9, 20), steps=2)


@pytest.mark.parametrize("steps", [0, 5])
def test_a_loss_that_is_not_finite_updates_nothing(steps):
    pair = Pair(make=OPTIMISERS["adam"])
    pair.run((9, 20), steps=steps)
    x = draw((9, 20), 1)
    x[3, 3] = np.nan
    assert np.isnan(pair.step(x, targets("labels", 9, 1)))
    for p, q in zip(pair.first.parameters(), pair.second.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    assert pair.optimizers[0].steps == pair.optimizers[1].steps
    pair.run((9, 20), steps=5)
    assert len(pair.recorded()) == 1


def test_an_infinity_in_an_image_goes_where_it_goes_by_hand():
    build, shape = NETWORKS["winograd"]
    pair = Pair(lambda: ly.Sequential(*[layer for layer in build() if type(layer) is not ly.Dropout]))
    pair.run(shape, steps=5)
    assert len(pair.recorded()) == 1
    x, y = draw(shape, 3), targets("labels", shape[0], 3)
    x[0, 0, 0, 0] = np.inf  # tanh makes it finite; Winograd alone would make a patch of it NaN
    pair.take(x, y)


@pytest.mark.parametrize(
    "change",
    {
        "another dtype": None,
        "values of a parameter": lambda net, o: setattr(net[0].weight, "data", 0.5 * net[0].weight.data),
        "momentum": lambda net, o: setattr(o.groups[0], "momentum", 0.3),
        "no momentum": lambda net, o: setattr(o.groups[0], "momentum", 0.0),
        "nesterov": lambda net, o: setattr(o.groups[0], "nesterov", True),
        "state": lambda net, o: o.load_state_dict(o.state_dict()),
    }.items(),
    ids=lambda change: change[0],
)
def test_what_changes_between_steps_counts(change):
    pair = Pair(make=lambda p: optim.SGD(p, 0.1, momentum=0.9))
    pair.run((9, 20), steps=5)
    if change[1] is None:
        for net in (pair.first, pair.second):
            for parameter in net.parameters():
                parameter.data = parameter.data.astype(np.float64)
        pair.optimizers[0].load_state_dict(pair.optimizers[0].state_dict())
        pair.optimizers[1].load_state_dict(pair.optimizers[1].state_dict())
    else:
        for net, optimizer in zip((pair.first, pair.second), pair.optimizers, strict=True):
            change[1](net, optimizer)
    pair.run((9, 20), steps=5)
    assert pair.recorded()


def test_the_reduction_of_a_loss_may_be_changed():
    loss = losses.SoftmaxCrossEntropy()
    pair = Pair(loss=loss)
    pair.run((9, 20), steps=5)
    loss.reduction = "sum"
    pair.run((9, 20), steps=5)
    assert len(pair.recorded()) == 1


def test_the_number_of_threads_may_be_changed():
    before = fastnn.get_num_threads()
    pair = Pair()
    try:
        for threads in (1, 3, 2):
            fastnn.set_num_threads(threads)
            pair.run((9, 20), steps=4)
            assert len(pair.recorded()) == 1
    finally:
        fastnn.set_num_threads(before)


def test_another_backend_takes_ordinary_steps():
    pair = Pair()
    pair.run((9, 20), steps=5)
    with fastnn.use_backend("numpy"):
        pair.run((9, 20), steps=3)
    pair.run((9, 20), steps=3)


@pytest.mark.parametrize("kind", ["int32 labels", "labels with gaps", "an input with gaps", "read-only"])
def test_what_must_be_copied_first_is_not_recorded(kind):
    pair = Pair()
    for number in range(6):
        x, y = draw((9, 20), number), targets("labels", 9, number)
        if kind == "int32 labels":
            y = y.astype(np.int32)
        elif kind == "labels with gaps":
            y = np.repeat(y, 2)[::2]
        elif kind == "an input with gaps":
            x = np.repeat(x, 2, axis=1)[:, ::2]
        else:
            x.flags.writeable = False
        pair.take(x, y)
    assert not pair.recorded()


def test_layers_and_losses_of_others_are_called_each_time():
    calls = []

    class Own(ly.Linear):
        def forward(self, x, training=False):
            calls.append(training)
            return super().forward(x, training)

    def loss(output, y):
        calls.append("loss")
        return F.softmax_cross_entropy(output, y)

    for build, function in ((lambda: ly.Sequential(Own(20, 5)), F.softmax_cross_entropy), (mlp, loss)):
        calls.clear()
        net = build()
        step = TrainingStep(net, function, optim.SGD(net.parameters(), 0.1))
        for number in range(6):
            step(draw((9, 20), number), targets("labels", 9, number))
        assert len(calls) == 6


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("name", ["forward", "backward", "step"])
def test_a_method_that_somebody_replaces_is_called_each_time(name, steps):
    loss, calls = losses.SoftmaxCrossEntropy(), []
    pair = Pair(loss=loss)
    pair.run((9, 20), steps=steps)
    owner = pair.optimizers[0] if name == "step" else loss
    method = getattr(owner, name)

    def replacement(*args):
        calls.append(name)
        return method(*args)

    setattr(owner, name, replacement)
    pair.step = pair.step if steps and name == "step" else TrainingStep(pair.first, loss, pair.optimizers[0])
    for number in range(5):
        pair.step(draw((9, 20), number), targets("labels", 9, number))
    assert len(calls) == 5


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda step: pickle.loads(pickle.dumps(step))])
def test_a_copy_trains_the_copied_network_alone(duplicate):
    pair = Pair()
    pair.run((9, 20), steps=5)
    step, before = duplicate(pair.step), [p.data.copy() for p in pair.first.parameters()]
    for number in range(5):
        step(draw((9, 20), number), targets("labels", 9, number))
    for p, old in zip(pair.first.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, old)
    pair.run((9, 20), steps=2)


def _train_in_child(pair, queue):
    losses_seen = [pair.step(draw((9, 20), n), targets("labels", 9, n)) for n in range(5)]
    queue.put((losses_seen, [p.data for p in pair.first.parameters()]))


def test_a_forked_child_goes_on_with_the_same_bits():
    context = multiprocessing.get_context("fork")
    pair, queue = Pair(), context.Queue()
    pair.run((9, 20), steps=5)
    child = context.Process(target=_train_in_child, args=(pair, queue))
    child.start()
    losses_seen, data = queue.get(timeout=60)
    child.join()
    assert losses_seen == [pair.step(draw((9, 20), n), targets("labels", 9, n)) for n in range(5)]
    for p, theirs in zip(pair.first.parameters(), data, strict=True):
        np.testing.assert_array_equal(p.data, theirs)


def test_threads_may_train_networks_of_their_own():
    pairs, failed = [Pair() for _ in range(4)], []

    def work(pair):
        try:
            with fastnn.use_backend("numba"):
                for number in range(30):
                    x, y = draw((9, 20), number), targets("labels", 9, number)
                    pair.step(x, y)
                    pair.by_hand(x, y)
                    pair.same()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(pair,)) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_the_batch_may_lie_anywhere_in_memory():
    pair, pool = Pair(), np.empty((40, 9, 20), np.float32)
    for number in range(40):
        pool[number] = draw((9, 20), number)
        pair.take(pool[number], targets("labels", 9, number))
    assert len(pair.recorded()) == 1
