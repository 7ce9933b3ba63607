"""Reference outputs of MTCNN: facenet-pytorch 2.6.0 on scikit-image's photographs.

    python tests/golden/make_mtcnn.py WEIGHTS_SMALL.ZIP

Needs torch, torchvision, facenet-pytorch, safetensors and scikit-image.
"""

import json
import pathlib
import sys
import zipfile

import numpy as np

FILE = pathlib.Path(__file__).with_name("mtcnn.json")


def detected(archive: str) -> list[dict]:
    """Returns boxes and points of each photograph."""
    import torch
    from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
    from facenet_pytorch.models.utils.detect_face import detect_face
    from safetensors.numpy import load
    from skimage import data

    nets = []
    with zipfile.ZipFile(archive) as file:
        for kind, name in ((PNet, "pnet"), (RNet, "rnet"), (ONet, "onet")):
            net = kind(pretrained=False)
            state = load(file.read(f"mtcnn_{name}.safetensors"))
            net.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
            nets.append(net.eval())
    # A face, its mirror image, and none.
    astronaut = data.astronaut()[:256, 100:356]
    images = np.stack([astronaut, astronaut[:, ::-1], data.coffee()[:256, :256]])
    with torch.no_grad():
        boxes, points = detect_face(images, 20, *nets, [0.6, 0.7, 0.7], 0.709, "cpu")
    return [
        {"boxes": np.asarray(b, float).tolist(), "points": np.asarray(p, float).tolist()}
        for b, p in zip(boxes, points)
    ]


if __name__ == "__main__":
    FILE.write_text(json.dumps(detected(sys.argv[1]), indent=1) + "\n")
