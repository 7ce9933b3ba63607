import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import encoder
from gen_jax.common.errors import UserError
from gen_jax.encoders import dinov2
from gen_jax.tasks import build_task, towers
from tests.tasks.test_contract import filled


def debug_task(**changes):
    return build_task(encoder.get_config("debug").task.to_dict() | changes)


def tiny(**changes):
    return encoder.get_config("debug").task.encoder.to_dict() | changes


def losses_of(task, params, image):
    keys = {"views": jax.random.key(0), "mask": jax.random.key(1)}
    run = jax.jit(lambda p: task._loss(p, p, {}, {"image": image}, keys, {}))
    loss, (metrics, _) = run(params)
    return float(loss), {k.removeprefix("model/"): float(v) for k, v in metrics.items()}


def test_the_laptop_recipe_is_the_packaged_tower():
    task = build_task(encoder.get_config("").task.to_dict())
    assert task.encoder == dinov2.DINOv2(**dinov2.TINY)
    assert dinov2.from_hf_config(dinov2.to_hf_config(task.encoder)) == task.encoder
    other = dinov2.DINOv2(num_register_tokens=4, antialias=True, patch_size=16)
    assert dinov2.from_hf_config(dinov2.to_hf_config(other)) == other


def test_saying_the_mean_costs_one_for_each_kind():
    task = debug_task(mask_prob=0.0)
    params, _ = filled(task)
    silent = {k: jax.tree.map(jnp.zeros_like, params["model"][k]) for k in ("head", "layout_head")}
    model = params["model"] | silent
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3)), jnp.uint8)
    loss, found = losses_of(task, model, image)
    for name in ("fine", "coarse", "color", "layout"):
        assert 0.3 < found[name] <= 1.0, name
    assert found["hidden"] == 0.0
    want = found["fine"] + found["coarse"] + 0.5 * found["color"] + 0.5 * found["layout"]
    np.testing.assert_allclose(loss, want, rtol=1e-5)


def test_some_of_the_views_are_masked_and_weigh_less():
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)), jnp.uint8)
    params, _ = filled(debug_task())
    weighed = {
        w: losses_of(debug_task(masked_weight=w), params["model"], image) for w in (0.0, 1.0)
    }
    hidden = weighed[0][1]["hidden"]
    # 6 of 16 patches in a quarter of the views.
    np.testing.assert_allclose(weighed[1][0] - weighed[0][0], hidden * 6 / 16 / 4, rtol=1e-4)


def test_masks_cover_their_share_and_hang_together():
    masked, where = towers.random_masks(jax.random.key(0), 64, 6, 0.25)
    assert masked.shape == (64, 6, 6) and where.shape == (64, 9)
    assert (masked.sum((1, 2)) == 9).all()
    pairs = (masked[:, 1:] & masked[:, :-1]).sum() / masked.sum()
    assert pairs > 0.4  # scattered ones: 0.2


@pytest.mark.parametrize(
    "changes,word",
    [
        ({"mask_ratoi": 1.0}, "mask_ratoi"),
        ({"views": {"size": 15}}, "views.size=15"),
        ({"encoder": tiny(use_mask_token=False)}, "use_mask_token=False"),
    ],
)
def test_mistakes_are_named(changes, word):
    with pytest.raises(UserError, match=word):
        debug_task(**changes)
