"""Mistakes that the tests must notice: each replaces a piece of the code by a plausible wrong one.

Every one of them once left all tests green or is of the same kind as one that did. The nightly
check in `test_mutations.py` applies each to a copy of the project and expects its tests to fail; a
quick one keeps the replaced text in step with the code. Write the text as short as it can be while
it occurs once in its file, so that refactoring nearby leaves it alone.
"""

from typing import NamedTuple


class Mutation(NamedTuple):
    """A mistake.

    Attributes:
      name: What the mistaken code does.
      file: Path of the file, from the root of the project.
      old: Text that occurs once in it.
      new: Text that takes its place.
      tests: Node ids of the quick tests that must fail, all of them.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


STEP = "tests/training/test_step.py"
LDM = "tests/tasks/test_ldm_loss.py"
GENERATION = "tests/pipelines/test_text_to_image.py"
DISCRIMINATORS = "tests/tasks/test_discriminators.py"
CONTROLS = "tests/evaluation/test_controls.py"

_STEP = "gen_jax/training/step.py"
_LDM = "gen_jax/tasks/ldm.py"
_FACES = "gen_jax/tasks/objectives/adversarial.py"

MUTATIONS = (
    # The train step.
    Mutation(
        "the moving average is never updated",
        _STEP,
        "ema=_average(state, params, ema),",
        "ema=state.ema,",
        (f"{STEP}::test_the_average_follows_every_group",),
    ),
    Mutation(
        "the moving average is that of the step before",
        _STEP,
        "ema=_average(state, params, ema),",
        "ema=_average(state, state.params, ema),",
        (f"{STEP}::test_the_average_follows_every_group",),
    ),
    Mutation(
        "every step has the same random keys",
        _STEP,
        "task.rng_streams, state.step)",
        "task.rng_streams, 0)",
        (f"{STEP}::test_no_draw_repeats_in_any_step_group_or_part",),
    ),
    Mutation(
        "the keys of a stream do not depend on the step",
        "gen_jax/training/rngs.py",
        "name: jax.random.fold_in(jax.random.fold_in(root, zlib.crc32(name.encode())), step)",
        "name: jax.random.fold_in(root, zlib.crc32(name.encode()))",
        (
            f"{STEP}::test_no_draw_repeats_in_any_step_group_or_part",
            f"{STEP}::test_streams_are_named_and_never_repeat",
        ),
    ),
    Mutation(
        "all accumulated parts have the same random keys",
        _STEP,
        "part_keys = {n: jax.random.fold_in(k, index) for n, k in keys.items()}",
        "part_keys = keys",
        (f"{STEP}::test_no_draw_repeats_in_any_step_group_or_part",),
    ),
    Mutation(
        "all groups have the same random keys",
        _STEP,
        "group_keys = {n: jax.random.fold_in(k, index) for n, k in keys.items()}",
        "group_keys = keys",
        (f"{STEP}::test_no_draw_repeats_in_any_step_group_or_part",),
    ),
    Mutation(
        "a second group sees the first one's old parameters",
        _STEP,
        "loss_fn, group, params, extra, batch, group_keys",
        "loss_fn, group, {**state.params}, extra, batch, group_keys",
        (f"{STEP}::test_a_step_is_that_of_plain_numpy",),
    ),
    Mutation(
        "accumulated gradients are summed",
        _STEP,
        "grads = jax.tree.map(lambda g: g / parts, grads)",
        "grads = jax.tree.map(lambda g: g, grads)",
        (f"{STEP}::test_a_step_is_that_of_plain_numpy",),
    ),
    Mutation(
        "the guard against values that are not finite sees the last group alone",
        _STEP,
        "finite &= jnp.isfinite(loss)",
        "finite = jnp.isfinite(loss)",
        (f"{STEP}::test_a_step_that_is_not_finite_in_any_group_is_only_counted",),
    ),
    Mutation(
        "the guard against values that are not finite does not see gradients",
        _STEP,
        "jnp.isfinite(loss) & jnp.isfinite(norm)",
        "jnp.isfinite(loss)",
        (f"{STEP}::test_a_step_that_is_not_finite_in_any_group_is_only_counted",),
    ),
    Mutation(
        "gradients are not clipped",
        "gen_jax/training/optim.py",
        '[optax.clip_by_global_norm(c["clip_norm"])] if c["clip_norm"] else []',
        "[]",
        (f"{STEP}::test_a_step_is_that_of_plain_numpy",),
    ),
    Mutation(
        "the moving average is replicated instead of sharded",
        "gen_jax/training/state.py",
        "ema=sharding.shard_tree(shapes.ema, rules, mesh)",
        "ema=jax.tree.map(lambda _: replicated, shapes.ema)",
        (f"{STEP}::test_leaves_are_really_split",),
    ),
    # Latent diffusion.
    Mutation(
        "the target of latent diffusion has the wrong sign",
        _LDM,
        "target = self.process.target(x_0, eps, t)",
        "target = -self.process.target(x_0, eps, t)",
        (f"{LDM}::test_the_right_answer_costs_nothing_and_one_beside_it_what_it_weighs",),
    ),
    Mutation(
        "the error by time has a target of the wrong sign",
        _LDM,
        "(output - self.process.target(x_0, eps, t)) ** 2",
        "(output + self.process.target(x_0, eps, t)) ** 2",
        (f"{LDM}::test_the_right_answer_costs_nothing_and_one_beside_it_what_it_weighs",),
    ),
    Mutation(
        "the loss weight is ignored",
        _LDM,
        "loss = (error * self.process.loss_weight(t)).mean()",
        "loss = error.mean()",
        (f"{LDM}::test_the_right_answer_costs_nothing_and_one_beside_it_what_it_weighs",),
    ),
    Mutation(
        "no caption is dropped in latent diffusion",
        _LDM,
        'jax.random.bernoulli(rngs["drop_text"], self.text_dropout_prob, (count,))',
        'jax.random.bernoulli(rngs["drop_text"], 0.0, (count,))',
        (f"{LDM}::test_captions_are_dropped_at_the_rate_of_the_recipe",),
    ),
    Mutation(
        "the recipe of latent diffusion drops no caption",
        "configs/ldm.py",
        "text_dropout_prob=0.1",
        "text_dropout_prob=0.0",
        (f"{LDM}::test_captions_are_dropped_at_the_rate_of_the_recipe",),
    ),
    Mutation(
        "the task ignores guidance",
        "gen_jax/tasks/latent_sampling.py",
        "if task.guidance_scale == 1.0:",
        "if True:",
        (f"{GENERATION}::test_guidance_and_the_negative_prompt_are_the_formula",),
    ),
    Mutation(
        "the pipeline ignores its settings",
        "gen_jax/pipelines/model_changes.py",
        "task=model.task.with_settings(**changes))",
        "task=model.task)",
        (
            f"{GENERATION}::test_guidance_and_the_negative_prompt_are_the_formula",
            f"{GENERATION}::test_a_guidance_interval_bounds_the_times_that_are_guided",
        ),
    ),
    Mutation(
        "the task ignores the negative prompt",
        "gen_jax/tasks/latent_sampling.py",
        'batch.get("negative_tokens", empty[0])',
        "empty[0]",
        (f"{GENERATION}::test_guidance_and_the_negative_prompt_are_the_formula",),
    ),
    Mutation(
        "the pipeline ignores the negative prompt",
        "gen_jax/pipelines/text_to_image.py",
        "if request.negative_prompt:",
        "if False:",
        (f"{GENERATION}::test_guidance_and_the_negative_prompt_are_the_formula",),
    ),
    Mutation(
        "the pipeline drops the guidance interval",
        "gen_jax/pipelines/model_changes.py",
        'changes["guidance_interval"] = interval',
        'del changes["guidance_interval"]',
        (f"{GENERATION}::test_a_guidance_interval_bounds_the_times_that_are_guided",),
    ),
    # Text of the other stages.
    Mutation(
        "no text is dropped in art",
        "gen_jax/tasks/art.py",
        'jax.random.bernoulli(rngs["drop_text"], self.text_dropout_prob, (count,))',
        'jax.random.bernoulli(rngs["drop_text"], 0.0, (count,))',
        ("tests/tasks/test_art.py::test_texts_are_dropped_at_the_rate_of_the_recipe",),
    ),
    Mutation(
        "no sentence is dropped in faces",
        "gen_jax/tasks/faces.py",
        'jax.random.bernoulli(rngs["drop_text"], self.text_dropout_prob, (count, 1))',
        'jax.random.bernoulli(rngs["drop_text"], 0.0, (count, 1))',
        ("tests/tasks/test_faces.py::test_a_dropped_sentence_is_empty_and_asks_for_nothing",),
    ),
    Mutation(
        "faces are trained on all sentences",
        "gen_jax/tasks/faces.py",
        "self._with_dropped_text(batch, rngs)\n\n",
        "batch\n\n",
        ("tests/tasks/test_faces.py::test_a_dropped_sentence_is_empty_and_asks_for_nothing",),
    ),
    # Discriminators.
    Mutation(
        "VAE and VQ-VAE: the discriminator takes real images for made ones",
        "gen_jax/tasks/image_terms.py",
        "adversarial.hinge_discriminator(real, fake)",
        "adversarial.hinge_discriminator(fake, real)",
        (
            f"{DISCRIMINATORS}::test_real_images_go_up_and_made_ones_down[vae_task]",
            f"{DISCRIMINATORS}::test_real_images_go_up_and_made_ones_down[vqvae_task]",
        ),
    ),
    Mutation(
        "VAE: the discriminator judges its own real images twice",
        "gen_jax/tasks/vae.py",
        "loss, metrics = self.told_apart(params, x, y)",
        "loss, metrics = self.told_apart(params, x, x)",
        (f"{DISCRIMINATORS}::test_real_images_go_up_and_made_ones_down[vae_task]",),
    ),
    Mutation(
        "VQ-VAE: the discriminator takes real images for made ones",
        "gen_jax/tasks/vqvae.py",
        "loss, metrics = self.told_apart(params, x, y)",
        "loss, metrics = self.told_apart(params, y, x)",
        (f"{DISCRIMINATORS}::test_real_images_go_up_and_made_ones_down[vqvae_task]",),
    ),
    Mutation(
        "restore: the discriminator takes real images for made ones",
        "gen_jax/tasks/restore.py",
        "adversarial.hinge_discriminator(real, fake)",
        "adversarial.hinge_discriminator(fake, real)",
        (f"{DISCRIMINATORS}::test_real_images_go_up_and_made_ones_down[restore_task]",),
    ),
    Mutation(
        "faces: the discriminator takes real images for made ones",
        _FACES,
        "adversarial.non_saturating_discriminator(real, fake)",
        "adversarial.non_saturating_discriminator(fake, real)",
        (f"{DISCRIMINATORS}::test_faces_are_told_from_real_ones_and_the_penalty_is_that_of_r1",),
    ),
    Mutation(
        "VAE and VQ-VAE: the generator is taught to be found out",
        "gen_jax/tasks/image_terms.py",
        "adversarial.hinge_generator(fake)",
        "-adversarial.hinge_generator(fake)",
        (f"{DISCRIMINATORS}::test_real_images_go_up_and_made_ones_down[vae_task]",),
    ),
    Mutation(
        "restore: the generator is taught to be found out",
        "gen_jax/tasks/restore.py",
        "adversarial.hinge_generator(logits)",
        "-adversarial.hinge_generator(logits)",
        (f"{DISCRIMINATORS}::test_real_images_go_up_and_made_ones_down[restore_task]",),
    ),
    Mutation(
        "faces: the generator is taught to be found out",
        _FACES,
        "adversarial.non_saturating_generator(logits)",
        "-adversarial.non_saturating_generator(logits)",
        (f"{DISCRIMINATORS}::test_faces_are_told_from_real_ones_and_the_penalty_is_that_of_r1",),
    ),
    Mutation(
        "R1 is reported and has no weight",
        _FACES,
        'loss += self.r1_weight * metrics["r1"]',
        'loss += 0.0 * metrics["r1"]',
        (f"{DISCRIMINATORS}::test_faces_are_told_from_real_ones_and_the_penalty_is_that_of_r1",),
    ),
    # Restoration.
    Mutation(
        "the gate is led to one minus the severity",
        "gen_jax/tasks/restore.py",
        'wanted = severity(batch["degradation"])[:, None]',
        'wanted = 1.0 - severity(batch["degradation"])[:, None]',
        ("tests/tasks/test_restore.py::test_the_worse_the_picture_the_wider_the_gate",),
    ),
    Mutation(
        "the estimator of degradations learns from the network's error, too",
        "gen_jax/tasks/restore.py",
        "clipped(jax.lax.stop_gradient(estimate))",
        "clipped(estimate)",
        ("tests/tasks/test_restore.py::test_estimates_are_learnt_by_their_error_alone",),
    ),
    Mutation(
        "the benchmark of super-resolution keeps the border",
        "gen_jax/evaluation/restoration/run.py",
        "border = given.scale if protocol.luma else 0",
        "border = 0",
        (
            "tests/evaluation/test_restoration.py::"
            "test_super_resolution_is_compared_without_a_border_as_wide_as_the_scale",
        ),
    ),
    Mutation(
        "the score keeps the border",
        "gen_jax/evaluation/restoration/score.py",
        "cut = slice(border, -border or None)",
        "cut = slice(0, None)",
        ("tests/evaluation/test_restoration.py::test_luma_is_rounded_and_the_border_cut",),
    ),
    # Evaluators of prompts.
    Mutation(
        "the accuracy of prompts is that of real crops",
        "gen_jax/evaluation/prompts.py",
        "fake = probe_features(images)",
        'fake = probe_features(val["image"])',
        (f"{CONTROLS}::test_prompt_accuracy",),
    ),
    Mutation(
        "the accuracy of shapes reads one image",
        "gen_jax/evaluation/shapes.py",
        "readings = [shapes.read_scene(image) for image in images]",
        "readings = [shapes.read_scene(images[0])] * len(images)",
        (f"{CONTROLS}::test_shapes_accuracy",),
    ),
    Mutation(
        "the accuracy of pictograms is that of real images",
        "gen_jax/evaluation/pictograms.py",
        "metrics = self._accuracies(probe, data, images, scenes, texts)",
        'metrics = self._accuracies(probe, data, batch["image"], scenes, texts)',
        ("tests/evaluation/test_pictograms.py::test_models_that_ignore_their_prompts",),
    ),
    Mutation(
        "the controls of prompts score the same samples",
        "gen_jax/evaluation/controls.py",
        '"shuffled": {k: part[k][order] for k in ("tokens", "token_mask")},',
        '"shuffled": {k: part[k] for k in ("tokens", "token_mask")},',
        (f"{CONTROLS}::test_prompt_accuracy", f"{CONTROLS}::test_shapes_accuracy"),
    ),
)
