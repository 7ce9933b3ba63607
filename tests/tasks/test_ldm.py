"""What the latent diffusion task tells its UNet."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ldm
from gen_jax.common.errors import UserError
from gen_jax.diffusion import make_process, samplers
from gen_jax.diffusion.samplers import SamplerOptions
from gen_jax.tasks import build_task
from gen_jax.tasks.ldm import LDMTask
from tests.tasks import plain_ldm


@pytest.fixture(scope="module")
def task():
    config = ldm.get_config("debug,data=photos,vae=train")
    vae = build_task(config.requires.vae.task.to_dict())
    return build_task(config.task.to_dict(), {"vae": vae})


def text(task):
    length = task.text_encoder.max_length
    tokens = np.arange(2 * length, dtype=np.int32).reshape(2, length)
    mask = np.arange(length)[None] < np.array([[3], [length]])
    return jnp.asarray(tokens), jnp.asarray(mask)


def test_padding_is_not_in_the_pooled_text(task):
    tokens, mask = text(task)
    params = drawn(task)
    pool = jax.jit(lambda *text: task._text(params, {}, *text)["class_labels"])
    pooled = pool(tokens, mask)
    np.testing.assert_allclose(pooled, pool(jnp.where(mask, tokens, 7), mask), atol=1e-5)
    heard = pool(jnp.where(mask, 7, tokens), mask)
    assert (np.abs(heard - pooled).max(axis=1) > 0.1).all()
    assert np.isfinite(pool(tokens, jnp.zeros_like(mask))).all()


def test_the_unet_is_told_where_each_position_is(task):
    z = jnp.full((2, 4, 6, 4), 5.0)
    placed, _ = task._inputs(z, {})
    np.testing.assert_array_equal(placed[..., :4], z)
    rows, columns = placed[0, ..., 4], placed[0, ..., 5]
    edge = 3**0.5
    np.testing.assert_allclose(rows[:, 0], np.linspace(-edge, edge, 4), rtol=1e-6)
    np.testing.assert_allclose(columns[0], np.linspace(-edge, edge, 6), rtol=1e-6)
    assert np.ptp(rows, axis=1).max() == 0 and np.ptp(columns, axis=0).max() == 0
    assert task.unet.in_channels == task.latent_shape[2] + 2


def test_stable_diffusion_sizes_are_told_nothing_more():
    for variant in ("sd15", "sd2"):
        config = ldm.get_config(f"variant={variant},data=somewhere")
        assert not config.task.use_coordinates
        assert "class_embed_type" not in config.task.unet


def drawn(task):
    """Parameters of normal numbers."""

    def init():
        batch = {k: jnp.zeros((2, *s.shape), s.dtype) for k, s in task.batch_spec().items()}
        return task.init(jax.random.key(0), batch)[0]["model"]

    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda s: jnp.asarray(0.1 * rng.normal(size=s.shape), s.dtype), jax.eval_shape(init)
    )


def filled_vae(task):
    """Parameters of normal numbers for the autoencoder, whose latents are not rescaled."""
    side = task.image_size
    vae = jax.eval_shape(
        lambda key: task.autoencoder.init(key, jnp.zeros((1, side, side, 3)), key),
        jax.random.key(0),
    )["params"]
    rng = np.random.default_rng(1)
    vae = jax.tree.map(lambda s: jnp.asarray(0.2 * rng.normal(size=s.shape), s.dtype), vae)
    channels = task.latent_shape[-1:]
    return {"params": vae, "latent_mean": jnp.zeros(channels), "latent_std": jnp.ones(channels)}


def test_an_image_is_its_seed_whatever_else_is_drawn(task):
    noisy = dataclasses.replace(task, sampler="ddpm", num_inference_steps=2, guidance_scale=2.0)
    frozen = filled_vae(task)
    generate = jax.jit(noisy.predict_fns()["generate"])

    def images(params, *seeds, **more):
        tokens, mask = (v[:1].repeat(2, 0) for v in text(task))
        batch = {"tokens": tokens, "token_mask": mask, "seed": jnp.array(seeds, jnp.uint32), **more}
        return generate({"params": {"model": params}}, batch, {}, {"vae": frozen})

    params = drawn(noisy)
    first, second = images(params, 3, 5), images(params, 5, 7)
    np.testing.assert_array_equal(first["latent"][1], second["latent"][0])
    assert np.abs(np.asarray(first["latent"][0] - second["latent"][0])).max() > 0.1
    assert first["finite"].all()
    # The noise of the steps is the seed's, too, and not that of the first one alone.
    x_T = jnp.zeros((2, *task.latent_shape))
    moved = images(params, 3, 5, x_T=x_T)["latent"]
    assert np.abs(np.asarray(moved[0] - moved[1])).max() > 0.01
    x_T = x_T.at[1, 0, 0, 0].set(jnp.nan)
    assert images(params, 3, 5, x_T=x_T)["finite"].tolist() == [True, False]


def test_dropout_of_the_unet_is_applied_in_training_alone(task):
    dropped: LDMTask = dataclasses.replace(task, unet=task.unet.clone(dropout=0.9))
    params = drawn(dropped)
    x, t = jnp.ones((2, *task.latent_shape)), jnp.full((2,), 0.5)

    @jax.jit
    def outputs(key):
        cond = dropped._text(params, {}, *text(dropped))
        return dropped._unet(params, x, t, cond, key), dropped._unet(params, x, t, cond)

    (first, still), (second, still_again) = outputs(jax.random.key(0)), outputs(jax.random.key(1))
    np.testing.assert_array_equal(still, still_again)
    assert np.abs(first - second).max() > 1e-3


def test_the_layout_of_the_text_joins_the_latent():
    config = ldm.get_config("debug,vae=train")
    vae = build_task(config.requires.vae.task.to_dict())
    task = build_task(config.task.to_dict(), {"vae": vae})
    channels = task.latent_shape[2]
    assert task.unet.in_channels == channels + 2 + task.layout_channels > channels + 2
    params, (tokens, mask) = drawn(task), text(task)
    read = jax.jit(lambda tokens: task._text(params, {}, tokens, mask))
    cond = read(tokens)
    x = jnp.ones((2, *task.latent_shape))
    seen, _ = task._inputs(x, cond)
    np.testing.assert_array_equal(seen[..., :channels], x)
    layout = seen[..., channels:-2]
    assert np.ptp(layout, axis=(1, 2)).min() > 1e-3, "numbers of its own for each position"
    assert np.abs(layout[0] - layout[1]).max() > 1e-3
    same = read(jnp.where(mask, tokens, 7))["layout"]
    np.testing.assert_allclose(same, layout, atol=1e-5)  # padding is no text
    predict = jax.jit(lambda cond: task._unet(params, x, jnp.full((2,), 0.5), cond))
    assert np.abs(predict(cond) - predict({**cond, "layout": 0 * layout})).max() > 1e-5
    wide, _ = task._inputs(jnp.ones((2, 2 * x.shape[1], 3 * x.shape[2], channels)), cond)
    assert wide.shape == (2, 2 * x.shape[1], 3 * x.shape[2], seen.shape[-1])


def test_patches_of_latents_go_in_and_come_back_in_their_places(task):
    class Unchanged(type(task.unet)):
        """Gives back the latents that it is shown."""

        def apply(self, variables, x, t, **cond):
            return x[..., :16]

    patched = dataclasses.replace(task, patch_size=2, unet=Unchanged())
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 4))
    seen, _ = patched._inputs(x, {})
    assert seen.shape == (2, 2, 3, 4 * 4 + 2)
    np.testing.assert_array_equal(seen[1, 1, 2, :16], x[1, 2:4, 4:6].reshape(-1))
    back = patched._unet({"unet": {}}, x, jnp.full((2,), 0.5), {})
    np.testing.assert_array_equal(back, x)


def test_patches_change_what_the_unet_takes_not_what_a_latent_is(task):
    config = ldm.get_config("debug,data=photos,vae=train")
    vae = build_task(config.requires.vae.task.to_dict())
    values = {**config.task.to_dict(), "patch_size": 2}
    patched = build_task(values, {"vae": vae})
    assert patched.latent_shape == task.latent_shape
    assert patched.unet.sample_size == task.latent_shape[0] // 2
    assert patched.unet.in_channels == 4 * task.latent_shape[2] + 2
    assert patched.unet.out_channels == 4 * task.latent_shape[2]
    for wrong in (3, 0, "2"):
        with pytest.raises(UserError, match="patch_size="):
            build_task({**values, "patch_size": wrong}, {"vae": vae})


def test_a_guidance_interval_must_be_one(task):
    config = ldm.get_config("debug,data=photos,vae=train")
    vae = build_task(config.requires.vae.task.to_dict())
    values = config.task.to_dict()
    # JSON knows no tuples.
    held = build_task({**values, "guidance_interval": [0.6, 1.0]}, {"vae": vae})
    assert held.guidance_interval == (0.6, 1.0)
    for wrong in (0.6, (0.6,), (0.7, 0.2), (0.0, 1.5)):
        with pytest.raises(UserError, match="guidance_interval="):
            build_task({**values, "guidance_interval": wrong}, {"vae": vae})


def test_sampler_options_of_a_config_reach_the_sampler():
    config = ldm.get_config("debug,vae=train")
    vae = {"vae": build_task(config.requires.vae.task.to_dict())}
    values = {k: v for k, v in config.task.to_dict().items() if k != "sampler_options"}
    assert build_task(values, vae).sampler_options == SamplerOptions()
    given = {"timestep_spacing": "leading", "steps_offset": 1}
    built = build_task({**values, "sampler_options": given}, vae)
    assert built.sampler_options == SamplerOptions(**given)
    for wrong, message in (
        ({"spacing": "leading"}, "config.task.sampler_options: unknown key 'spacing'"),
        ({"eta": 2.0}, "sampler_options.eta=2.0: expected a number from 0 to 1"),
    ):
        with pytest.raises(UserError, match=message):
            build_task({**values, "sampler_options": wrong}, vae)


@pytest.mark.parametrize("sampler", ["pndm", "euler", "euler_ancestral"])
def test_an_imported_pipeline_samples_by_its_options(sampler):
    options = SamplerOptions(timestep_spacing="linspace", sigma_scaled=True)
    task = plain_ldm.plain(
        unet=plain_ldm.Blend(),
        process=make_process("scaled_linear", "epsilon"),
        sampler=sampler,
        sampler_options=options,
        num_inference_steps=3,
        guidance_scale=1.0,
    )
    x_T = jax.random.normal(jax.random.key(0), (2, *plain_ldm.LATENT))
    batch = {**plain_ldm.batch(2), "x_T": x_T, "seed": jnp.arange(2, dtype=jnp.uint32)}
    variables = {"params": {"model": plain_ldm.PARAMS}}
    generate = jax.jit(lambda batch: task._generate(variables, batch, {}, plain_ldm.FROZEN))
    latent = generate(batch)["latent"]

    mask = batch["token_mask"]
    words = jnp.where(mask, batch["tokens"].astype(jnp.float32), 0).sum(1)[:, None, None, None]
    scale = 1.0 if sampler == "pndm" else float(task.process.sigma(jnp.array([999]))[0])
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), 1))(batch["seed"])

    @jax.jit
    def sample(x_T):
        return samplers.sample(
            lambda x, t: jnp.sin(0.1 * words + x) + 1e-3 * t[:, None, None, None],
            scale * x_T,
            task.process,
            3,
            sampler,
            keys,
            options=options,
        )

    np.testing.assert_allclose(latent, sample(x_T), rtol=1e-5, atol=1e-5)


def test_the_mean_of_the_posterior_is_learnt_where_asked_for(task):
    class Told(type(task.unet)):
        """Answers with what it is shown, whatever its weights."""

        def apply(self, variables, x, t, **cond):
            return x[..., :4]

    told = dataclasses.replace(task, unet=Told())
    rng = np.random.default_rng(0)
    tokens, mask = text(told)
    image = jnp.asarray(rng.integers(0, 256, (2, 16, 16, 3)), jnp.uint8)
    batch = {"image": image, "tokens": tokens, "token_mask": mask}
    params, frozen = {**drawn(task), "unet": {}}, {"vae": filled_vae(task)}

    def losses(task):
        @jax.jit
        def loss(latent_key):
            rngs = {name: jax.random.key(i) for i, name in enumerate(task.rng_streams)}
            rngs["latent"] = latent_key
            return task._loss(params, None, {}, batch, rngs, frozen)[0]

        return [float(loss(jax.random.key(seed))) for seed in (8, 9)]

    first, second = losses(told)
    assert first != second
    first, second = losses(dataclasses.replace(told, sample_posterior=False))
    assert first == second
