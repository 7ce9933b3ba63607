"""Faces brought to one place: each picture turned, scaled and cut by five points of its face."""

import pathlib
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from gen_jax.common import files, folder_lock, results, strict_json
from gen_jax.common.errors import UserError
from gen_jax.data import images
from gen_jax.data.prepare.sources.image_folder import ImageFolderSource
from gen_jax.data.text import captions
from gen_jax.encoders.face_detector import FaceDetector

REPORT = results.ALIGNED
LOCK = ".lock"

# Eyes, nose and corners of the mouth of an upright face, in sides of its tight crop.
_POINTS = np.array(
    [[0.29, 0.37], [0.71, 0.37], [0.50, 0.64], [0.32, 0.82], [0.68, 0.82]], np.float32
)
_LARGEST = 16  # times the size that a picture is brought down from
_SEEN = 320  # side of what the detector sees: pictures of one size compile once


def align(
    image: UInt8[np.ndarray, "h w 3"], points: Float[np.ndarray, "5 2"], size: int, margin: float
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """A square of a face, upright; what lies beyond the picture is its mirror image.

    Args:
      image: RGB.
      points: left eye, right eye, nose, left and right corner of the mouth as seen, in pixels.
      size: of the result in pixels.
      margin: around the tight crop from brows to chin, in its sides.
    """
    matrix = _similarity(points, size * (_POINTS + margin) / (1.0 + 2.0 * margin))
    # Larger first, and then down by areas: a warp alone would alias.
    larger = int(np.clip(np.ceil(1.0 / np.hypot(*matrix[0, :2])), 1, _LARGEST))
    matrix = matrix * larger
    # Points count from corners of pixels, OpenCV from their middles.
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    side = size * larger
    found = cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return cv2.resize(found, (size, size), interpolation=cv2.INTER_AREA)


def _similarity(points, where) -> np.ndarray:
    """Turn, scale and shift, [2, 3], that bring points nearest to where they belong: faces keep
    their proportions.
    """
    p, q = (v.astype(np.float64) @ (1.0, 1.0j) for v in (points, where))
    centred = p - p.mean()
    a = (centred.conj() * (q - q.mean())).sum() / max((np.abs(centred) ** 2).sum(), 1e-9)
    b = q.mean() - a * p.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align_folder(
    source: pathlib.Path, out: pathlib.Path, weights: str, size: int, margin: float
) -> dict[str, list[str]]:
    """Aligns the most probable face of every image of a folder, and its captions with it.

    Interrupted, it goes on with the same call. One process at a time writes to `out`.

    Args:
      source: Images, as `ImageFolderSource` reads them.
      out: Folder for PNG files of the same names, captions.jsonl and `REPORT`.
      weights: Weights of MTCNN, see `FaceDetector`.
      size: Side of the aligned faces in pixels.
      margin: See `align`.

    Returns:
      Reason -> images that were left out: "no face", or why they cannot be read.

    Raises:
      UserError: Nothing to read, `out` holds faces that were aligned otherwise, or another process
        writes to it.
    """
    pictures = ImageFolderSource(source, [out])
    out.mkdir(parents=True, exist_ok=True)
    with folder_lock.held(out, out / LOCK, "out"):
        report = {"source": str(source.absolute()), "size": size, "margin": margin}
        path = out / REPORT
        if path.is_file():
            was = strict_json.loads(files.read_text(path))
            if {k: was.get(k) for k in report} != report:
                raise UserError(
                    f"{out}: holds faces that were aligned otherwise ({REPORT}); delete it"
                )
            if "left_out" in was:
                return was["left_out"]
        files.write_text(path, strict_json.dumps(report, indent=1) + "\n")
        left_out = _align_all(pictures, out, weights, size, margin)
        files.write_text(path, strict_json.dumps({**report, "left_out": left_out}, indent=1) + "\n")
    return left_out


def _align_all(
    pictures: ImageFolderSource, out: pathlib.Path, weights: str, size: int, margin: float
) -> dict[str, list[str]]:
    """Writes the faces that are not there yet, and all captions; returns what was left out."""
    detector, left_out, lines = FaceDetector(weights), {}, []
    for item in pictures.left_out():
        left_out.setdefault(item.reason, []).append(item.key)
    made: set[pathlib.Path] = set()
    for name, raw, pixels, reason in _read(pictures):
        target = out / pathlib.PurePosixPath(name).with_suffix(".png")
        if target in made:  # a.jpg beside a.png
            target = files.with_ending(out / name, ".png")
        made.add(target)
        if not reason and not target.is_file():
            found = _points(detector, pixels)
            if found is None:
                reason = "no face"
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                face = align(pixels, found, size, margin)
                files.write_bytes(target, images.encode(face, "png"))
        if reason:
            left_out.setdefault(reason, []).append(name)
        elif raw.captions:
            file = target.relative_to(out).as_posix()
            lines.append({"file": file, "captions": list(raw.captions), **raw.attributes})
    if lines:
        text = "".join(strict_json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        files.write_text(out / captions.FILE, text)
    return left_out


def _read(pictures: ImageFolderSource) -> Iterator[tuple]:
    """Name, record, pixels, and why it cannot be read."""
    for index in range(len(pictures)):
        try:
            raw = pictures.read(index)
            yield raw.key, raw, images.open_strict(raw.data)[0], ""
        except images.ImageError as error:
            yield pictures.name_of(index), None, None, error.reason


def _points(detector: FaceDetector, pixels) -> np.ndarray | None:
    """Five points of the most probable face, in pixels of the picture."""
    height, width = pixels.shape[:2]
    scale = _SEEN / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    seen = np.zeros((1, _SEEN, _SEEN, 3), np.uint8)
    seen[0, : shape[1], : shape[0]] = cv2.resize(pixels, shape, interpolation=how)
    faces = detector(seen)[0]
    return faces[0].points / scale if faces else None
