"""Restoration that follows an instruction: "remove the noise, keep the blur", "upscale it twice".

    python -m gen_jax.main --config=configs/restore_text.py --workdir=runs/restore_text

The Swin-UNet of configs/restore.py hears a text by FiLM in body and decoder and by cross-attention
at the bottleneck and the last level, as strongly as its gates let it. Without a prompt it restores
in full. On 414 photographs of BSDS500 (data=DIR) and 2 CPU cores 3,600 steps took 49 min: CBSD68 at
sigma 25 30.44 dB, blind; matching instructions 1.9 dB above none (docs/results/restoration.md).

`:finish` goes on from such a run (`--config.init_from=RUN`) with a little LPIPS where compression
is heavy, where the pixel error alone smooths textures away, and with half of the crops from a
camera, whose faint noise would else be kept with them. The packaged restorer was finished so; its
card has the steps. `--config.task.perceptual_encoder=lpips-st-alex:FILE` (docs/encoders.md).

`:recipe=package,data=DIR` is the second training of the packaged restorer, 5,200 steps that begin
with its first weights (`--config.init_from=RUN`): one convolution block more in the encoder and two
in the decoder at half of the size, the preset `broad`, which has grain, files saved twice and
images to be left alone, and the folder of `benchmarks.restoration_data`, which has saturated
wallpapers, captions and pages beside the photographs. `:recipe=estimator` then trains the estimator
alone on larger crops, which costs a tenth per step and is what grain and blur want.

`:variant=large` is the network of 14 million parameters of configs/restore.py, for a GPU. Not yet
measured.

`:encoder=compact` (default) is a small transformer trained along; `:encoder=clip`,
`:encoder=distilbert` and `:encoder=minilm` are frozen, `--config.task.text_encoder.weights=FILE`.

Ablations (`python -m benchmarks.restore_ablations` runs them): `:text=film`, `:text=cross`;
`:text_stages=body`, `:text_stages=decoder`; `:gate=none`, `:gate=global`;
`--config.data.max_length=8` with `--config.task.text_encoder.max_length=8` for the length of
prompts. The other arguments are those of configs/restore.py.
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common, restore

_MINILM = ("distilbert", "all-MiniLM-L6-v2")


def get_config(arg=None):
    arg = common.parse_arg(
        arg,
        variant="swin",
        encoder="compact",
        text="both",
        gate="block",
        text_stages="both",
        data="photos",
        degradation="photograph",
        gray=False,
        finish=False,
        recipe="",
        debug=False,
    )
    if arg.variant not in ("swin", "large"):
        raise UserError(f"variant={arg.variant}: expected swin or large, which read a text")
    shared = f'data="{arg.data}",degradation={arg.degradation},gray={arg.gray},debug={arg.debug}'
    config = restore.get_config(f"{shared},variant={arg.variant}").unlock()
    ways = {"both": ("film", "cross"), "film": ("film",), "cross": ("cross",)}
    if arg.text not in ways:
        raise UserError(f"text={arg.text}: expected one of {', '.join(ways)}")
    places = {"both": ("body", "decoder"), "body": ("body",), "decoder": ("decoder",)}
    if arg.text_stages not in places:
        raise UserError(f"text_stages={arg.text_stages}: expected one of {', '.join(places)}")
    config.task.network.update(
        text=ways[arg.text], text_stages=places[arg.text_stages], gate=arg.gate
    )
    if arg.variant == "swin":
        config.training.num_steps = 3600
    config.data.transform = common.transform(
        "instructed_restoration", degradation=arg.degradation, gray=arg.gray
    )
    config.data.update(max_length=24, vocab_size=512)
    with config.unlocked():
        config.task.text_encoder = common.text_encoder(
            arg.encoder, 24, hidden_size=128, minilm=_MINILM
        )
        config.evaluators.instructed = dict(split="val", count=256, batch_size=32)
    if arg.finish:
        _finish(config)
    if arg.recipe not in RECIPES:
        raise UserError(f"recipe={arg.recipe}: expected one of {', '.join(filter(None, RECIPES))}")
    RECIPES[arg.recipe](config, arg)
    if arg.debug:
        config.training.num_steps = 4
        if arg.encoder == "compact":
            config.task.text_encoder.update(hidden_size=16, num_layers=1, num_heads=2)
        config.evaluators.instructed.update(count=16, batch_size=8)
    return config.lock()


def _finish(config):
    config.training.num_steps = 2000
    config.optimizer.model.update(learning_rate=1e-3, warmup_steps=30)
    if config.data.transform.degradation == "photograph":
        # Or the camera's faint noise would be kept with the texture.
        config.data.transform.degradation = "photograph_camera"
    config.task.update(
        perceptual="lpips",
        perceptual_encoder="lpips-st-alex",
        perceptual_weight=0.045,
        perceptual_every=4,
    )
    with config.unlocked():
        config.task.perceptual_ranges = dict(sigma=(0.0, 1.0), shot=(0.0, 1.0), jpeg=(55.0, 100.0))


def _package(config, arg):
    _finish(config)
    config.data.transform.update(degradation="broad", contradiction_prob=0.2, saturation_prob=0.15)
    config.task.network.zero_init = True
    config.task.update(perceptual_weight=0.03, perceptual_every=8)
    if not arg.debug:
        config.task.network.depths = (3, 2, 3, 2, 4)
        config.training.update(num_steps=5200, eval_every=2600, checkpoint_every=650)


def _estimator(config, arg):
    _package(config, arg)
    config.data.transform.update(degradation="broad_estimates", contradiction_prob=0.1)
    config.task.update(estimator_only=True, estimate_weight=1.0, perceptual_weight=0.0)
    if not arg.debug:
        config.task.image_size = config.data.image_size = 128
        config.training.update(num_steps=3000, batch_size=16, eval_every=0, checkpoint_every=500)


RECIPES = {"": lambda config, arg: None, "estimator": _estimator, "package": _package}
"""Value of `:recipe=` -> what it changes."""
