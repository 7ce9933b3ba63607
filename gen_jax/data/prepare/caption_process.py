"""A captioning model in a process of its own, and the protocol that both sides speak.

Captioning models are PyTorch programs. They run apart, so that this package never imports PyTorch
beside JAX: two libraries that each reserve the memory of a GPU do not fit into one process.

The parent writes to the child's standard input, the child answers on its standard output:

1. The parent sends one line of JSON, the settings of the model. The child loads the model and
   answers `{"device": NAME}`.
2. For each batch the parent sends one line, `{"sizes": [[height, width], ...], "seeds": [...]}`,
   and then the RGB bytes of the images. The child answers `{"texts": [...]}`.
3. The child ends when its standard input is closed, also by a parent that was killed.

In place of any answer the child may send `{"error": MESSAGE}` and end.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

from gen_jax.common.errors import UserError

Image = UInt8[np.ndarray, "_ _ 3"]  # of any size, also within a list
Describe = Callable[[list[Image], list[int]], list[str]]

_PATIENCE = 10.0  # seconds that a child may take to end by itself


class CaptionProcess:
    """The parent's side: starts the process, and sends it images.

    Attributes:
      device: Name of the device that the model runs on, such as "cuda" or "cpu".
    """

    def __init__(self, module: str, settings: Mapping[str, Any]):
        """Starts the process and waits until the model is loaded, which may take minutes.

        Args:
          module: Module that the process runs, which calls `serve`.
          settings: Settings of the model; values that JSON can hold.

        Raises:
          UserError: The model cannot be loaded.
        """
        # As with multiprocessing's spawn, the child finds what this process can import.
        search = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"TRANSFORMERS_VERBOSITY": "error", **os.environ, "PYTHONPATH": search},
        )
        self.device = ""
        try:
            self.device = str(self._exchange(dict(settings), [])["device"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "CaptionProcess":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def describe(self, images: Sequence[Image], seeds: Sequence[int]) -> list[str]:
        """Returns the text that the model writes about each image.

        Args:
          images: RGB images of any sizes.
          seeds: Seed of each image, for a model that samples.

        Raises:
          UserError: The process has ended, or reports an error.
        """
        sizes = [list(image.shape[:2]) for image in images]
        answer = self._exchange({"sizes": sizes, "seeds": list(seeds)}, images)
        texts = answer.get("texts")
        if not isinstance(texts, list) or len(texts) != len(images):
            raise UserError(f"captioning: expected {len(images)} texts from the model's process")
        return [str(text) for text in texts]

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):  # what was not sent yet has no reader any more
            self._process.stdin.close()
        try:
            # A model that is still loading does not read its input.
            self._process.wait(_PATIENCE if self.device else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _exchange(self, message: dict[str, Any], images: Sequence[Image]) -> dict[str, Any]:
        try:
            _send(self._process.stdin, message)
            for image in images:
                self._process.stdin.write(np.ascontiguousarray(image))
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the child may have sent its reason before it ended
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            code = self._process.wait()
            raise UserError(
                f"captioning: the model's process ended unexpectedly (exit code {code}), perhaps "
                "for lack of memory; captions that are written are kept, run the command again"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(f"captioning: {answer['error']}")
        return answer


def serve(load: Callable[[dict[str, Any]], tuple[str, Describe]]) -> None:
    """Runs the child's side until the parent closes the connection.

    Args:
      load: Function of the settings that returns the name of the device and a function of images
        and seeds, which returns their texts.
    """
    # Ctrl-C reaches both processes; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source = sys.stdin.buffer
    # Libraries print as they like; only this code writes to the parent.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        if not (first := source.readline()):
            return
        device, describe = load(json.loads(first))
        _send(sink, {"device": device})
        while line := source.readline():
            request = json.loads(line)
            images = [_read_image(source, *size) for size in request["sizes"]]
            _send(sink, {"texts": describe(images, request["seeds"])})
    except (BrokenPipeError, EOFError):
        return  # the parent is gone
    except Exception as error:  # of many libraries, and all of it is for the parent to report
        if "GEN_JAX_TRACEBACK" in os.environ:
            import traceback

            traceback.print_exc()
        reason = " ".join(str(error).split())[:300]
        _send(sink, {"error": reason if isinstance(error, UserError) else _named(error, reason)})


def _named(error: Exception, reason: str) -> str:
    return f"{type(error).__name__}: {reason}"


def _send(stream: BinaryIO, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def _read_image(stream: BinaryIO, height: int, width: int) -> Image:
    data = stream.read(height * width * 3)
    if len(data) < height * width * 3:
        raise EOFError("the parent has ended")
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)
