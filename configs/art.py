r"""Pictures by adjectives: "calm, deep blue, swirling".

    python -m gen_jax.prepare --source=FOLDER --crops=32 --size=160 --out=data/art
    python -m gen_jax.main --config=configs/vqvae.py:data=data/art,res=128 --workdir=runs/vqvae
    python -m gen_jax.main --config=configs/art.py:data=data/art,res=128 \
        --config.frozen.vqvae=runs/vqvae --workdir=runs/art
    python -m gen_jax.generate --run=runs/art --prompt="calm, deep blue, swirling" --out=out

A transformer learns the codes of a VQ-VAE, which is trained first where none is named. Captions
are written from what is measured of each crop as it is seen (words:
gen_jax/data/text/art_vocabulary.json, rules: docs/annotation.md); a caption of the data's own is
used half the time.

`:prior=masked` (default) tells hidden codes from the others and samples in a dozen steps (MaskGIT,
arXiv 2202.04200), or to the same KID in 7 at `--config.task.temperature=0.6`; `:prior=ordered`
tells one after the other, and learns fastest from a masked one (`--config.init_from=RUN`).
`:encoder=compact` (default) is trained along; `minilm`, `distilbert` and
`clip` are frozen, `--config.task.text_encoder.weights=FILE`: they know words that the captions
never had.
`:style` first draws what a picture is like as a whole, a few numbers that all codes are then given:
samples come nearer to the details' colours and unrest (at 64 pixels 1.13 times the KID of their
codes' reconstructions; at 128 1.6, and 1.8 with none), and `generate --style_image=FILE` takes a
picture's.
`:captions=own` keeps to the data's own captions, and asks whether samples look like pictures of
their prompt's class. `:joint` trains the decoder along, which then hears the text, too.
`size=small` (default) is for CPUs, `size=base` for an accelerator. The arguments of
configs/vqvae.py decide the VQ-VAE.

Measured (docs/results/art.md#priors): the third command with minilm, a batch of 16 and 1,000
steps, half an hour on 2 CPU cores with its evaluation: 19 of 28 adjectives heard in at least 80% of
samples; 4,500 steps, an hour more: 21. `captions=own,res=64,codes=1024` on 2,059 cutouts
of 142 classes, 4,500 steps of 16: the class is among the ten nearest for 0.44 of samples (chance
0.10); `size=base`, 5,000 steps of 64, 2 minutes of an H200 beside four trainings: 0.59. There
`size=base` by adjectives, 2,700 steps of 64: 19 of 28, KID 0.33 of that of random codes, 0.29 with
`prior=ordered`. `joint`, 500 steps after the 4,500, on CPU cores: 22 of 28, 0.31.
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common, vqvae

_LENGTH = 24  # tokens of a caption
_MINILM = ("distilbert", "all-MiniLM-L6-v2")

# What the contract tests train.
CONTRACT_ARGS = ("debug,joint,style",)


def get_config(arg=None):
    arg = common.parse_arg(
        arg,
        data="photos",
        res=64,
        quantizer="vector",
        codes=256,
        dim=4,
        prior="masked",
        encoder="compact",
        captions="measured",
        joint=False,
        style=False,
        size="small",
        debug=False,
    )
    if arg.prior not in ("masked", "ordered"):
        raise UserError(f"prior={arg.prior}: expected masked or ordered")
    if arg.captions not in ("measured", "own"):
        raise UserError(f"captions={arg.captions}: expected measured or own")
    shared = f"data={common.quoted(arg.data)},res={arg.res},size={arg.size},debug={arg.debug}"
    config = common.base()
    with config.unlocked():
        config.requires.vqvae = vqvae.get_config(
            f"{shared},quantizer={arg.quantizer},codes={arg.codes},dim={arg.dim}"
        )
        config.frozen.vqvae = ""
        config.task = dict(
            name="art",
            prior=_prior(arg),
            text_encoder=common.text_encoder(arg.encoder, _LENGTH, hidden_size=128, minilm=_MINILM),
            style=_style() if arg.style else None,
            text_dropout_prob=0.1,
            label_smoothing=0.0,
            decoder_weight=1.0 if arg.joint else 0.0,
            guidance_scale=2.0,
            num_inference_steps=16,
            temperature=0.9 if arg.prior == "ordered" else 1.0,
            choice_temperature=2.0,
        )
        config.evaluators = dict(
            art_samples=dict(count=256, split="val", batch_size=32, encoder=""),
            adjectives=dict(
                per_word=16, batch_size=32, words=(), paraphrases=True, probe=1024, encoder=""
            ),
            prompt_robustness=dict(per_word=4, batch_size=32),
            word_attention=dict(count=8, split="val"),
            word_margins=dict(count=256, split="val", batch_size=32),
            memorisation=dict(count=256, split="val", batch_size=32, encoder="", prompts=True),
        )
    config.data = config.requires.vqvae.data.copy_and_resolve_references()
    config.data.transform.name = "art_captions"  # the crops of the VQ-VAE, captioned
    config.data.update(max_length=_LENGTH, vocab_size=512)
    config.training.update(
        num_steps=2000,
        batch_size=32,
        ema=0.995,
        eval_every=1000,
        checkpoint_every=500,
        best_metric="art/kid_untrained",
    )
    if arg.captions == "own":
        _own_captions(config)
    config.optimizer.model.update(
        learning_rate=1e-3, warmup_steps=100, weight_decay=0.05, clip_norm=1.0
    )
    if arg.size == "base":
        config.data.num_workers = 8  # what is measured of each crop, 1 ms, would hold a GPU up
        config.training.update(num_steps=20_000, batch_size=64, eval_every=10_000, ema=0.999)
        config.optimizer.model.update(learning_rate=3e-4, warmup_steps=500)
        _evaluate(
            config, batch_size=128, art_samples=512, memorisation=512, class_retrieval=512,
            adjectives=64, prompt_robustness=32,
        )  # fmt: skip
    if arg.debug:
        _debug(config)
    return config.lock()


def _own_captions(config):
    """Captions that the data bring, and classes: things have a right way up and are shown whole."""
    with config.unlocked():
        for name in ("adjectives", "prompt_robustness", "word_attention", "word_margins"):
            del config.evaluators[name]
        config.evaluators.class_retrieval = dict(count=256, k=10, batch_size=32, encoder="")
        config.task.guidance_scale = 3.0
    for data in (config.data, config.requires.vqvae.data):
        data.transform.symmetries = False
    config.data.transform.update(name="crops", crop_scale=(1.0, 1.0))
    config.data.vocab_size = 2048
    if config.task.text_encoder.name == "compact":
        config.task.text_encoder.vocab_size = 2048


def _prior(arg):
    fields = dict(hidden_size=192, num_layers=4, num_heads=4, dtype="float32")
    if arg.size == "base":
        fields = dict(hidden_size=320, num_layers=8, num_heads=5, dtype="bfloat16")
    elif arg.size != "small":
        raise UserError(f"size={arg.size}: expected small or base")
    return dict(**fields, is_causal=arg.prior == "ordered", dropout=0.1, remat=False)


def _style():
    return dict(
        encoder=dict(dim=16, hidden=64),
        flow=dict(hidden=256, num_layers=3),
        noise=0.5,
        dropout_prob=0.1,
    )


def _debug(config):
    config.task.prior.update(hidden_size=16, num_layers=1, num_heads=2)
    config.task.num_inference_steps = 3
    if config.task.text_encoder.name == "compact":
        config.task.text_encoder.update(hidden_size=16, num_layers=1, num_heads=2)
    if config.task.get("style") is not None:
        config.task.style.flow.update(hidden=16, num_layers=1)
    config.training.update(num_steps=4, batch_size=8, log_every=1, eval_every=2, checkpoint_every=0)
    config.optimizer.model.warmup_steps = 1
    _evaluate(
        config, batch_size=8, art_samples=16, memorisation=8, class_retrieval=8, word_margins=8,
        adjectives=2, prompt_robustness=1,
    )  # fmt: skip
    if "adjectives" in config.evaluators:
        config.evaluators.adjectives.words = ("dark", "bright")
        config.evaluators.word_attention.count = 2


def _evaluate(config, batch_size, **counts):
    """How many samples or images each evaluator that there is takes, and how many at once."""
    for name, count in counts.items():
        if name in config.evaluators:
            key = "count" if "count" in config.evaluators[name] else "per_word"
            config.evaluators[name].update({key: count, "batch_size": batch_size})
