"""Trees of plain data survive the way to disk and back bit for bit, with their sharing and memory order."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from polytheory._trees import layout, pack, same_bits, unpack
from polytheory.errors import CheckpointError


def there_and_back(x: Any, template: Any) -> Any:
    packed = pack(x, known=layout(template))
    packed.tree = json.loads(json.dumps(packed.tree, allow_nan=False))
    return unpack(packed, template)


numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
dtypes = st.sampled_from([np.float64, np.float32, np.int64, np.bool_, np.complex128, np.uint8, np.dtype("U3")])
leaves = numbers | arrays.arrays(dtypes, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
trees = st.recursive(
    leaves,
    lambda x: (
        st.lists(x, max_size=3) | st.tuples(x, x) | st.dictionaries(st.text(max_size=3) | st.integers(), x, max_size=3)
    ),
    max_leaves=8,
)


@given(tree=trees)
def test_plain_trees_need_no_template(tree):
    back = there_and_back(tree, None)
    assert_same(back, tree)


def assert_same(a: Any, b: Any) -> None:
    """Equality by type and bits, by walking the trees (not through `pack`)."""
    assert type(a) is type(b)
    if isinstance(b, np.ndarray):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    elif isinstance(b, dict):
        assert list(a) == list(b)
        for key in b:
            assert_same(a[key], b[key])
    elif isinstance(b, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(b, float):
        assert np.float64(a).tobytes() == np.float64(b).tobytes() or (np.isnan(a) and np.isnan(b))
    else:
        assert a == b


class Phase(Enum):
    INNER = 1
    OUTER = 2


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass(frozen=True, eq=False)
class Inner:
    phase: Phase
    pair: Pair
    counts: OrderedDict
    doubled: Any = field(init=False, default=None)


def inner(phase: Phase, x: float) -> Inner:
    made = Inner(phase, Pair(np.float32(x), [x]), OrderedDict(b=1, a=x))
    object.__setattr__(made, "doubled", 2 * x)
    return made


def test_classes_come_back_from_the_template():
    back = there_and_back([inner(Phase.OUTER, 3.0), 5], [inner(Phase.INNER, 0.0), None])
    assert isinstance(back[0], Inner)
    assert back[0].phase is Phase.OUTER
    assert back[0].doubled == 6.0
    assert isinstance(back[0].pair, Pair)
    assert isinstance(back[0].pair.left, np.float32)
    assert isinstance(back[0].counts, OrderedDict)
    assert list(back[0].counts.items()) == [("b", 1), ("a", 3.0)]


def test_a_template_of_other_fields_is_refused():
    packed = pack(inner(Phase.OUTER, 1.0))
    for template in (None, Pair(1, 2), 3):
        with pytest.raises(CheckpointError, match="fields"):
            unpack(packed, template)
    with pytest.raises(CheckpointError, match="choice OUTER"):
        unpack(pack(Phase.OUTER), None)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_memory_order_is_kept_because_sums_follow_it(axes):
    x = np.random.default_rng(0).normal(size=(5, 7, 11)).transpose(axes)
    back = there_and_back(x, None)
    assert back.strides == x.strides
    np.testing.assert_array_equal(back, x)
    t = torch.from_numpy(x)
    again = there_and_back(t, None)
    assert again.stride() == t.stride()
    assert torch.equal(again, t)


def test_one_array_under_two_names_stays_one():
    x, y = np.zeros(3), torch.zeros(3)
    back = there_and_back({"a": x, "b": [x], "c": x.copy(), "s": y, "t": y, "u": y.clone()}, None)
    assert back["a"] is back["b"][0]
    assert back["a"] is not back["c"]
    assert back["s"] is back["t"]
    assert back["s"] is not back["u"]


def test_arrays_made_on_the_way_are_never_mistaken_for_each_other():
    class Fresh:
        """Every call makes new arrays, whose addresses are soon used again."""

        def __init__(self, x: float):
            self.x = x

        def state_dict(self):
            return {"x": np.full(4, self.x)}

        def load_state_dict(self, state):
            self.x = float(state["x"][0])

    back = there_and_back([Fresh(float(i)) for i in range(50)], [Fresh(-1.0) for _ in range(50)])
    assert [f.x for f in back] == list(range(50))


def test_overlapping_tensors_come_back_apart():
    x = torch.arange(6.0)
    back = there_and_back([x, x[2:], x[::2]], None)
    assert [t.tolist() for t in back] == [x.tolist(), x[2:].tolist(), x[::2].tolist()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.bool])
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)])
def test_tensor_dtypes(dtype, shape):
    x = torch.ones(shape, dtype=dtype)
    back = there_and_back(x, None)
    assert (back.dtype, back.shape) == (x.dtype, x.shape)
    assert torch.equal(back, x)


def test_a_parameter_is_filled_in_place_so_that_its_optimiser_still_holds_it():
    def make():
        theta = torch.zeros(3, requires_grad=True)
        return {"theta": theta, "optimiser": torch.optim.SGD([theta], lr=0.1, momentum=0.9), "copy": None}

    state = make()
    with torch.no_grad():
        state["theta"] += 2
    state["copy"] = state["theta"]
    back = there_and_back(state, make())
    assert back["optimiser"].param_groups[0]["params"][0] is back["theta"]
    assert back["theta"].tolist() == [2, 2, 2]
    assert back["copy"] is back["theta"]
    first = {"copy": None, **make()}
    back = there_and_back({"copy": state["theta"], "theta": state["theta"], "optimiser": state["optimiser"]}, first)
    assert back["optimiser"].param_groups[0]["params"][0] is back["theta"]
    apart = make()
    twin = {**make(), "copy": torch.ones(3, requires_grad=True)}
    apart["copy"] = apart["theta"]  # shared in the fresh state, apart when saved
    back = there_and_back(twin, apart)
    assert (back["theta"].tolist(), back["copy"].tolist()) == ([0, 0, 0], [1, 1, 1])


def test_tied_weights_are_stored_once():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    assert len(pack(net).tensors) == 1


@given(tree=trees, other=trees)
def test_same_bits_agrees_with_a_walk(tree, other):
    assert same_bits(pack(tree), pack(tree)) is None
    try:
        assert_same(tree, other)
        equal = True
    except AssertionError:
        equal = False
    assert (same_bits(pack(tree), pack(other)) is None) == equal


@pytest.mark.parametrize(
    ("a", "b", "place"),
    [
        ({"v": [1.0, 2.0]}, {"v": [1.0, 3.0]}, "2.0 against 3.0"),
        ({"v": np.zeros(2)}, {"v": -np.zeros(2)}, "array"),
        (inner(Phase.OUTER, 1.0), inner(Phase.INNER, 1.0), ".phase"),
        ([torch.zeros(2)], [torch.zeros(2, dtype=torch.float64)], "tensor"),
    ],
)
def test_differences_are_named(a, b, place):
    assert place in str(same_bits(pack(a), pack(b)))
