import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import encoder
from gen_jax.common.errors import UserError
from gen_jax.tasks import build_task
from tests.tasks.test_contract import filled


def debug_task(**changes):
    return build_task(encoder.get_config("variant=small,debug").task.to_dict() | changes)


def test_the_teacher_follows_the_student_ever_more_slowly():
    task = debug_task(momentum=0.9, momentum_steps=10)
    student, teacher = {"a": jnp.ones(3)}, {"a": jnp.zeros(3)}
    for updates, rate in ((0, 0.1), (5, 0.05), (10, 0.0), (99, 0.0)):
        out = task._updated({"teacher": teacher, "updates": jnp.int32(updates)}, student)
        np.testing.assert_allclose(out["teacher"]["a"], rate, atol=1e-6)
        assert int(out["updates"]) == updates + 1


def test_masks_cover_their_share_of_the_second_view_alone():
    task = debug_task(mask_ratio=0.25)
    masked, where = task._masks(jax.random.key(0), 8)
    assert masked.shape == (16, 4, 4) and where.shape == (8, 4)
    assert not masked[:8].any() and (masked[8:].sum((1, 2)) == 4).all()
    for row, places in zip(np.asarray(masked[8:]).reshape(8, 16), np.asarray(where)):
        np.testing.assert_array_equal(np.flatnonzero(row), np.sort(places))


def test_weights_add_the_terms_up_and_views_follow_their_key():
    task = debug_task()
    params, extra = filled(task)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)), jnp.uint8)
    run = jax.jit(lambda keys: task.losses()["model"](
        params["model"], params, extra, {"image": image}, keys, {}
    ))  # fmt: skip
    keys = {"views": jax.random.key(0), "mask": jax.random.key(1)}
    loss, (metrics, _) = run(keys)
    names = ("dino", "ibot", "koleo")
    want = sum(getattr(task, f"{n}_weight") * metrics[f"model/{n}"] for n in names)
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    assert run(keys)[0] == loss != run(keys | {"views": jax.random.key(2)})[0]


def test_a_recipe_without_masks_has_no_patch_head():
    task = debug_task(ibot_weight=0.0, encoder=tiny(use_mask_token=False))
    assert not task.masks
    params, _ = filled(task)
    assert set(params["model"]) == {"backbone", "head"}


def tiny(**changes):
    return encoder.get_config("variant=small,debug").task.encoder.to_dict() | changes


@pytest.mark.parametrize(
    "changes,word",
    [
        ({"dino_wight": 1.0}, "dino_wight"),
        ({"encoder": {"width": 3}}, "width"),
        ({"global_views": {"size": 15}}, "global_views.size=15"),
        ({"mask_ratio": 0.0}, "use_mask_token"),
    ],
)
def test_mistakes_are_named(changes, word):
    with pytest.raises(UserError, match=word):
        debug_task(**changes)


def test_a_missing_part_is_named():
    config = encoder.get_config("variant=small,debug").task.to_dict()
    config.pop("head")
    with pytest.raises(UserError, match=r"config\.task\.head is missing"):
        build_task(config)
