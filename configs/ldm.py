r"""Text-to-image by latent diffusion.

    python -m gen_jax.main --config=configs/ldm.py --workdir=runs/ldm

Laptop recipe (default): a 2.4M-parameter UNet with rectified flow on 16x16 latents of the
embedded pictograms behind the packaged autoencoder, 2 CPU cores, 10 minutes: the prompt's subject
in 84% of samples, its color and background in all. `:vae=train` trains the autoencoder first,
`:vae=DIR` takes another run's or a diffusers folder. `:data=photos` learns the embedded photographs
in 6 minutes. `:data=shapes` learns the procedural world behind its own packaged autoencoder in 20
to 30 minutes; the color is as prompted in all samples, the shape in 89%. `:data=DIR` takes your own
captioned shards and trains an autoencoder of them first; `:recipe=pictograms,data=DIR` trains both
as for the pictograms, which suits drawings, and `:recipe=cutouts,data=DIR` for longer, with a score
by the folders that the images lie in, as the packaged model `cutouts` was.

`:objective=meanflow` trains average velocities for sampling in one step (arXiv:2505.13447), with
the guidance scale as an input of the network (arXiv:2512.02012), annealed from flow matching
(arXiv:2510.20771). On `shapes` it begins with a run of flow matching, runs/flow or
--config.init_from, whose time embedding is as slow, because the loss has a derivative by the time:

    python -m gen_jax.main --config=configs/ldm.py:data=shapes --workdir=runs/flow \
        --config.task.process.num_train_timesteps=16
    python -m gen_jax.main --config=configs/ldm.py:data=shapes,objective=meanflow \
        --workdir=runs/one_step
    python -m gen_jax.generate --run=runs/one_step --steps=1 --prompt="a red star" --out=out/star

`--config.task.process.prediction_type=sample` predicts images instead of velocities.

`:text=clip` uses frozen CLIP ViT-L/14 (123,650,304 parameters), `:text=distilbert` DistilBERT
(66,362,880); `weights=FOLDER` names their files, otherwise fetched from huggingface.co.

`:lora=8` trains low-rank factors of the UNet's attention in the run that --config.init_from names
(docs/lora.md); `lora_text` adapts a text encoder that was trained along as well.

`:variant=sd15` and `:variant=sd2` are the UNets of Stable Diffusion 1.5 (859,520,964
parameters) and 2 (865,910,724) on your own captioned shards (`data=DIR`), with the text of CLIP
ViT-L/14 and OpenCLIP ViT-H/14. Not yet measured. Their autoencoder is given (`vae=DIR`), or trained
first with --config.requires.vae.task.perceptual_encoder=lpips-vgg:TOWER,HEADS (configs/vae.py).

`:variant=sd15,init=PIPELINE,data=DIR` (and `variant=sd2`) fine-tunes a released pipeline, a folder
of diffusers or `hub:OWNER/NAME[@REVISION]`: its UNet, behind its autoencoder and its text encoder,
which are frozen, by the process of its scheduler (docs/pipelines.md). Not yet measured.
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common, vae
from gen_jax.data.prepare.sources import EMBEDDED
from gen_jax.runs import pipeline_folder, sources

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
        init="",
        lora=0,
        lora_text=False,
        objective="denoise",
        debug=False,
    )
    _check_init(arg)
    packaged = arg.data in EMBEDDED and arg.variant == "tiny"
    recipe = arg.recipe or (arg.data if packaged else "photos")
    if recipe not in _RECIPES:
        raise UserError(f"recipe={recipe}: expected {', '.join(_RECIPES)}")
    config = common.base()
    with config.unlocked():
        config.task = _task()
        config.evaluators = dict(
            prompt_accuracy=dict(count=128, batch_size=64),
            error_by_time=dict(count=256, batch_size=64),
            first_stage=dict(count=256, batch_size=64, prefix="vae"),
        )
        source = arg.vae or arg.init or (f"package:vae_{arg.data}" if packaged else "train")
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
        # Captions say left and right.
        config.data.transform.update(flip=False, crop_scale=(1.0, 1.0))
    elif arg.data != "photos" and recipe != "cutouts":
        # Of your own images no classes are known.
        _replace_evaluator(config, samples=dict(count=128, batch_size=32))
    if arg.variant != "tiny":
        _stable_diffusion(config, arg.variant)
    if arg.init:
        _fine_tuning(config, arg.init)
    if arg.objective != "denoise":
        _mean_flow(config, arg)
    if arg.debug:
        _debug(config, shrinks=not arg.init)
    if not arg.init:
        # What is tried out must not need half a gigabyte first.
        arg.text = arg.text or ("compact" if arg.variant == "tiny" or arg.debug else "clip")
        if arg.text != "compact":
            _frozen_text(config, arg)
        elif arg.weights:
            raise UserError(f"weights={arg.weights}: only text=clip or text=distilbert takes any")
    if arg.lora or arg.lora_text:
        _lora(config, arg)
    return config.lock()


def _task():
    """Returns the task of the laptop recipes, before what each of them changes."""
    unet = dict(
        block_out_channels=(48, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=16,
        class_embed_type="projection",
        resnet_time_scale_shift="scale_shift",
        dtype="float32",
    )
    text_encoder = dict(vocab_size=1024, max_length=32, hidden_size=96, num_layers=2, num_heads=4)
    process = dict(prediction_type="flow", timestep_sampling="logit_normal", shift=1.0)
    return dict(
        name="ldm",
        image_size=64,
        unet=unet,
        text_encoder=dict(name="compact", **text_encoder),
        process=dict(schedule="flow", **process),
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


def _shapes(config):
    # Captions say left and right; a scene is whole only uncropped.
    config.data.transform.update(flip=False, crop_scale=(1.0, 1.0))
    # Flat scenes show their layout through almost any noise: what the text decides is decided
    # at times that are seldom drawn otherwise.
    config.task.process.update(timestep_sampling="stratified", shift=2.0)
    # The autoencoder's posterior is wide on purpose: its mean is all that can be predicted. What is
    # settled at little noise needs no guidance (arXiv:2404.07724).
    config.task.update(sample_posterior=False, guidance_interval=(0.6, 1.0))
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
    config.task.process.update(prediction_type="sample", timestep_sampling="stratified", shift=10.0)
    config.task.update(sample_posterior=False, guidance_scale=1.0, num_inference_steps=20)
    # An outline has to be learned for each noun: as a map from the text, not from channels.
    config.task.update(layout_channels=16)
    config.optimizer.model.update(name="muon", learning_rate=8e-3, ns_steps=3, schedule="linear")
    config.data.update(max_length=16)
    config.task.text_encoder.update(max_length=16)
    config.training.update(num_steps=700, batch_size=32, checkpoint_every=350)


def _cutouts(config):
    _pictograms(config)
    config.training.update(num_steps=4000, checkpoint_every=250, eval_every=1000)
    with config.unlocked():
        config.evaluators.prompt_accuracy = dict(count=256, train_count=6000, batch_size=64)


# Of "photos": the values that `get_config` begins with.
_RECIPES = dict(cutouts=_cutouts, pictograms=_pictograms, photos=lambda _: None, shapes=_shapes)
_EVALUATORS = {
    "pictograms": dict(pictogram_accuracy=dict(count=256, batch_size=64)),
    "shapes": dict(shapes_accuracy=dict(count=256, others=128, batch_size=64)),
}


def _mean_flow(config, arg):
    if arg.objective != "meanflow":
        raise UserError(f"objective={arg.objective}: expected denoise or meanflow")
    with config.unlocked():
        config.task.process.objective = "meanflow"
        # The loss has a derivative by the time: its embedding must not turn a thousand radians.
        config.task.process.num_train_timesteps = 16
        config.task.mean_flow = dict(share=0.5, anneal=(0, config.training.num_steps // 2))
        # The interval is added to the pooled text there.
        config.task.unet.class_embed_type = "projection"
    config.task.update(sampler="meanflow", num_inference_steps=1, guidance_rescale=0.0)
    if arg.data == "shapes":
        with config.unlocked():
            config.task.mean_flow.update(
                # The parameters are those of flow matching already.
                share=0.75,
                anneal=(0, 50),
                # Most prompts are decided near pure noise, which sorted draws seldom reach.
                times="process",
                end_prob=0.5,
                velocity="snapshot",
                unguided_prob=0.2,
                weight_power=0.5,
                max_guidance_scale=5.0,
            )
        # A snapshot of random parameters is worth nothing: without this run there is an error.
        config.init_from = "" if arg.debug else "runs/flow"
        config.training.update(num_steps=360)
        config.optimizer.model.update(learning_rate=4e-3)


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


def _check_init(arg):
    if arg.init and arg.variant == "tiny":
        raise UserError(f"init={arg.init}: fine-tunes variant=sd15 or variant=sd2; name one")
    for key in ("text", "weights"):
        if arg.init and arg[key]:
            raise UserError(
                f"{key}={arg[key]}: with init={arg.init} the text encoder is the pipeline's; leave "
                "it out"
            )


def _fine_tuning(config, source):
    """Takes architecture, process and text encoder of a pipeline, and starts with its weights."""
    task = pipeline_folder.task_config(sources.resolve(source), source, dtype="bfloat16")
    with config.unlocked():
        config.task = task
    config.init_from = source
    config.data.update(image_size=task["image_size"], max_length=task["text_encoder"]["max_length"])
    config.training.update(num_steps=20_000, batch_size=64, eval_every=1000, checkpoint_every=500)
    config.optimizer.model.update(learning_rate=1e-5, warmup_steps=500)


# By `text`. SD 2 reads the states before OpenCLIP's last block.
_TOWERS = {
    "clip": dict(tower="clip-vit-large-patch14-text", layer=-1),
    "distilbert": dict(tower="distilbert-base-uncased", layer=-1),
}
_SD2_TOWER = dict(tower="CLIP-ViT-H-14-laion2B-s32B-b79K-text", layer=-2)


def _frozen_text(config, arg):
    if arg.text not in _TOWERS:
        raise UserError(f"text={arg.text}: expected compact, {' or '.join(_TOWERS)}")
    if arg.text == "clip" and sources.is_pipeline(arg.weights):
        _pipeline_text(config, arg.weights)
        return
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


# Kernels that get low-rank factors: the attention of the UNet, as in diffusers' recipes, and all of
# a text encoder that is trained along.
_UNET_ATTENTION = r"unet/.*/attn\d/to_(q|k|v|out_0)"
_TRAINED_TEXT = r"text_encoder/.*"


def _lora(config, arg):
    if arg.lora < 1:
        raise UserError(f"lora={arg.lora}: expected a rank of at least 1, such as lora=8")
    if arg.lora_text and arg.text != "compact":
        source = f"init={arg.init}" if arg.init else f"text={arg.text}"
        raise UserError(
            f"lora_text: the text encoder of {source} is frozen, and has no factors; leave out "
            "lora_text, or use text=compact"
        )
    kernels = f"({_UNET_ATTENTION}|{_TRAINED_TEXT})" if arg.lora_text else _UNET_ATTENTION
    config.lora.update(match=f"^model/{kernels}/kernel$", rank=arg.lora, alpha=float(arg.lora))
    if arg.variant != "tiny" and not arg.debug:
        config.lora.base_dtype = "bfloat16"
        config.training.update(num_steps=1000, batch_size=4, eval_every=0, checkpoint_every=250)
        config.optimizer.model.update(learning_rate=1e-4, warmup_steps=50)


def _pipeline_text(config, source):
    """Takes the text encoder of a pipeline, whatever its size."""
    text = pipeline_folder.text_config(sources.resolve(source), source, config.task.unet.dtype)
    with config.unlocked():
        config.task.text_encoder = text
        # The text encoder decides how wide its states are.
        if "cross_attention_dim" in config.task.unet:
            del config.task.unet["cross_attention_dim"]
    config.data.max_length = text["max_length"]


def _debug(config, shrinks=True):
    if shrinks:
        _shrink(config)
    config.data.update(num=256, vocab_size=300)
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


def _shrink(config):
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
    config.data.update(image_size=16, max_length=8)
    if config.task.process.get("objective") == "meanflow":
        config.task.mean_flow.anneal = (0, 0)
