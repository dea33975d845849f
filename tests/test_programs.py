"""A recorded forward and backward: the same bits as layer by layer, whatever happens in between."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
import threading
import weakref

import numpy as np
import pytest

import fastnn
from fastnn import layers as ly
from fastnn import optim
from fastnn.layers import _programs

pytestmark = pytest.mark.usefixtures("_numba")


@pytest.fixture(name="_numba")
def numba_backend():
    with fastnn.use_backend("numba"):
        yield


def mlp(dtype=np.float32):
    return ly.Sequential(ly.Linear(20, 16, dtype=dtype), ly.Sigmoid(), ly.Linear(16, 5, dtype=dtype))


def lenet():
    return ly.Sequential(
        *(ly.Conv2d(1, 6, 5), ly.ReLU(), ly.MaxPool2d(2), ly.Conv2d(6, 8, 3), ly.ReLU(), ly.MaxPool2d(2)),
        *(ly.Flatten(), ly.Linear(32, 24), ly.ReLU(), ly.Dropout(0.4), ly.Linear(24, 5)),
    )


def winograd():
    return ly.Sequential(
        *(ly.Conv2d(16, 16, 3, padding=1), ly.Tanh(), ly.Conv2d(16, 16, 3, padding=1), ly.MaxPool2d(2)),
        *(ly.Flatten(), ly.Dropout(0.2), ly.Linear(16 * 36, 5)),
    )


def unbiased():
    return ly.Sequential(
        *(ly.Conv2d(3, 16, 3, padding=1, bias=False), ly.MaxPool2d(2), ly.ReLU()),
        *(ly.Conv2d(16, 16, 3, padding=1, bias=False), ly.Tanh()),
        *(
            ly.Conv2d(16, 32, 3, padding=1, bias=False),
            ly.MaxPool2d(2),
            ly.Flatten(),
            ly.Linear(288, 5, bias=False),
        ),
    )


def mixed():
    return ly.Sequential(
        *(ly.Conv2d(3, 8, 3, stride=2, groups=1, bias=False), ly.LeakyReLU(0.1), ly.AvgPool2d(2)),
        *(ly.Conv2d(8, 8, 2, groups=2), ly.GELU(), ly.Flatten(), ly.Sequential(ly.Linear(32, 5), ly.Tanh())),
    )


def dropping():
    return ly.Sequential(
        *(ly.Conv2d(3, 8, 3), ly.ReLU(), ly.MaxPool2d(2), ly.Dropout(0.3), ly.Conv2d(8, 20, 3), ly.Tanh()),
        *(ly.Dropout(0.2), ly.Flatten(), ly.Linear(180, 5)),
    )


NETWORKS = {
    "mlp": (mlp, (9, 20)),
    "mlp of float64": (lambda: mlp(np.float64), (9, 20)),
    "lenet": (lenet, (7, 1, 18, 18)),
    "lenet, one image": (lenet, (1, 1, 18, 18)),
    "winograd": (winograd, (6, 16, 12, 12)),
    "dropout of images": (dropping, (5, 3, 12, 12)),
    "without biases": (unbiased, (6, 3, 12, 12)),
    "mixed": (mixed, (4, 3, 14, 14)),
    "a layer": (lambda: ly.Sequential(ly.Linear(20, 5)), (3, 20)),
}
each = pytest.mark.parametrize(("build", "shape"), NETWORKS.values(), ids=NETWORKS)


def draw(shape, seed, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def twins(build):
    """Two networks with the same weights, the second without programs."""
    fastnn.seed(1)
    first = build()
    second = copy.deepcopy(first)
    second._programs = None
    return first, second


def train(net, shape, steps, input_grad, seed=5):
    """Outputs, gradients and weights of some steps, each on other numbers."""
    fastnn.seed(seed)
    dtype = net.parameters()[0].data.dtype
    sgd, seen = optim.SGD(net.parameters(), 0.01, momentum=0.5), []
    for step in range(steps):
        out = net(draw(shape, step, dtype), training=True)
        back = net.backward(draw(out.shape, 100 + step, dtype), input_grad)
        seen += [out, back, *(p.grad.copy() for p in net.parameters())]
        sgd.step()
    return [*seen, *(p.data for p in net.parameters())]


def same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        if b is None:
            assert a is None
        else:
            np.testing.assert_array_equal(a, b)


def programs(net):
    return [found for found in net._programs._found.values() if type(found) is _programs._Forward]


@each
@pytest.mark.parametrize("input_grad", [False, True])
def test_training_with_programs_gives_the_bits_of_training_without(build, shape, input_grad):
    net, plain = twins(build)
    same(train(net, shape, 8, input_grad), train(plain, shape, 8, input_grad))
    (forward,) = programs(net)
    assert [type(back) for back in forward._backwards.values()] == [_programs._Backward]


@each
def test_inference_with_programs_gives_the_bits_of_inference_without(build, shape):
    net, plain = twins(build)
    dtype = net.parameters()[0].data.dtype
    kept = [net(draw(shape, i, dtype)) for i in range(6)]  # later calls must not write into earlier results
    same(kept, [plain(draw(shape, i, dtype)) for i in range(6)])
    assert len(programs(net)) == 1


def ready(build, shape, training=True):
    """Twins, the first with its programs made."""
    net, plain = twins(build)
    for i in range(5):
        x = draw(shape, i)
        out = net(x, training=training)
        if training:
            net.backward(np.ones_like(out))
    assert len(programs(net)) == 1
    return net, plain


def agree(net, plain, x):
    """A step of both from the same random stream."""
    results = []
    for model in (net, plain):
        fastnn.seed(7)
        out = model(x, training=True)
        results.append([out, model.backward(np.ones_like(out)), *(p.grad for p in model.parameters())])
    same(*results)


def test_weights_changed_in_place_or_assigned_count_at_once():
    net, plain = ready(lenet, (7, 1, 18, 18))
    for model in (net, plain):
        model[0].weight.data[...] *= 2
        model[-1].bias.data = np.arange(5, dtype=np.float32)
    agree(net, plain, draw((7, 1, 18, 18), 9))


def test_a_parameter_exchanged_for_another_counts_at_once():
    net, plain = ready(mlp, (9, 20))
    other = ly.Parameter("other", draw((16, 5), 3))
    for model in (net, plain):
        model[2].weight = copy.deepcopy(other)
    agree(net, plain, draw((9, 20), 9))
    net[2].bias = plain[2].bias = None
    agree(net, plain, draw((9, 20), 10))


def test_weights_moved_to_float64_are_refused_float32_as_ever():
    net, _ = ready(mlp, (9, 20))
    for parameter in net.parameters():
        parameter.data = parameter.data.astype(np.float64)
    with pytest.raises(TypeError, match="float64"):
        net(draw((9, 20), 9), training=True)
    assert net(draw((9, 20), 9, np.float64)).dtype == np.float64


def test_a_changed_option_of_a_layer_counts_at_once():
    net, plain = ready(lenet, (7, 1, 18, 18))
    net[9].p = plain[9].p = 0.9
    agree(net, plain, draw((7, 1, 18, 18), 9))


def test_a_layer_called_alone_in_between_is_what_its_backward_belongs_to():
    net, plain = ready(mlp, (9, 20))
    x, hidden = draw((9, 20), 9), draw((9, 16), 10)
    results = []
    for model in (net, plain):
        model(x, training=True)
        model[2].forward(hidden, training=True)
        results.append([model.backward(np.ones((9, 5), np.float32)), *(p.grad for p in model.parameters())])
    same(*results)


def test_inference_in_between_leaves_nothing_for_a_backward():
    net, _ = ready(mlp, (9, 20))
    net(draw((9, 20), 1), training=True)
    net(draw((9, 20), 2))
    with pytest.raises(RuntimeError, match="training=True"):
        net.backward(np.ones((9, 5), np.float32))


def test_layers_keep_for_their_own_backwards_what_they_would_without_programs():
    net, plain = ready(mlp, (9, 20))
    x, grad = draw((9, 20), 9), draw((9, 5), 10)
    results = []
    for model in (net, plain):
        model(x, training=True)
        back = grad
        for layer in reversed(tuple(model)):
            back = layer.backward(back)
        results.append([back, *(p.grad for p in model.parameters())])
    same(*results)


def test_numbers_that_are_not_finite_spread_as_without_programs_and_draw_no_stream_twice():
    shape = (6, 16, 12, 12)
    net, plain = ready(winograd, shape)
    x = draw(shape, 9)
    x[2, 3, 4, 5] = np.inf
    results = []
    for model in (net, plain):
        fastnn.seed(7)
        outs = [model(x, training=True), model(draw(shape, 10), training=True)]
        results.append([*outs, model.backward(np.ones_like(outs[1])), *(p.grad for p in model.parameters())])
    same(*results)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.asfortranarray(x),
        lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        lambda x: np.repeat(x, 2, axis=3)[..., ::2],
        lambda x: (x.setflags(write=False), x)[1],
    ],
    ids=["Fortran order", "channels-last", "with gaps", "read-only"],
)
def test_inputs_in_any_memory_give_the_same(change):
    net, plain = twins(winograd)
    for i in range(6):
        agree(net, plain, change(draw((6, 16, 12, 12), i)))


def test_what_python_computes_between_kernels_is_never_recorded(monkeypatch):
    from fastnn.kernels.cpu import activation

    monkeypatch.setattr(activation, "sigmoid_backward", lambda grad, out: grad * out * (1 - out))
    net, plain = twins(mlp)
    same(train(net, (9, 20), 8, True), train(plain, (9, 20), 8, True))
    (forward,) = programs(net)
    assert list(forward._backwards.values()) == [None]


def test_more_memory_than_a_program_may_keep_is_not_kept(monkeypatch):
    from fastnn.kernels.cpu import _program

    monkeypatch.setattr(_program, "_MOST", 9 * 16 * 4 - 1)
    net, plain = twins(mlp)
    same(train(net, (9, 20), 6, True), train(plain, (9, 20), 6, True))
    assert list(net._programs._found.values()) == [None]


def test_programs_are_few_however_many_shapes_come():
    net, plain = twins(mlp)
    for n in range(1, 90):
        for _ in range(4 if n < 20 else 1):
            np.testing.assert_array_equal(net(draw((n, 20), n)), plain(draw((n, 20), n)))
    assert len(programs(net)) <= 8
    assert len(net._programs._found) <= 64


def test_a_layer_of_the_users_own_runs_as_written():
    class Doubled(ly.Linear):
        def forward(self, x, training=False):
            return 2 * super().forward(x, training)

    net = ly.Sequential(Doubled(20, 5), ly.ReLU())
    assert net._programs is None
    patched = ly.Sequential(ly.Linear(20, 5), ly.ReLU())
    own = ly.Linear(20, 5)
    own.forward = lambda x, training=False: x[:, :5]
    assert ly.Sequential(own, ly.ReLU())._programs is None
    assert patched._programs is not None


def test_copies_and_pickles_start_without_programs_and_agree():
    net, _ = ready(mlp, (9, 20), training=False)
    x = draw((9, 20), 9)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other._programs is not net._programs
        for _ in range(5):
            np.testing.assert_array_equal(other(x), net(x))
        other[0].weight.data[...] = 0
        assert not np.array_equal(other(x), net(x))


def test_threads_that_share_a_model_at_inference_each_get_their_own_result():
    net, plain = ready(lenet, (7, 1, 18, 18), training=False)
    inputs = [draw((7, 1, 18, 18), i) for i in range(4)]
    expected, wrong = [plain(x) for x in inputs], []

    def run(x, out):
        with fastnn.use_backend("numba"):
            for _ in range(300):
                if not np.array_equal(net(x), out):
                    wrong.append(x)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(inputs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_another_number_of_threads_gives_the_same_bits():
    net, plain = ready(winograd, (6, 16, 12, 12))
    before = fastnn.get_num_threads()
    try:
        for n in (1, 3, before):
            fastnn.set_num_threads(n)
            for _ in range(5):  # the programs of before are given up, and new ones made
                agree(net, plain, draw((6, 16, 12, 12), n))
            (forward,) = programs(net)
            assert forward.valid()
            assert [type(back) for back in forward._backwards.values()] == [_programs._Backward]
    finally:
        fastnn.set_num_threads(before)


def _in_child(net, x, queue):
    queue.put(net(x))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_child_computes_the_same():
    net, plain = ready(mlp, (9, 20), training=False)
    context, x = multiprocessing.get_context("fork"), draw((9, 20), 9)
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(net, x, queue))
    child.start()
    got = queue.get(timeout=60)
    child.join(timeout=60)
    np.testing.assert_array_equal(got, plain(x))


@each
def test_a_network_that_is_let_go_of_takes_its_arrays_along_at_once(build, shape):
    def held():
        net = build()
        train(net, shape, 8, True)
        assert programs(net)
        x = draw(shape, 0, net.parameters()[0].data.dtype)
        net(x, training=True)  # keeps x for its backward
        return weakref.ref(net), weakref.ref(x)

    gc.collect()
    gc.disable()  # which would find what holds itself, some time
    try:
        net, x = held()
        assert (net(), x()) == (None, None)
    finally:
        gc.enable()
