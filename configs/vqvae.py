r"""Discrete latents: a VQ-VAE, whose codes a prior can be trained on (configs/art.py).

    python -m gen_jax.prepare --source=FOLDER --crops=32 --size=160 --out=data/art
    python -m gen_jax.main --config=configs/vqvae.py:data=data/art,res=128 --workdir=runs/vqvae

`configs/vqvae.py` alone is the laptop's recipe on the embedded photographs: 64x64 pixels, shrunk
by 8. `codes=` sets the size of the codebook. `quantizer=`

    vector      a codebook of moving averages of `dim` channels on the unit sphere (default)
    residual    two codes at each place, the second for what the first leaves over
    fsq         a fixed grid instead of a codebook, of about `codes` values

`size=small` (default) is for CPUs, 1.3M parameters; `size=base` for an accelerator, 9.0M, in
bfloat16. LPIPS takes the place of the perceptual term that needs no weights, which then stands
beside it, by

    --config.task.perceptual=lpips --config.task.gradient_weight=1.0 \
    --config.task.perceptual_encoder=lpips-st-alex:stlpips_alex_backbone.safetensors

with `--config.task.perceptual_crop=64` at a quarter of its time. `disc` adds a patch discriminator.
`decoder_of=RUN` trains the decoder of such a run on, and nothing else: its codes stay what they
are, and a prior over them can be sampled by either.

Measured (docs/results/art.md#codes) on held-out images at 128 pixels, all codes in use, 2 CPU
cores: this recipe with LPIPS (weight 0.12) in a window, 41 minutes, 28.66 dB; by AdamW, batches of
16, the decoder trained on alone at the end, 3,900 steps, 28.05. An H200, `size=base` with codes of
8 channels and LPIPS, 2,200 steps in 3 minutes beside two others: 27.83 dB, with 1,024 codes 29.01
dB. The recipe on the embedded photographs, 14 minutes beside other work: 24.98 dB.
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common

# About as many codes as in the paper of FSQ (arXiv 2309.15505, its table of recommended levels).
_LEVELS = {
    256: (8, 6, 5), 512: (8, 8, 8), 1024: (8, 5, 5, 5), 4096: (7, 5, 5, 5, 5),
    16384: (8, 8, 8, 6, 5), 65536: (8, 8, 8, 5, 5, 5),
}  # fmt: skip

# What the contract tests train.
CONTRACT_ARGS = ("debug,disc",)


def get_config(arg=None):
    arg = common.parse_arg(
        arg,
        data="photos",
        res=64,
        quantizer="vector",
        codes=256,
        dim=4,
        size="small",
        disc=False,
        decoder_of="",
        debug=False,
    )
    config = common.base()
    with config.unlocked():
        config.task = dict(
            name="vqvae",
            autoencoder=_autoencoder(arg.size),
            quantizer=_quantizer(arg),
            discriminator=dict(name="patch", channels=64, num_layers=3) if arg.disc else None,
            image_size=arg.res,
            beta=0.25,
            freeze_codes=bool(arg.decoder_of),
            l1_weight=0.5,
            l2_weight=2.0,
            gradient_weight=0.0,
            perceptual="multiscale_gradient",
            perceptual_encoder="",
            perceptual_weight=0.1,
            perceptual_crop=0,
            adversarial_weight=0.02,
            adversarial_start=1000,
        )
        config.evaluators = dict(
            codes=dict(split="val", count=512, batch_size=32, encoder="", features="")
        )
        if arg.disc:
            config.optimizer.disc = common.optimizer(learning_rate=2e-4, b1=0.5, b2=0.9)
    config.data.image_size = arg.res
    config.data.transform.update(crop_scale=(0.7, 1.0), symmetries=True)
    config.training.update(
        num_steps=2400,
        batch_size=8,
        ema=0.995,
        eval_every=600,
        checkpoint_every=300,
        best_metric="vqvae/psnr",
        best_mode="max",
    )
    # By Muon 600 steps of 8 are ahead of 800 of 16 by AdamW (docs/results/art.md).
    config.optimizer.model.update(
        name="muon", learning_rate=3e-3, ns_steps=3, schedule="linear", warmup_steps=30
    )
    common.set_data(config, arg.data)
    if arg.data == "photos":  # people and things have a right way up
        config.data.transform.symmetries = False
    if arg.size == "base":
        config.training.update(
            num_steps=10_000, batch_size=64, eval_every=2500, checkpoint_every=500
        )
        config.optimizer.model.update(
            name="adamw", learning_rate=5e-4, schedule="cosine", warmup_steps=500
        )
    if arg.decoder_of:
        config.init_from = arg.decoder_of
        config.optimizer.model.freeze = "^(patch_in|encoder_|downs_)"
    if arg.debug:
        _debug(config, arg.codes)
    return config.lock()


def _autoencoder(size):
    fields = dict(
        patch_size=4,
        block_out_channels=(64, 128),
        layers_per_block=1,
        decoder_layers=2,
        attention=False,
        head_channels=16,
        heads=4,
        dtype="float32",
    )
    if size == "base":
        fields |= dict(
            patch_size=2,
            block_out_channels=(64, 128, 256),
            layers_per_block=2,
            decoder_layers=3,
            attention=True,
            dtype="bfloat16",
        )
    elif size != "small":
        raise UserError(f"size={size}: expected small or base")
    return fields


def _quantizer(arg):
    if arg.quantizer == "fsq":
        if arg.codes not in _LEVELS:
            raise UserError(
                f"codes={arg.codes}: with quantizer=fsq expected one of "
                f"{', '.join(map(str, _LEVELS))}; others by --config.task.quantizer.levels"
            )
        return dict(name="fsq", levels=_LEVELS[arg.codes])
    if arg.quantizer not in ("vector", "residual"):
        raise UserError(f"quantizer={arg.quantizer}: expected vector, residual or fsq")
    residual = arg.quantizer == "residual"
    return dict(
        name="vector",
        num_codes=arg.codes,
        dim=arg.dim,
        depth=2 if residual else 1,
        cosine=not residual,
        decay=0.99,
        gradient="rotation",
        restart_below=0.05,
        block=4096,
    )


def _debug(config, codes):
    config.task.update(image_size=16)
    config.task.autoencoder.update(
        patch_size=2, block_out_channels=(8, 16), layers_per_block=1, decoder_layers=1, heads=2,
        attention=False, head_channels=4,
    )  # fmt: skip
    if config.task.quantizer.name == "vector":
        config.task.quantizer.update(num_codes=min(codes, 32), dim=4)
    config.data.update(image_size=16, num=256)
    config.training.update(num_steps=4, batch_size=8, log_every=1, eval_every=2, checkpoint_every=0)
    config.optimizer.model.warmup_steps = 1
    config.evaluators.codes.update(count=16, batch_size=8)
