"""Faces in pictures, by MTCNN's cascade (arXiv 1604.02878): boxes, probabilities, five points.

The steps and roundings between the networks are those of facenet-pytorch 2.6, whose files the
weights are; a nightly test holds both together. All pictures of a batch have one size, so that the
first network sees them together at every scale; crops of all of them then form one batch.
"""

import dataclasses
import functools
import os

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from gen_jax.encoders import files, mtcnn
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.weights import flax_from_torch

_CELL, _STRIDE = 12, 2  # of P-Net, in pixels
_THRESHOLDS = (0.6, 0.7, 0.7)
_FACTOR = 0.709  # between scales
_LEAST = 64  # side of pictures that are enlarged where they are smaller
_CROPS = 256  # that R-Net and O-Net see at once


@dataclasses.dataclass(frozen=True)
class Face:
    """A face that was found.

    Attributes:
      box: left, top, right, bottom in pixels.
      probability: 0.7 to 1.
      points: x and y in pixels, [5, 2], of the left eye, the right eye, the nose and the left and
        right end of the mouth, as seen in the image.
    """

    box: Float[np.ndarray, "4"]
    probability: float
    points: Float[np.ndarray, "5 2"]


class FaceDetector:
    """Finds faces.

    Args:
      weights: of P-Net, R-Net and O-Net, as `encoders.files.find` takes each; or the first of
        them alone, whose name has "pnet" where the others have "rnet" and "onet".
      min_size: side of the smallest face that is looked for, in pixels.

    Raises:
      UserError: weights that are missing or do not fit.
    """

    def __init__(self, weights: str | os.PathLike, min_size: int = 20):
        self._min_size = min_size
        modules = {"pnet": mtcnn.PNet(), "rnet": mtcnn.RNet(), "onet": mtcnn.ONet()}
        self._run = {}
        for name, module in modules.items():
            found = files.find(os.fspath(weights).replace("pnet", name))
            shapes = param_shapes(module)
            params = flax_from_torch(found.state, shapes, module.port, found.where)
            self._run[name] = functools.partial(_applied, module, params)

    def __call__(self, images: UInt8[np.ndarray, "b h w 3"]) -> list[list[Face]]:
        """Faces of each picture, the most probable first."""
        pixels = images.astype(np.float32)
        rows, owner = self._propose(pixels)
        rows, owner = self._refine(pixels, rows, owner)
        rows, owner, points = self._finish(pixels, rows, owner)
        found: list[list[Face]] = [[] for _ in images]
        for row, of, at in zip(rows, owner, points, strict=True):
            found[of].append(Face(row[:4], float(row[4]), at))
        return [sorted(faces, key=lambda f: -f.probability) for faces in found]

    def _propose(self, pixels):
        """Boxes [n, 5] with their probability, and the picture of each."""
        height, width = pixels.shape[1:3]
        scale, all_rows, all_owners = _CELL / self._min_size, [], []
        while min(height, width) * scale >= _CELL:
            size = (int(height * scale + 1), int(width * scale + 1))
            said = self._run["pnet"](_area(pixels, size))
            of, y, x = np.nonzero(said.face >= _THRESHOLDS[0])
            corner = np.stack([x, y], -1).astype(np.float32) * _STRIDE
            low = np.floor((corner + 1) / np.float32(scale))
            high = np.floor((corner + _CELL) / np.float32(scale))
            probability = said.face[of, y, x][:, None]
            rows = np.concatenate([low, high, probability, said.box[of, y, x]], -1)
            keep = _suppressed(rows, of, 0.5)
            all_rows.append(rows[keep])
            all_owners.append(of[keep])
            scale *= _FACTOR
        if not all_rows:
            return np.zeros((0, 5), np.float32), np.zeros((0,), np.int64)
        rows, owner = np.concatenate(all_rows), np.concatenate(all_owners)
        keep = _suppressed(rows, owner, 0.7)
        rows, owner = rows[keep], owner[keep]
        side = np.tile(rows[:, 2:4] - rows[:, :2], 2)
        boxes = rows[:, :4] + rows[:, 5:] * side
        return _squared(np.concatenate([boxes, rows[:, 4:5]], -1)), owner

    def _refine(self, pixels, rows, owner):
        rows, owner, crops = _crops(pixels, rows, owner, 24)
        said = self._run["rnet"](crops)
        passed = said.face > _THRESHOLDS[1]
        rows = np.concatenate([rows[:, :4], said.face[:, None], said.box], -1)[passed]
        owner = owner[passed]
        keep = _suppressed(rows, owner, 0.7)
        rows, owner = rows[keep], owner[keep]
        return _squared(_corrected(rows[:, :5], rows[:, 5:])), owner

    def _finish(self, pixels, rows, owner):
        rows, owner, crops = _crops(pixels, rows, owner, 48)
        said = self._run["onet"](crops)
        passed = said.face > _THRESHOLDS[2]
        rows = np.concatenate([rows[:, :4], said.face[:, None]], -1)[passed]
        owner, box, points = owner[passed], said.box[passed], said.points[passed]
        side = rows[:, 2:4] - rows[:, :2] + 1
        at = points.reshape(-1, 2, 5).swapaxes(1, 2) * side[:, None] + rows[:, None, :2] - 1
        rows = _corrected(rows, box)
        keep = _suppressed(rows, owner, 0.7, of_smaller=True)
        return rows[keep], owner[keep], at[keep]


