import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.parallel import sharding
from gen_jax.parallel.mesh import make_mesh


def test_minus_one_takes_the_rest():
    assert dict(make_mesh({"fsdp": -1, "tensor": 2}).shape) == {
        "replica": 1, "fsdp": 4, "tensor": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "shape,word",
    [
        ({"fsdp": 3}, "does not fit the 8 devices"),
        ({"fsdp": -1, "tensor": 3}, "does not fit"),
        ({"fsdp": 16}, "does not fit"),
        ({"data": 8}, "unknown axis 'data'"),
        ({"fsdp": 0}, "positive"),
        ({"fsdp": -1, "tensor": -1}, "at most one"),
    ],
)
def test_impossible_meshes(shape, word):
    with pytest.raises(UserError, match=word):
        make_mesh(shape)


def spec(shape, rules, mesh=None, name="w"):
    mesh = mesh or make_mesh({"replica": 1, "fsdp": 4, "tensor": 2})
    tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32)}
    return sharding.shard_tree(tree, rules, mesh)[name].spec


def test_tactics():
    assert tuple(spec((3, 3, 64, 128), [(".*", "fsdp")])) == (None, None, None, "fsdp")
    assert tuple(spec((3, 3, 128, 6), [(".*", "fsdp")])) == (None, None, "fsdp", None)
    assert tuple(spec((3, 3, 64, 128), [(".*", "tensor(-1)")])) == (None, None, "fsdp", "tensor")
    assert tuple(spec((64, 64), [("w", "replicate"), (".*", "fsdp")])) == ()
    assert tuple(spec((7, 201), [(".*", "fsdp")])) == (None, None)  # nothing divides
    assert tuple(spec((8, 8), [(".*", "fsdp")])) == (None, None)  # too small to be worth it
    assert tuple(spec((), [])) == ()  # scalars need no rule


def test_mistakes():
    with pytest.raises(UserError, match="no rule matches 'w'"):
        spec((64, 64), [("other", "fsdp")])
    with pytest.raises(UserError, match="unknown tactic 'split'"):
        spec((64, 64), [(".*", "split")])
    with pytest.raises(UserError, match="cannot be split"):
        spec((64, 63), [(".*", "tensor(1)")])
    with pytest.raises(UserError, match="is no pattern"):
        spec((64, 64), [("(", "fsdp")])
    with pytest.raises(UserError, match="expected pairs of a regular expression and a tactic"):
        spec((64, 64), "(")


def test_a_tensor_group_must_lie_inside_one_process():
    from gen_jax.parallel import mesh as mesh_lib

    class Device:
        def __init__(self, process_index):
            self.process_index = process_index

    class Stub:
        def __init__(self, owners):
            self.shape = {"replica": 1, "fsdp": 2, "tensor": 2}
            self.devices = np.array([[[Device(o) for o in row] for row in owners]])

    mesh_lib._check_processes(Stub([[0, 0], [1, 1]]), {})
    with pytest.raises(UserError, match="spans several processes"):
        mesh_lib._check_processes(Stub([[0, 1], [0, 1]]), {})
