r"""Engravings: one latent that decodes to an image and to its caption.

    python -m gen_jax.prepare --source=engravings.zip --out=data/engravings
    python -m gen_jax.main --config=configs/engravings.py:data=data/engravings \
        --workdir=runs/engravings
    python -m gen_jax.generate --run=runs/engravings --num=16 --out=out/engravings
    python -m gen_jax.generate --run=runs/engravings --prompt="a horse" --out=out/horse

The data is any folder or zip of images with captions.jsonl (docs/data-formats.md); without `data=`
it is the embedded photographs in gray. Images are shown whole, padded with white to `res` pixels.

An autoencoder with a spatial and a pooled latent, a caption decoder that attends to both, a
contrastive loss between pooled latent and caption (`contrastive=siglip` or info_nce), and a flow
over the latents of image and caption. `features=FILE` lets the pooled latent read the features of a
MobileNetV2 with these weights (docs/encoders.md), which stay as they are; the evaluators look for
neighbors by them, too. `spatial=0` leaves the pooled latent alone, which shows what the spatial one
is good for. `variant=roadmap` is for accelerators: 512x512 pixels, a pooled latent of 1,024
numbers, 8,000 tokens, 52.7 million parameters and a flow of 12.2 million.

`flow_of=RUN` goes on with the flow of a run alone. On 4,555 engravings from books, 250 held out, 2
cores, 52 and 12 minutes: PSNR 24.85 dB, R@10 30% image to text (chance 4%), CIDEr-D 0.123, where
the caption of the nearest training image has 0.230 (docs/results/engravings.md).
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common

_LENGTH = 32  # tokens of a caption


def get_config(arg=None):
    arg = common.parse_arg(
        arg,
        data="photos",
        res=96,
        spatial=32,
        contrastive="siglip",
        vocab=2000,
        features="",
        variant="laptop",
        flow_of="",
        debug=False,
    )
    config = common.base()
    encoder = f"mobilenet-v2:{arg.features}" if arg.features else ""
    with config.unlocked():
        config.task = dict(
            name="engravings",
            autoencoder=dict(
                channels=1,
                spatial_channels=arg.spatial,
                pooled_dim=512,
                pooled_tokens=8,
                context_dim=256,
                # The first blocks work on 16x16 places, the spatial latent has 8x8.
                patch_size=max(1, arg.res // 16),
                block_out_channels=(64, 128),
                layers_per_block=2,
                decoder_layers=2,
                dtype="float32",
            ),
            caption_decoder=dict(
                hidden_size=256, num_layers=3, num_heads=8, dropout=0.2, dtype="float32"
            ),
            text_encoder=dict(
                name="compact",
                vocab_size=arg.vocab,
                max_length=_LENGTH,
                hidden_size=128,
                num_layers=2,
                num_heads=4,
                dtype="float32",
            ),
            caption_side=dict(latent_dim=256, embedding_dim=128),
            flow=dict(hidden_size=256, num_layers=4, num_heads=8, dtype="float32"),
            image_size=arg.res,
            backbone=encoder,
            backbone_size=arg.res * 5 // 3,
            contrastive=arg.contrastive,
        )
        config.evaluators = dict(
            captioned_images=dict(count=250, train=10_000, batch_size=50, encoder=encoder),
            validation_loss=dict(count=250, batch_size=32),
            captioned_samples=dict(
                count=512,
                train=4096,
                batch_size=64,
                encoder=encoder,
                components=8,
                least=20,
                at_end=True,
            ),
            memorisation=dict(count=512, train=10_000, batch_size=64, encoder=encoder, at_end=True),
        )
        config.data.transform = common.transform("letterbox", gray=False, flip=True)
    config.data.update(image_size=arg.res, max_length=_LENGTH, vocab_size=arg.vocab)
    config.training.update(
        num_steps=2400,
        batch_size=32,
        ema=0.998,
        eval_every=800,
        checkpoint_every=400,
        keep_every_epochs=5.0,
        best_metric="engravings/cider",
        best_mode="max",
    )
    config.optimizer.model.update(
        learning_rate=1e-3, warmup_steps=100, weight_decay=0.05, clip_norm=1.0
    )
    common.set_data(config, arg.data)
    if arg.variant == "roadmap":
        _roadmap(config)
    elif arg.variant != "laptop":
        raise UserError(f"variant={arg.variant}: expected laptop or roadmap")
    if arg.flow_of:
        _flow_alone(config, arg.flow_of)
    if arg.debug:
        _debug(config)
    return config.lock()


def _roadmap(config):
    """Makes it the size for accelerators: 512x512 pixels, 1,024 numbers, 8,000 tokens."""
    config.task.image_size = config.data.image_size = 512
    config.data.vocab_size = config.task.text_encoder.vocab_size = 8000
    config.task.autoencoder.update(
        patch_size=8, block_out_channels=(128, 256, 384), pooled_dim=1024, pooled_tokens=16,
        context_dim=512, spatial_channels=32,
    )  # fmt: skip
    config.task.caption_decoder.update(hidden_size=512, num_layers=3, num_heads=8)
    config.task.text_encoder.update(hidden_size=256, num_layers=4, num_heads=8)
    config.task.flow.update(hidden_size=384, num_layers=6, num_heads=6)
    config.task.backbone_size = 224
    config.training.update(num_steps=60_000, batch_size=64, eval_every=5000, checkpoint_every=1000)


def _flow_alone(config, run):
    """Goes on with the flow of a run alone: a step takes half the time."""
    config.init_from = run
    with config.unlocked():
        for name in ("l1", "l2", "caption", "contrastive", "size"):
            config.task[f"{name}_weight"] = 0.0
    config.optimizer.model.freeze = "^(autoencoder|caption_decoder|caption_side|text_encoder)/"


def _debug(config):
    config.task.image_size = 16
    # Two channels per group: alone in its group, a channel's scale would have no gradient.
    config.task.autoencoder.update(
        spatial_channels=4, pooled_dim=16, pooled_tokens=2, context_dim=16, patch_size=2,
        block_out_channels=(16, 16), layers_per_block=1, decoder_layers=1,
    )  # fmt: skip
    config.task.caption_decoder.update(hidden_size=16, num_layers=1, num_heads=2)
    config.task.text_encoder.update(vocab_size=512, hidden_size=24, num_layers=1, num_heads=2)
    config.task.caption_side.update(latent_dim=16, embedding_dim=8)
    config.task.flow.update(hidden_size=32, num_layers=1, num_heads=2)
    with config.unlocked():
        config.task.num_inference_steps = 2
    config.data.update(image_size=16, num=256, vocab_size=512)
    config.training.update(
        num_steps=4, batch_size=8, log_every=1, eval_every=2, checkpoint_every=0,
        keep_every_epochs=0.0,
    )  # fmt: skip
    config.optimizer.model.warmup_steps = 1
    config.evaluators.captioned_images.update(count=8, train=16, batch_size=8)
    config.evaluators.validation_loss.update(count=8, batch_size=8)
    config.evaluators.captioned_samples.update(
        count=8, train=16, batch_size=8, components=2, least=2
    )
    config.evaluators.memorisation.update(count=8, train=16, batch_size=8)