def enlarged(images: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h2 w2 3"]:
    """Square pictures of less than 64 pixels brought to 64: of real faces of 16 pixels 94% are then
    found, of 32 pixels as many as before.
    """
    side = images.shape[1]
    if side >= _LEAST or not len(images):
        return images
    big = [Image.fromarray(v).resize((_LEAST, _LEAST), Image.Resampling.BICUBIC) for v in images]
    return np.stack([np.asarray(v) for v in big])


def _applied(module, params, x):
    """A network on any number of pictures or crops, as NumPy arrays."""
    size = min(_CROPS, 2 ** (max(1, len(x)) - 1).bit_length())
    run = _compiled(module, x.shape[1:], size)
    parts = []
    for start in range(0, max(1, len(x)), size):
        part = x[start : start + size]
        # One shape compiles once: what is missing is filled up.
        full = np.concatenate([part, np.zeros((size - len(part), *x.shape[1:]), x.dtype)])
        parts.append([np.asarray(v)[: len(part)] for v in run(params, full)])
    fields = zip(*parts, strict=True)
    kind = mtcnn.Outputs if len(parts[0]) == 3 else mtcnn.Proposals
    return kind(*(np.concatenate(v) for v in fields))


@functools.lru_cache(maxsize=64)
def _compiled(module, shape, size):
    return jax.jit(lambda params, x: module.apply({"params": params}, mtcnn.normalize(x)))


def _crops(pixels, rows, owner, side):
    """Boxes that have pixels, their pictures, and the crops."""
    height, width = pixels.shape[1:3]
    at = np.trunc(rows[:, :4]).astype(np.int64)
    low = np.maximum(at[:, :2], 1)
    high = np.minimum(at[:, 2:], (width, height))
    some = (high > low - 1).all(-1)
    crops = np.zeros((int(some.sum()), side, side, 3), np.float32)
    for index, (of, (x, y), (x_end, y_end)) in enumerate(zip(owner[some], low[some], high[some])):
        crops[index] = _area(pixels[of : of + 1, y - 1 : y_end, x - 1 : x_end], (side, side))[0]
    return rows[some], owner[some], crops


def _area(x, size):
    """Each pixel the mean of all that it covers, whole ones at its edges as well."""
    for axis, n in enumerate(size, 1):
        x = np.moveaxis(np.tensordot(_means(x.shape[axis], n), x, (1, axis)), 0, axis)
    return x


@functools.lru_cache(maxsize=1024)
def _means(old: int, new: int):
    table = np.zeros((new, old), np.float32)
    for i in range(new):
        start, stop = i * old // new, -(-(i + 1) * old // new)
        table[i, start:stop] = 1 / (stop - start)
    return table


def _corrected(rows, change):
    side = np.tile(rows[:, 2:4] - rows[:, :2] + 1, 2)
    return np.concatenate([rows[:, :4] + change * side, rows[:, 4:]], -1)


def _squared(rows):
    """Boxes made square around their middle, by the longer side."""
    side = rows[:, 2:4] - rows[:, :2]
    longest = side.max(-1, keepdims=True)
    low = rows[:, :2] + (side - longest) * 0.5
    return np.concatenate([low, low + longest, rows[:, 4:]], -1).astype(np.float32)


def _suppressed(rows, owner, threshold: float, of_smaller: bool = False):
    """Indices of boxes that no more probable one of their picture overlaps too much.

    The overlap is a share of both boxes' union, or of the smaller one's area.
    """
    kept = []
    more = 1.0 if of_smaller else 0.0  # sides count both end pixels there
    for picture in np.unique(owner):
        left = np.nonzero(owner == picture)[0]
        left = left[np.argsort(-rows[left, 4], kind="stable")]
        while len(left):
            first, rest = left[0], left[1:]
            kept.append(first)
            low = np.maximum(rows[first, :2], rows[rest, :2])
            high = np.minimum(rows[first, 2:4], rows[rest, 2:4])
            inside = np.maximum(high - low + more, 0.0).prod(-1)
            area, areas = (np.prod(rows[i, 2:4] - rows[i, :2] + more, -1) for i in (first, rest))
            whole = np.minimum(area, areas) if of_smaller else area + areas - inside
            left = rest[inside / np.maximum(whole, 1e-9) <= threshold]
    return np.array(kept, np.int64)
