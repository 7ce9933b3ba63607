"""What the recipes share: how `FILE:ARG` is read, and the keys that every config has."""

import shlex
from typing import Any

import ml_collections

from gen_jax.common.errors import UserError
from gen_jax.common.fields import defaults_of
from gen_jax.data.load.transforms import TRANSFORMS
from gen_jax.data.prepare.sources import EMBEDDED
from gen_jax.training import optim


def parse_arg(arg: str | None, **defaults: Any) -> ml_collections.ConfigDict:
    """Reads `key=value,key=value`; a bare `key` means True.

    A value with a comma stands in double quotes: `data="a,b"`.

    Args:
      arg: What follows the colon in `--config=FILE:ARG`.
      **defaults: The keys there are; a value takes the type of its default.

    Raises:
      UserError: an unknown key or a value of another type.
    """
    values = dict(defaults)
    for part in _parts(arg or ""):
        key, _, text = part.partition("=")
        if key not in defaults:
            raise UserError(
                f"--config=...:{arg}: unknown {key!r}; known are {sorted(defaults)}{_quoting(arg)}"
            )
        kind = type(defaults[key])
        try:
            if kind is bool:
                values[key] = {"": True, "true": True, "1": True, "false": False, "0": False}[
                    text.lower()
                ]
            else:
                values[key] = kind(text)
        except (ValueError, KeyError) as error:
            raise UserError(f"--config=...:{arg}: {key} must be {kind.__name__}") from error
    return ml_collections.ConfigDict(values)


def _parts(arg: str) -> list[str]:
    """Splits at the commas that stand outside double quotes, and takes the quotes away."""
    lexer = shlex.shlex(arg, posix=True)
    lexer.whitespace, lexer.whitespace_split = ",", True
    lexer.quotes, lexer.escape, lexer.commenters = '"', "", ""
    try:
        return [part for part in lexer if part]
    except ValueError as error:
        raise UserError(
            f"--config=...:{arg}: a double quote is not closed{_quoting(',')}"
        ) from error


def quoted(value: str) -> str:
    """Returns a value as it stands in an argument of another recipe."""
    return f'"{value}"' if "," in value else value


def _quoting(arg: str) -> str:
    """Returns how a value that holds a comma is written, if `arg` holds one."""
    if "," not in arg:
        return ""
    return """; a value with a comma stands in double quotes: '--config=FILE:data="a,b"'"""


def base() -> ml_collections.ConfigDict:
    """Returns the keys that every config has, locked, with values that suit one small device."""
    return ml_collections.ConfigDict(
        dict(
            # The stage and its architecture, see gen_jax/tasks.
            task=dict(name=""),
            # Where examples come from, see gen_jax/runs/data.py.
            data=dict(
                source="photos",  # an embedded source, prepared on the way; or
                dir="",  # a folder that gen_jax.prepare wrote
                num=0,  # examples to prepare of an embedded source, 0: its own default
                image_size=64,
                # From records to inputs, see gen_jax/data/load/transforms.py.
                transform=transform("crops"),
                # Of stages that read text.
                vocab_size=1024,  # of the tokenizer trained on the captions
                max_length=32,  # tokens per caption
                num_threads=4,
                num_workers=0,  # processes that read instead, for transforms that cost more
                cache=True,  # keep decoded images in memory: for small data sets
                max_bad_records=10,
                verify="size",  # or "digest", "none": how shards are checked when opened
            ),
            # Steps, batch and cadence, see gen_jax/training/loop.py.
            training=dict(
                num_steps=1000,
                batch_size=64,
                seed=0,
                accumulation_steps=1,
                ema=0.999,
                ema_groups=("model",),
                log_every=50,
                eval_every=0,
                checkpoint_every=0,
                # In place of the steps; 0: by the steps.
                num_epochs=0.0,
                eval_every_epochs=0.0,
                checkpoint_every_epochs=0.0,
                keep_every_epochs=0.0,  # checkpoints that are never deleted
                keep=2,
                best_metric="",
                best_mode="min",
                patience=0,  # evaluations without a better best_metric that end the run; 0: never
                max_nonfinite=20,
                profile_steps=0,
            ),
            # Parameter group -> optimizer, see gen_jax/training/optim.py.
            optimizer=dict(model=optimizer()),
            # Devices along each axis; -1 takes what is left.
            mesh=dict(replica=1, fsdp=-1, tensor=1),
            # Ordered (path regex, tactic), see gen_jax/parallel/sharding.py.
            sharding=dict(rules=((".*", "fsdp"),)),
            # Evaluator -> its values, see gen_jax/evaluation.
            evaluators=dict(),
            # Trained models that this one works on: name -> run directory or package:NAME.
            frozen=dict(),
            # A run, or package:NAME, whose parameters this one begins with.
            init_from="",
            # Low-rank factors of the kernels that `match` names, see docs/lora.md; "": none.
            lora=dict(match="", rank=8, alpha=8.0, base_dtype="float32"),
            # Configs that are trained first where `frozen` names no model.
            requires=dict(),
            tensorboard=True,
        )
    ).lock()


def transform(name: str, **changes: Any) -> dict[str, Any]:
    """Returns `config.data.transform` with every field, so that the command line can set each.

    Args:
      name: Name in `TRANSFORMS`.
      **changes: Fields with other values than their defaults.

    Raises:
      UserError: An unknown name or field.
    """
    if name not in TRANSFORMS:
        raise UserError(f"transform: unknown name {name!r}; known are {', '.join(TRANSFORMS)}")
    values = defaults_of(TRANSFORMS[name])
    if unknown := sorted(set(changes) - set(values)):
        raise UserError(
            f"transform {name!r}: unknown key {unknown[0]!r}; it takes {', '.join(values)}"
        )
    return {"name": name, **values, **changes}


def optimizer(**changes: Any) -> dict[str, Any]:
    """One group's optimizer with every key, so that each can be set from the command line."""
    return optim.complete(changes, "optimizer")


def set_data(config: ml_collections.ConfigDict, data: str) -> None:
    """Points `config.data` at an embedded source by name, or at a folder of shards."""
    if data in EMBEDDED:
        config.data.source, config.data.dir = data, ""
    else:
        config.data.source, config.data.dir = "", data


def text_encoder(
    name: str, max_length: int, hidden_size: int, **towers: tuple[str, str]
) -> dict[str, Any]:
    """`config.task.text_encoder` by name.

    Args:
      name: compact, which is trained along, clip, distilbert or one of `towers`, which are frozen.
      max_length: tokens of a text.
      hidden_size: of the compact one.
      **towers: further names -> the encoder's kind and its tower in the catalog.

    Raises:
      UserError: another name.
    """
    if name == "compact":
        return dict(
            name="compact",
            vocab_size=512,
            max_length=max_length,
            hidden_size=hidden_size,
            num_layers=2,
            num_heads=4,
            dtype="float32",
        )
    known = {
        "clip": ("clip", "clip-vit-large-patch14-text"),
        "distilbert": ("distilbert", "distilbert-base-uncased"),
        **towers,
    }
    if name not in known:
        *first, last = ("compact", *known)
        raise UserError(f"encoder={name}: expected {', '.join(first)} or {last}")
    kind, tower = known[name]
    where = dict(tower=tower, weights="", vocabulary="", layer=-1)
    return dict(name=kind, max_length=max_length, dtype="float32", **where)
