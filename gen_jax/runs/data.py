"""The data of a run: prepared shards, the tokenizer, training batches, and evaluation splits."""

import dataclasses
import functools
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from gen_jax.common import ranges
from gen_jax.common.build import build, by_name
from gen_jax.common.errors import NoSplit, UserError
from gen_jax.data import dataset, schema, shards
from gen_jax.data.load import loader, transforms
from gen_jax.data.load.augmentation import Transform
from gen_jax.data.load.named_transform import WHERE, NamedTransform
from gen_jax.data.text import tokenizer_file
from gen_jax.data.text.tokenizer import MIN_VOCAB, Tokenizer, train_tokenizer
from gen_jax.parallel import distributed
from gen_jax.runs import layout
from gen_jax.runs.splits import DataSplits

_RANGES = {
    "num": ranges.NOT_NEGATIVE,
    "image_size": ranges.AT_LEAST_1,
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
      source: Embedded source (`pictograms`, `photos`, `shapes`) that is prepared into the run
        directory; or
      dir: Folder that `gen_jax.prepare` wrote.
      num: Examples of an embedded source to prepare, 0 for the source's own default.
      image_size: Side of the square images that the model reads, in pixels.
      transform: Transform from records to inputs, by name; see `data.load.transforms`.
      vocab_size: Largest number of tokens of the tokenizer that is trained on the run's texts. A
        frozen text encoder has a tokenizer of its own.
      max_length: Tokens per text.
      num_threads: Threads that read and decode.
      num_workers: Processes that read instead of threads, 0 for none.
      cache: Whether decoded images are kept in memory.
      max_bad_records: Damaged records after which a run stops.
      verify: How shards are checked when opened: "size", "digest" or "none".
    """

    source: str = ""
    dir: str = ""
    num: int = 0
    image_size: int = 64
    transform: NamedTransform = dataclasses.field(default_factory=transforms.Crops)
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
        values = dict(values)
        if "transform" in values:
            values["transform"] = _built(values["transform"])
        c = build(cls, values, "config.data")
        ranges.check_fields(c, _RANGES, "config.data")
        if c.verify not in dataset.VERIFY:
            raise UserError(
                f"config.data.verify={c.verify!r}: expected one of {', '.join(dataset.VERIFY)}"
            )
        if bool(c.source) == bool(c.dir):
            raise UserError(
                "config.data: name either an embedded source ('pictograms', 'photos' or 'shapes') "
                "or a dir of shards that gen_jax.prepare wrote"
            )
        return c


def _built(values: Any) -> NamedTransform:
    if not isinstance(values, Mapping):
        raise UserError(
            f"{WHERE}={values!r}: expected a dict with the name of a transform and its "
            'fields, such as dict(name="crops", flip=False)'
        )
    return by_name(transforms.TRANSFORMS, values, WHERE)


class RunData(DataSplits):
    """Opened data; see `open_data`."""

    def __init__(
        self,
        config: DataConfig,
        splits: DataSplits,
        tokenizer: Tokenizer | None,
        seed: int,
        features: tuple[str, ...] = (),
    ):
        super().__init__(splits.folder, config.verify)
        self.checked |= splits.checked
        self._config, self._seed, self._features = config, seed, features
        self.tokenizer = tokenizer
        self._train: loader.Loader | None = None

    def with_features(self, folder: pathlib.Path, features: tuple[str, ...]) -> "RunData":
        """Returns the same data with features in the records.

        Args:
          folder: Folder of the shards that hold them beside the images.
          features: Names of the features that examples have.

        Raises:
          UserError: A shard of the training split is missing or damaged.
        """
        splits = DataSplits(folder, self._config.verify)
        splits.check_split("train")
        return RunData(self._config, splits, self.tokenizer, self._seed, features)

    @property
    def vocab_size(self) -> int:
        """Number of tokens of the tokenizer, 0 if there is none."""
        return self.tokenizer.vocab_size if self.tokenizer else 0

    def facts(self) -> dict[str, Any]:
        """Returns what a manifest contains about the data."""
        text = {"tokenizer_sha256": self.tokenizer.digest} if self.tokenizer else {}
        return {"fingerprint": self.info.fingerprint, "shards": self.info.digests(), **text}

    def _transform(self, train: bool) -> Transform:
        c = self._config
        return c.transform.build(
            c.image_size,
            train=train,
            tokenizer=self.tokenizer,
            max_length=c.max_length,
            features=self._features,
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
        """Returns "tokens" and "token_mask", `[n, max_length]` each.

        Raises:
          UserError: The run's task reads no text.
        """
        if self.tokenizer is None:
            raise UserError(
                f"{self.folder}: opened without a tokenizer, because the task reads no text; leave "
                "out the evaluators that generate from prompts"
            )
        encoded = self.tokenizer.encode(texts, self._config.max_length)
        return {"tokens": encoded.ids, "token_mask": encoded.mask}

    def detokenize(self, tokens: np.ndarray) -> list[str]:
        """Returns the texts of tokens [n, length], of a run whose task reads text."""
        return [self.tokenizer.decode(ids).strip() for ids in tokens]

    @functools.cached_property
    def captions(self) -> dict[int, tuple[str, ...]]:
        """Class -> its captions in the held-out split; empty where there are no classes."""
        out: dict[int, set[str]] = {}
        if self.info.label_names and "val" in self.info.splits:
            for record in _readable(self.folder, "val"):
                out.setdefault(record.label, set()).update(record.captions)
        return {k: tuple(sorted(v)) for k, v in sorted(out.items()) if v and k >= 0}


def locate(config: Mapping[str, Any], workdir: pathlib.Path) -> pathlib.Path:
    """Returns the folder of a run's data, and prepares an embedded source the first time.

    Raises:
      UserError: Neither a source nor a folder is named.
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
    reads: Collection[str],
    tokenizer: Tokenizer | None = None,
    is_run: bool = True,
) -> RunData:
    """Opens the data of a run.

    Args:
      config: `config.data`.
      workdir: The run directory, where the tokenizer is kept.
      seed: Seed of the order of the examples and of all augmentation.
      reads: Keys that the task reads (`Task.batch_spec`). There is a tokenizer only if "tokens" is
        among them.
      tokenizer: Tokenizer of a run that has none yet; None trains one on the run's texts.
      is_run: Whether `workdir` is a run directory; in another folder nothing is written.

    Raises:
      UserError: Neither a source nor a folder is named, or the folder is not prepared data.
    """
    c = DataConfig.of(config)
    folder = locate(config, workdir)
    splits = DataSplits(folder, c.verify)
    splits.check_split("train")
    if distributed.is_main() and (note := c.transform.check_records(_readable(folder, "train"))):
        print(f"note: {folder}: {note}", flush=True)
    if "tokens" not in reads:
        kept = None
    else:
        kept = _tokenizer(c, folder, workdir, tokenizer) if is_run else tokenizer
    return RunData(c, splits, kept, seed)


