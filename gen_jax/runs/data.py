"""The data of a run: shards found or prepared, the tokenizer, batches, and what evaluators read."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from gen_jax.common import ranges
from gen_jax.common.build import build
from gen_jax.common.errors import NoSplit, UserError
from gen_jax.data import dataset, degradations, schema, shards
from gen_jax.data.load import loader, transforms
from gen_jax.data.text import art_words, face_words, instructions, tokenizer_file
from gen_jax.data.text.tokenizer import MIN_VOCAB, Tokenizer, train_tokenizer
from gen_jax.parallel import distributed
from gen_jax.runs import layout
from gen_jax.runs.splits import DataSplits

_LOOKED_AT = 500  # records

_RANGES = {
    "num": ranges.NOT_NEGATIVE,
    "image_size": ranges.AT_LEAST_1,
    "crop_scale": ranges.Range(0, 1, open_low=True),
    "colour": ranges.BELOW_1,
    "instructions": ranges.Range(-1, 1),
    "curriculum_steps": ranges.NOT_NEGATIVE,
    "vocab_size": ranges.Range(MIN_VOCAB),  # one for each byte, and the special ones
    "max_length": ranges.Range(2),
    "num_threads": ranges.AT_LEAST_1,
    "num_workers": ranges.NOT_NEGATIVE,
    "max_bad_records": ranges.NOT_NEGATIVE,
}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What `config.data` may hold.

    Attributes:
      source: an embedded source (`photos`, `shapes`), prepared into the run directory; or
      dir: a folder that `gen_jax.prepare` wrote.
      num: examples to prepare of an embedded source, 0 for its own default.
      image_size: side of the square images that the model sees, in pixels.
      crop_scale: range of a training crop's side as a share of the short side.
      flip: whether to mirror in training (never where a caption names a side).
      symmetries: whether to turn by quarters in training, too, for pictures without a right way up.
      colour: by how much brightness, contrast and saturation vary in training, 0 to below 1.
      degradation: for restoration, a preset of `data/degradations` by name, or its fields: crops
        of the image's own pixels then take the place of resized ones.
      gray: one channel, for restoration.
      instructions: for restoration by text, the share of crops with contradictory faults of which
        an instruction asks some to be removed; -1 where no text is read.
      curriculum_steps: for restoration, steps over which the allowed severity rises.
      face_words: for faces by text, whether sentences are written from the facts of a record; see
        `data.face_words`.
      art_words: for pictures by adjectives, whether captions are written from what is measured of
        them; see `data.art_words`.
      vocab_size: of the tokenizer that is trained on the captions, at most; a frozen text
        encoder brings its own.
      max_length: tokens of a caption.
      num_threads: that read and decode.
      cache: keep decoded images in memory.
      max_bad_records: damaged records to put up with.
      verify: how shards are checked when opened: "size", "digest" or "none".
    """

    source: str = ""
    dir: str = ""
    num: int = 0
    image_size: int = 64
    crop_scale: tuple[float, float] = (0.8, 1.0)
    flip: bool = True
    symmetries: bool = False
    colour: float | int = 0.0
    degradation: Any = ""
    gray: bool = False
    instructions: float | int = -1
    curriculum_steps: int = 0
    face_words: bool = False
    art_words: bool = False
    vocab_size: int = 1024
    max_length: int = 32
    num_threads: int = 4
    num_workers: int = 0
    cache: bool = False
    max_bad_records: int = 10
    verify: str = "size"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "DataConfig":
        """Builds it from `config.data`.

        Raises:
          UserError: An unknown key or a value out of its range.
        """
        c = build(cls, values, "config.data")
        ranges.check_fields(c, _RANGES, "config.data")
        if len(c.crop_scale) != 2 or c.crop_scale[0] > c.crop_scale[1]:
            raise UserError(
                f"config.data.crop_scale={c.crop_scale}: expected two shares of the short side, "
                "the smaller one first"
            )
        if c.verify not in dataset.VERIFY:
            raise UserError(
                f"config.data.verify={c.verify!r}: expected one of {', '.join(dataset.VERIFY)}"
            )
        if bool(c.source) == bool(c.dir):
            raise UserError(
                "config.data: name either an embedded source ('photos' or 'shapes') or a dir of "
                "shards that gen_jax.prepare wrote"
            )
        return c

    @property
    def reads_captions(self) -> bool:
        """Whether texts are the captions of records, not sentences written on the way."""
        return not (self.face_words or self.art_words or self.degradation)


