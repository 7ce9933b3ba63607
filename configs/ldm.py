"""Text-to-image by latent diffusion.

    python -m gen_jax.main --config=configs/ldm.py --workdir=runs/ldm

Laptop recipe (default): a 2.4M-parameter UNet with rectified flow on 16x16 latents of the
embedded pictograms behind the packaged autoencoder, 2 CPU cores. Not yet measured as a whole;
trials close to it are in docs/results/latent-diffusion.md. `:vae=train` trains the autoencoder
first, `:vae=DIR` takes another run's or a diffusers folder. `:data=photos` learns the embedded
photographs in 6 minutes. `:data=shapes` learns the procedural world behind its own packaged
autoencoder in 20 to 30 minutes; the color is as prompted in all samples, the shape in 89%.
`:data=DIR` takes your own captioned shards and trains an autoencoder of them first;
`:recipe=pictograms,data=DIR` trains both as for the pictograms, which suits clip art and other
drawings.

`:text=clip` reads the captions with CLIP ViT-L/14 (123,650,304 parameters), `:text=distilbert`
with DistilBERT (66,362,880), both frozen; `weights=FOLDER` names their files, which are fetched
from huggingface.co otherwise.

`:variant=sd15` and `:variant=sd2` are the UNets of Stable Diffusion 1.5 (859,520,964
parameters) and 2 (865,910,724) on your own captioned shards (`data=DIR`), with the text of CLIP
ViT-L/14 and OpenCLIP ViT-H/14. Not yet measured. Their autoencoder is given (`vae=DIR`), or trained
first, which wants LPIPS's weights (configs/vae.py):
--config.requires.vae.task.perceptual_encoder=lpips-vgg:TOWER,HEADS.
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common, vae
from gen_jax.data.prepare.sources import EMBEDDED

# What the contract tests train.
CONTRACT_ARGS = ("debug,vae=train",)


def get_config(arg=None):
    arg = common.parse_arg(
        arg,
        variant="tiny",
        data="pictograms",
        recipe="",
        vae="",
        text="",
        weights="",
        debug=False,
    )
    is_own = arg.data in _RECIPES and arg.variant == "tiny"
    recipe = arg.recipe or (arg.data if is_own else "photos")
    if recipe not in _RECIPES:
        raise UserError(f"recipe={recipe}: expected {', '.join(_RECIPES)}")
    config = common.base()
    with config.unlocked():
        config.task = dict(
            name="ldm",
            image_size=64,
            unet=dict(
                block_out_channels=(48, 96),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                layers_per_block=1,
                attention_head_dim=4,
                norm_num_groups=16,
                class_embed_type="projection",
                resnet_time_scale_shift="scale_shift",
                dtype="float32",
            ),
            text_encoder=dict(
                name="compact",
                vocab_size=1024,
                max_length=32,
                hidden_size=96,
                num_layers=2,
                num_heads=4,
            ),
            process=dict(
                schedule="flow",
                prediction_type="flow",
                timestep_sampling="logit_normal",
                shift=1.0,
            ),
            sample_posterior=True,
            text_dropout_prob=0.1,
            sampler="dpmpp_2m",
            num_inference_steps=16,
            guidance_scale=3.0,
            guidance_rescale=0.0,
            guidance_interval=(0.0, 1.0),
            use_coordinates=True,
            patch_size=1,
            layout_channels=0,
        )
        config.evaluators = dict(
            prompt_accuracy=dict(count=128, batch_size=64),
            error_by_time=dict(count=256, batch_size=64),
            first_stage=dict(count=256, batch_size=64, prefix="vae"),
        )
        packaged = arg.data in EMBEDDED and arg.variant == "tiny"
        source = arg.vae or (f"package:vae_{arg.data}" if packaged else "train")
        if source == "train":
            kind = "patch" if arg.variant == "tiny" else "sd"
            # As for the data by default, as for this recipe if one is named.
            config.requires.vae = vae.get_config(
                f"data={common.quoted(arg.data)},debug={arg.debug},variant={kind}"
                + (f",recipe={recipe}" if arg.recipe and kind == "patch" else "")
            )
        else:
            config.frozen.vae = source
    config.training.update(num_steps=800, batch_size=16, ema=0.99, checkpoint_every=250)
    config.optimizer.model.update(learning_rate=2e-3, warmup_steps=50)
    common.set_data(config, arg.data)
    _RECIPES[recipe](config)
    if arg.data in _EVALUATORS:
        _replace_evaluator(config, **_EVALUATORS[arg.data])
        # Captions say left and right; a scene is whole only uncropped.
        config.data.transform.update(flip=False, crop_scale=(1.0, 1.0))
    elif arg.data != "photos":
        # Of your own images no classes are known.
        _replace_evaluator(config, samples=dict(count=128, batch_size=32))
    if arg.variant != "tiny":
        _stable_diffusion(config, arg.variant)
    if arg.debug:
        _debug(config)
    # What is tried out must not need half a gigabyte first.
    arg.text = arg.text or ("compact" if arg.variant == "tiny" or arg.debug else "clip")
    if arg.text != "compact":
        _frozen_text(config, arg)
    elif arg.weights:
        raise UserError(f"weights={arg.weights}: only text=clip or text=distilbert takes any")
    return config.lock()


def _shapes(config):
    # Captions say left and right; a scene is whole only uncropped.
    config.data.transform.update(flip=False, crop_scale=(1.0, 1.0))
    # Flat scenes show their layout through almost any noise: what the text decides is decided
    # at times that are seldom drawn otherwise.
    config.task.process.update(timestep_sampling="stratified", shift=2.0)
    # The autoencoder's posterior is wide on purpose: its mean is all that can be predicted.
    config.task.update(sample_posterior=False)
    # What is settled at little noise needs no guidance (arXiv 2404.07724).
    config.task.update(guidance_interval=(0.6, 1.0))
    config.task.unet.update(
        block_out_channels=(64, 128),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
    )
    # The words of an object decide little of the squared error. Muon follows weak directions of
    # a gradient as far as strong ones: what AdamW hears after a thousand steps, it hears at once.
    config.optimizer.model.update(name="muon", learning_rate=6e-3, ns_steps=3, schedule="linear")
    # The longest caption has 22 tokens.
    config.data.update(max_length=24)
    config.task.text_encoder.update(max_length=24)
    config.training.update(num_steps=2200, batch_size=32, checkpoint_every=400)


def _pictograms(config):
    # Captions say left and right, and drawings have no margin to spare.
    config.data.transform.update(flip=False, crop_scale=(1.0, 1.0))
    # What the text decides is decided at much noise; see `_shapes`.
    config.task.process.update(
        prediction_type="v_prediction", timestep_sampling="stratified", shift=10.0
    )
    config.task.update(sample_posterior=False, guidance_scale=1.0, num_inference_steps=20)
    # An outline has to be learned for each noun: as a map from the text, not from channels.
    config.task.update(layout_channels=16)
    config.optimizer.model.update(name="muon", learning_rate=8e-3, ns_steps=3, schedule="linear")
    config.data.update(max_length=16)
    config.task.text_encoder.update(max_length=16)
    config.training.update(num_steps=700, batch_size=32, checkpoint_every=350)


def _photos(config):
    """The values that `get_config` begins with."""


_RECIPES = {"pictograms": _pictograms, "photos": _photos, "shapes": _shapes}
_EVALUATORS = {
    "pictograms": dict(pictogram_accuracy=dict(count=256, batch_size=64)),
    "shapes": dict(shapes_accuracy=dict(count=256, others=128, batch_size=64)),
}


def _replace_evaluator(config, **evaluators):
    with config.unlocked():
        del config.evaluators["prompt_accuracy"]
        config.evaluators.update(evaluators)


def _stable_diffusion(config, variant):
    from gen_jax.models import presets

    sizes = {"sd15": presets.SD15_UNET, "sd2": presets.SD2_UNET}
    if variant not in sizes:
        raise UserError(f"variant={variant}: expected tiny, {' or '.join(sizes)}")
    unet = sizes[variant]
    with config.unlocked():
        config.task.unet = dict(unet, dtype="bfloat16")
    config.task.update(image_size=512, use_coordinates=False)
    config.task.process.update(
        schedule="scaled_linear", prediction_type="v_prediction", timestep_sampling="uniform"
    )
    config.task.text_encoder.update(
        hidden_size=unet["cross_attention_dim"],
        num_layers=12,
        num_heads=unet["cross_attention_dim"] // 64,
        max_length=77,
    )
    config.data.update(image_size=512, max_length=77, cache=False)
    config.training.update(
        num_steps=500_000, batch_size=2048, ema=0.9999, eval_every=10_000, checkpoint_every=1000
    )
    config.optimizer.model.update(learning_rate=1e-4, warmup_steps=10_000, schedule="constant")


# For a config's `text`: name of the tower; Stable Diffusion 2 reads the states before OpenCLIP's
# last block.
_TOWERS = {
    "clip": dict(tower="clip-vit-large-patch14-text", layer=-1),
    "distilbert": dict(tower="distilbert-base-uncased", layer=-1),
}
_SD2_TOWER = dict(tower="CLIP-ViT-H-14-laion2B-s32B-b79K-text", layer=-2)


def _frozen_text(config, arg):
    if arg.text not in _TOWERS:
        raise UserError(f"text={arg.text}: expected compact, {' or '.join(_TOWERS)}")
    tower = _SD2_TOWER if (arg.variant, arg.text) == ("sd2", "clip") else _TOWERS[arg.text]
    length = 8 if arg.debug else 77
    with config.unlocked():
        config.task.text_encoder = dict(
            name=arg.text,
            **tower,
            weights=arg.weights,
            vocabulary="",
            max_length=length,
            dtype=config.task.unet.dtype,
        )
        if arg.debug:
            # The tower decides how wide its states are.
            del config.task.unet["cross_attention_dim"]
    config.data.max_length = length


def _debug(config):
    config.task.update(image_size=16, num_inference_steps=2)
    # One level: what takes time in a test is compiling, and that goes by the number of blocks.
    small = dict(
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D",),
        norm_num_groups=4,
        attention_head_dim=2,
        layers_per_block=1,
        cross_attention_dim=16,
    )
    with config.unlocked():
        config.task.unet = {**config.task.unet.to_dict(), **small}
    config.task.text_encoder.update(
        vocab_size=300, max_length=8, hidden_size=16, num_layers=1, num_heads=2
    )
    config.data.update(image_size=16, num=256, vocab_size=300, max_length=8)
    config.training.update(num_steps=4, batch_size=8, log_every=1, eval_every=2, checkpoint_every=0)
    config.optimizer.model.warmup_steps = 1
    counts = {
        "prompt_accuracy": dict(count=16, batch_size=8, train_count=128, val_count=16, shown=4),
        "shapes_accuracy": dict(count=8, others=8, batch_size=8, shown=4),
        "pictogram_accuracy": dict(
            count=8, heldout=4, train_count=128, real_count=8, batch_size=8, shown=4, controls=8
        ),
        "samples": dict(count=8, batch_size=8, shown=4),
        "error_by_time": dict(count=16, batch_size=8),
        "first_stage": dict(count=16, batch_size=8),
    }
    with config.unlocked():
        for name, evaluator in config.evaluators.items():
            evaluator.update(counts[name])