def _tokenizer(
    c: DataConfig, folder: pathlib.Path, workdir: pathlib.Path, given: Tokenizer | None
) -> Tokenizer:
    """Reads the tokenizer of the run directory, which is written there first in a new run."""
    path = workdir / layout.TOKENIZER
    if distributed.is_main() and not path.exists():
        if given is None:
            given = train_tokenizer(c.transform.vocabulary(_captions(folder)), c.vocab_size)
        given.save(path)
    distributed.barrier("tokenizer")
    return tokenizer_file.load(path)


def _prepare(c: DataConfig, folder: pathlib.Path) -> None:
    from gen_jax.data.prepare import build as data_build

    if not (folder / dataset.FILE).exists():
        print(f"data: preparing {c.source!r} into {folder}", flush=True)
    options = {"source": c.source, "out": str(folder), "num": c.num or None}
    data_build.prepare(data_build.Options(**{k: v for k, v in options.items() if v is not None}))


def _captions(folder: pathlib.Path) -> Iterator[str]:
    """Yields each caption of the training split once, sorted; reads no record before that."""
    captions = {text for record in _readable(folder, "train") for text in record.captions}
    yield from sorted(captions)


def _readable(folder: pathlib.Path, split: str) -> Iterator[schema.Record]:
    """Yields all records but the damaged ones, which the training loader counts and reports."""
    with loader.make_loader(folder, split, batch_size=1, seed=0, verify="none") as reader:
        for index in range(reader.num_records):
            try:
                yield reader.records([index])[0]
            except (schema.RecordError, shards.ShardError):
                continue
