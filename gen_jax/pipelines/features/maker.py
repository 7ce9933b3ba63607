"""One task's shards: read, computed, packed and written."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.common.progress import ProgressLine, say
from gen_jax.data import schema, shards
from gen_jax.pipelines.features import parts, reading
from gen_jax.pipelines.features.fidelity import Fidelity
from gen_jax.pipelines.features.plan import Options, Part
from gen_jax.pipelines.features.program import Computed, Program
from gen_jax.pipelines.features.towers import Tower


class Maker:
    """Makes shards one after the other, showing how far it is."""

    def __init__(
        self,
        tower: Tower,
        program: Program,
        options: Options,
        records: Mapping[str, shards.ShardedRecords],
    ):
        """Describes the maker; `records` are those of each split."""
        self._tower, self._program, self._options, self._records = tower, program, options, records
        self._out = pathlib.Path(options.out)
        self._sizes = {name: int(np.prod(of.shape)) for name, of in tower.outputs.items()}
        self._bad = 0

    def run(self, todo: Sequence[Part], done: int) -> int:
        """Makes these shards, where `done` of this task's stand already.

        Returns:
          The number of examples.

        Raises:
          UserError: too many bad images, or no room for the shards.
        """
        total = sum(part.records for part in todo)
        finished = 0
        with ProgressLine("features", total, 0, unit="image") as line:
            for number, part in enumerate(todo, done + 1):
                self._make(part, lambda count, start=finished: line.update(start + count, {}))
                finished += part.records
                say(f"{part.name}: {part.records} images, shard {number} of {done + len(todo)}")
        return total

    def _make(self, part: Part, show: Callable[[int], None]) -> None:
        measured: dict[str, Fidelity] = collections.defaultdict(Fidelity)
        skipped: dict[str, str] = {}

        def payloads():
            for count, payload in enumerate(self._payloads(part, measured, skipped), 1):
                yield payload
                show(count)

        written = shards.write_shard(self._out / part.name, payloads())
        parts.leave(self._out, part, written, measured, skipped)

    def _payloads(self, part, measured, skipped) -> Iterator[bytes]:
        waiting: collections.deque = collections.deque()
        for group in self._groups(part):
            waiting.append((group, self._program(self._joined(group))))
            # The device works on one batch while another one is packed and written.
            if len(waiting) > 1:
                yield from self._pack(*waiting.popleft(), measured, skipped)
        while waiting:
            yield from self._pack(*waiting.popleft(), measured, skipped)

    def _groups(self, part: Part) -> Iterator[list[reading.Chunk]]:
        """As many chunks as there are devices, or fewer at the end."""
        group: list[reading.Chunk] = []
        for chunk in reading.chunks(
            self._records[part.split],
            range(part.start, part.stop),
            size=self._options.batch_size,
            inputs=self._tower.inputs,
            num_threads=self._options.num_threads,
        ):
            group.append(chunk)
            if len(group) == self._program.num_devices:
                yield group
                group = []
        if group:
            yield group

    def _joined(self, group: Sequence[reading.Chunk]) -> dict[str, np.ndarray]:
        """The inputs of all devices; those without a chunk get zeros."""
        idle = self._program.num_devices - len(group)
        joined = {}
        for name, first in group[0].inputs.items():
            rows = [chunk.inputs[name] for chunk in group] + [np.zeros_like(first)] * idle
            joined[name] = rows[0] if len(rows) == 1 else np.concatenate(rows)
        return joined

    def _pack(
        self,
        group: Sequence[reading.Chunk],
        computed: Computed,
        measured: dict[str, Fidelity],
        skipped: dict[str, str],
    ) -> Iterator[bytes]:
        host = jax.device_get(computed)
        for place, chunk in enumerate(group):
            for row, record in enumerate(chunk.records):
                if row in chunk.skipped:
                    name, why = chunk.skipped[row]
                    skipped[name] = why
                    self._count_bad(name, why)
                    # Keeps its place, so that positions agree with the data set's.
                    yield schema.pack(_empty(record, name))
                    continue
                at = place * self._options.batch_size + row
                for name, cosine in host.cosine.items():
                    measured[name].add(
                        np.asarray(cosine[at]), host.sums[name][at], self._sizes[name]
                    )
                image = record.image if self._options.keep_image else b""
                arrays = {name: value[at] for name, value in host.arrays.items()}
                yield schema.pack(dataclasses.replace(record, image=image, arrays=arrays))

    def _count_bad(self, name: str, why: str) -> None:
        self._bad += 1
        if 0 <= self._options.max_bad < self._bad:
            raise UserError(
                f"{self._options.data}: {name} cannot be read ({why}), and it is number "
                f"{self._bad}: more than max_bad={self._options.max_bad}; restore the shards "
                "or prepare again"
            )


def _empty(record: schema.Record | None, name: str) -> schema.Record:
    if record is None:
        return schema.Record(key=name, image=b"", height=0, width=0)
    return dataclasses.replace(record, image=b"")
