"""kernels/cpu/random.py against kernels/reference/random.py: the same mask, bit for bit, in any memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastnn.kernels.cpu import random as cpu
from fastnn.kernels.reference import random as reference
from tests import cases, parity

words = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", cases.DROPOUT_REAL + cases.ELEMENTWISE_ODD, ids=cases.by_name)
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_dropout_and_its_gradient_match_the_reference_exactly(
    case: cases.Elementwise, dtype, p: float
) -> None:
    x, grad = cases.draw(case.shape, 1, dtype), cases.draw(case.shape, 2, dtype)
    np.testing.assert_array_equal(parity.call(cpu.dropout, x, p, 3, 7), reference.dropout(x, p, 3, 7))
    backward = parity.call(cpu.dropout_backward, grad, p, 3, 7)
    np.testing.assert_array_equal(backward, reference.dropout_backward(grad, p, 3, 7))


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize(
    "shape",
    [(3, 17, 8, 8), (2, 5, 7, 9), (2, 33, 13, 5), (1, 40, 41, 30), (2, 6, 1, 1), (3, 1, 12, 11)],
    ids=str,
)
def test_images_in_channels_last_memory_meet_the_words_of_their_logical_order(shape, dtype) -> None:
    """Of one part of the channels or several; words that begin within a block; pixels turned all at once or
    not."""
    x = parity.arrange(cases.draw(shape, 1, dtype), "channels_last")
    out = parity.call(cpu.dropout, x, 0.4, 3, 7)
    np.testing.assert_array_equal(out, reference.dropout(x, 0.4, 3, 7))
    assert out.strides == x.strides


def test_an_element_whose_word_is_the_threshold_itself_stays() -> None:
    x = np.ones(9, np.float32)
    for i, word in enumerate(reference._random_words(x.size, 3, 7)):
        p = int(word) / 2**32
        assert cpu.dropout(x, p, 3, 7)[i] != 0
        assert cpu.dropout(x, p + 2**-32, 3, 7)[i] == 0


def test_what_is_drawn_at_a_time_fills_its_memory_and_no_more() -> None:
    assert cpu._DRAWN % cpu.words_at_once() == 0
    assert cpu._CHUNK % cpu._DRAWN == 0


@given(
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=12),
    parity.dtypes,
    parity.layouts,
    parity.seeds,
    st.floats(0, 1),
    words,
    words,
    st.booleans(),
)
def test_dropout_matches_for_any_shape_memory_and_stream(
    shape, dtype, layout, seed, p, key, offset, special
) -> None:
    x = parity.floats(seed, shape, dtype)
    if special:
        x = parity.plant(x, seed)
    x = parity.arrange(x, layout)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(
            parity.call(cpu.dropout, x, p, key, offset), reference.dropout(x, p, key, offset)
        )
        backward = parity.call(cpu.dropout_backward, x, p, key, offset)
        np.testing.assert_array_equal(backward, reference.dropout_backward(x, p, key, offset))
