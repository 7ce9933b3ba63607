r"""Faces by text: "a smiling woman's face with glasses".

    python -m benchmarks.face_data --archive=../shared/data/faces.zip --out=data/face_pictures
    python -m gen_jax.prepare --source=data/face_pictures --out=data/faces
    python -m gen_jax.main --config=configs/faces_text.py:data=data/faces,gray,res=32,size=small \
        --config.training.num_steps=800 --workdir=runs/faces_text
    python -m gen_jax.generate --run=runs/faces_text --prompt="a man's face with glasses" --out=out

The generator of configs/faces.py hears sentences that are written from the attributes of the
records (`gender`, `expression`, `glasses`, see gen_jax/data/text/face_words.py), a few of them at a
time; real faces of which the same is true guide what it makes, and a linear probe on the frozen
features, trained along, names what came (`classifier_weight`). A tenth of the sentences are empty.

`:text=latent` (default) puts the text beside the latent, `:text=cross` lets blocks of 8 and 16
pixels attend to it. `:encoder=compact` (default) is a small transformer trained along;
`:encoder=clip`, `distilbert` and `minilm` are frozen, `--config.task.text_encoder.weights=FILE`.
`:objective=guided` (default), `adversarial` or `drifting`; the other arguments are those of
configs/faces.py. It may begin with a run of it (`--config.init_from=RUN`).

The command above took 33 minutes on 2 CPU cores beside other trainings: at least 94% of samples
were named as asked (docs/results/faces.md#by-text).
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common, faces

_LENGTH = 24  # tokens of a sentence
# Fields are some thirty times as strong as a discriminator.
_READING = {"drifting": 10.0, "adversarial": 0.1, "guided": 0.2}
_MINILM = ("distilbert", "all-MiniLM-L6-v2")

# The contract tests train this task by configs/faces.py.
CONTRACT_ARGS = ()


def get_config(arg=None):
    arg = common.parse_arg(
        arg,
        res=64,
        objective="guided",
        text="latent",
        size="base",
        encoder="compact",
        data="photos",
        gray=False,
        debug=False,
    )
    if arg.text not in ("latent", "cross"):
        raise UserError(f"text={arg.text}: expected latent or cross")
    if arg.objective not in ("drifting", "adversarial", "guided"):
        raise UserError(
            f"objective={arg.objective}: with text expected drifting, adversarial or guided"
        )
    shared = f"res={arg.res},objective={arg.objective},size={arg.size},data={arg.data}"
    config = faces.get_config(f"{shared},gray={arg.gray},debug={arg.debug}").unlock()
    config.task.generator.text = arg.text
    config.task.text_encoder = common.text_encoder(
        arg.encoder, _LENGTH, hidden_size=64, minilm=_MINILM
    )
    config.task.text_dropout_prob = 0.1
    config.task.objective.classifier_weight = _READING[arg.objective]
    if config.task.objective.name == "adversarial":
        # One of 1 leaves a discriminator so flat that the probe alone is heard.
        config.task.objective.r1_weight = 0.1
    config.data.transform = common.transform("face_captions")
    config.data.update(max_length=_LENGTH, vocab_size=512)
    config.evaluators.faces.update(per_value=64)
    if arg.debug:
        config.task.text_encoder.update(hidden_size=16, num_layers=1, num_heads=2)
        if arg.objective == "drifting":
            config.training.batch_size = 16
        config.evaluators.faces.update(per_value=4)
    return config.lock()