class RunData(DataSplits):
    """Opened data; see `open_data`."""

    def __init__(
        self,
        config: DataConfig,
        splits: DataSplits,
        tokenizer: Tokenizer,
        seed: int,
        arrays: tuple[str, ...] = (),
    ):
        super().__init__(splits.folder, config.verify)
        self.checked |= splits.checked
        self._config, self._seed, self._arrays = config, seed, arrays
        self.tokenizer = tokenizer
        self._train: loader.Loader | None = None

    def with_features(self, folder: pathlib.Path, arrays: tuple[str, ...]) -> "RunData":
        """Returns the same data with features in the records.

        Args:
          folder: Folder of the shards that hold them beside the images.
          arrays: Names of the features that examples have.

        Raises:
          UserError: A shard of the training split is missing or damaged.
        """
        splits = DataSplits(folder, self._config.verify)
        splits.check_split("train")
        return RunData(self._config, splits, self.tokenizer, self._seed, arrays)

    @property
    def max_length(self) -> int:
        """Tokens of a caption."""
        return self._config.max_length

    @property
    def vocab_size(self) -> int:
        """Tokens that the tokenizer knows."""
        return self.tokenizer.vocab_size

    def facts(self) -> dict[str, Any]:
        """What a manifest says of the data."""
        return {
            "fingerprint": self.info.fingerprint,
            "shards": self.info.digests(),
            "tokenizer_sha256": self.tokenizer.digest,
        }

    def _transform(self, train: bool) -> transforms.Transform:
        c = self._config
        if c.degradation:
            reads = c.instructions >= 0
            return transforms.restoration(
                c.image_size,
                degradations.build(c.degradation),
                train=train,
                gray=c.gray,
                instructions=max(0.0, c.instructions),
                tokenizer=self.tokenizer if reads else None,
                max_length=c.max_length,
                curriculum_steps=c.curriculum_steps,
            )
        if self._arrays or c.face_words:
            return transforms.featured(
                c.image_size,
                self._arrays,
                train=train,
                tokenizer=self.tokenizer,
                max_length=c.max_length,
                flip=c.flip,
                faces=c.face_words,
            )
        return transforms.standard(
            c.image_size,
            train=train,
            tokenizer=self.tokenizer,
            max_length=c.max_length,
            scale=c.crop_scale,
            flip=c.flip,
            symmetries=c.symmetries,
            colour=c.colour,
            words=c.art_words,
        )

    def batches(self, batch_size: int, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        """This process's rows of the training batches from a step on, without end."""
        c = self._config
        self._train = loader.make_loader(
            self.folder,
            "train",
            batch_size=batch_size,
            seed=self._seed,
            start_step=start_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            transform=self._transform(train=True),
            num_threads=c.num_threads,
            num_workers=c.num_workers,
            max_bad_records=c.max_bad_records,
            verify="none",  # `open_data` has looked
            cache=c.cache,
        )
        return self._train

    def keys(self, indices: np.ndarray) -> list[str]:
        """Names of the records of a training batch."""
        return self._train.keys(indices) if self._train is not None else []

    def read(self, split: str, count: int) -> dict[str, np.ndarray]:
        """The first `count` examples of a split, whole and unaugmented, on every process."""
        if split not in self.info.splits:
            raise NoSplit(
                f"{self.folder}: no split {split!r}; there are {', '.join(self.info.splits)}"
            )
        # A fixed shuffle: shards may be sorted by what they show.
        total = self.info.num_records(split)
        count = min(count, total)
        with loader.make_loader(
            self.folder,
            split,
            batch_size=count,
            seed=0,
            transform=self._transform(train=False),
            num_threads=1,
            prefetch=1,
            max_bad_records=self._config.max_bad_records,
            verify="none",
        ) as rows:
            return next(rows)

    def records(self, split: str, indices: np.ndarray) -> list[schema.Record]:
        """Whole records by the `index` that `read` gave."""
        with loader.make_loader(self.folder, split, batch_size=1, seed=0, verify="none") as reader:
            return reader.records(indices)

    def tokenize(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Tokens and their mask, `[n, max_length]` each."""
        found = self.tokenizer.encode(texts, self._config.max_length)
        return {"tokens": found.ids, "token_mask": found.mask}

    @functools.cached_property
    def captions(self) -> dict[int, tuple[str, ...]]:
        """Class -> its captions in the held-out split; empty where there are no classes."""
        out: dict[int, set[str]] = {}
        if self.info.label_names and "val" in self.info.splits:
            with loader.make_loader(
                self.folder, "val", batch_size=1, seed=0, verify="none"
            ) as reader:
                for record in _readable(reader):
                    out.setdefault(record.label, set()).update(record.captions)
        return {k: tuple(sorted(v)) for k, v in sorted(out.items()) if v and k >= 0}


def locate(config: Mapping[str, Any], workdir: pathlib.Path) -> pathlib.Path:
    """The folder of a run's data, an embedded source being prepared the first time.

    Raises:
      UserError: neither a source nor a folder is named.
    """
    c = DataConfig.of(config)
    folder = pathlib.Path(c.dir) if c.dir else workdir / "data"
    if c.source and distributed.is_main():
        _prepare(c, folder)
    distributed.barrier("data")
    return folder


def open_data(
    config: Mapping[str, Any],
    workdir: pathlib.Path,
    seed: int,
    tokenizer: Tokenizer | None = None,
) -> RunData:
    """Opens the data of a run.

    Args:
      config: `config.data`.
      workdir: the run directory, where the tokenizer is kept from the first time on.
      seed: of the order of the examples.
      tokenizer: None trains one on the training captions.

    Raises:
      UserError: neither a source nor a folder is named, or the folder is no prepared data.
    """
    c = DataConfig.of(config)
    folder = locate(config, workdir)
    splits = DataSplits(folder, c.verify)
    splits.check_split("train")
    path = workdir / layout.TOKENIZER
    if c.face_words and distributed.is_main():
        _check_facts(folder)
    if distributed.is_main() and not path.exists():
        tokenizer = tokenizer or train_tokenizer(_texts(c, folder), c.vocab_size)
        tokenizer.save(path)
    distributed.barrier("tokenizer")
    return RunData(c, splits, tokenizer_file.load(path), seed)


def _prepare(c: DataConfig, folder: pathlib.Path) -> None:
    from gen_jax.data.prepare import build as data_build

    if not (folder / dataset.FILE).exists():
        print(f"data: preparing {c.source!r} into {folder}", flush=True)
    options = {"source": c.source, "out": str(folder), "num": c.num or None}
    data_build.prepare(data_build.Options(**{k: v for k, v in options.items() if v is not None}))


def _check_facts(folder: pathlib.Path) -> None:
    """Says so where no sentence will ever ask for anything."""
    with loader.make_loader(folder, "train", batch_size=1, seed=0, verify="none") as reader:
        for record in itertools.islice(_readable(reader), _LOOKED_AT):
            if face_words.facts_of(record.attributes):
                return
    expected = "; ".join(f"{k}: {', '.join(v)}" for k, v in face_words.ATTRIBUTES.items())
    print(
        f"note: {folder}: none of its first {_LOOKED_AT} records has an attribute that sentences "
        f"could ask for ({expected}); write them into captions.jsonl and prepare it again",
        flush=True,
    )


def _texts(c: DataConfig, folder: pathlib.Path) -> list[str]:
    """What a tokenizer is trained on."""
    if c.face_words:
        return face_words.vocabulary()
    if c.art_words:
        return art_words.vocabulary() + _train_captions(folder)
    return instructions.vocabulary() if c.instructions >= 0 else _train_captions(folder)


def _train_captions(folder: pathlib.Path) -> list[str]:
    """Each caption of the training split once."""
    with loader.make_loader(folder, "train", batch_size=1, seed=0, verify="none") as reader:
        found = {text for record in _readable(reader) for text in record.captions}
    return sorted(found)


def _readable(reader: loader.Loader) -> Iterator[schema.Record]:
    """All records but the damaged ones, which the training loader counts and reports."""
    for index in range(reader.num_records):
        try:
            yield reader.records([index])[0]
        except (schema.RecordError, shards.ShardError):
            continue
