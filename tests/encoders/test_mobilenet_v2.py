"""MobileNetV2 against torchvision, and on photographs with torchvision's weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolutional_cases import (
    check,
    count,
    golden,
    param_shapes,
    real_weights,
    script,
    seeded,
    torch_shapes,
)

from gen_jax.encoders.mobilenet_v2 import PORT, MobileNetV2
from gen_jax.encoders.weights import flax_from_torch

# Compiling whole towers takes minutes: with the slow tests.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", script().MOBILENETS)
def test_maps_features_logits_and_slopes_are_torchvisions(kind):
    name, model = f"mobilenet_{kind}", MobileNetV2(width_mult=script().MOBILENET_WIDTHS[kind])
    want, size = golden(name), script().MOBILENETS[kind]

    def total(x, variables):
        stages, pooled, logits = model.apply(variables, x)
        outputs = (*stages, pooled, logits)
        names = [f"{name}.tap{i}" for i in range(len(outputs))]
        weights = [script().direction(n, t.shape) for n, t in zip(names, outputs)]
        return sum((t * w).sum() for t, w in zip(outputs, weights)), outputs

    x = jnp.asarray(script().images(f"{name}.x", size))
    if kind == "narrow":
        slope, outputs = jax.jit(jax.grad(total, has_aux=True))(x, seeded(model, PORT))
        check(f"{name}.slope", script().thinned(np.asarray(slope)), want["slope"], 1e-3)
    else:  # the same layers, only wider: their slope is known
        _, outputs = jax.jit(total)(x, seeded(model, PORT))
    channels = script().MOBILENET_CHANNELS[kind]
    assert tuple(t.shape[-1] for t in outputs) == (*channels, channels[-1], 1000)
    for i, output in enumerate(outputs):
        check(f"{name}.tap{i}", script().thinned(np.asarray(output)), want[f"tap{i}"], 1e-4)


def test_parameter_count_is_the_published_one():
    assert count(MobileNetV2()) == (3_504_872, 34_112)


def test_files_are_spelt_as_torchvisions():
    shapes = torch_shapes(MobileNetV2(), PORT)
    assert len(shapes) == 52 * 5 + 2
    for key, shape in (
        ("features.0.0.weight", (32, 3, 3, 3)),
        ("features.1.conv.0.0.weight", (32, 1, 3, 3)),
        ("features.1.conv.1.weight", (16, 32, 1, 1)),
        ("features.1.conv.2.running_var", (16,)),
        ("features.17.conv.1.0.weight", (960, 1, 3, 3)),
        ("features.17.conv.3.running_mean", (320,)),
        ("features.18.1.bias", (1280,)),
        ("classifier.1.weight", (1000, 1280)),
    ):
        assert shapes[key] == shape


# Photographs of scikit-image's wheel, and classes of ImageNet that show what they do.
PHOTOGRAPHS = {
    "chelsea": {281: "tabby", 282: "tiger cat", 285: "Egyptian cat"},
    "coffee": {967: "espresso", 504: "coffee mug", 968: "cup"},
    "rocket": {657: "missile", 744: "projectile", 812: "space shuttle"},
}


def test_it_names_what_photographs_show(shared, tmp_path):
    from skimage import data, transform

    state = real_weights(shared, tmp_path, "mobilenet_v2_imagenet")
    params = flax_from_torch(state, param_shapes(MobileNetV2()), PORT)
    assert params["classifier"]["kernel"].dtype == np.float32
    pictures = []
    for name in PHOTOGRAPHS:
        photo = getattr(data, name)()
        side = min(photo.shape[:2])
        top, left = ((n - side) // 2 for n in photo.shape[:2])
        square = photo[top : top + side, left : left + side]
        pictures.append(transform.resize(square, (224, 224), anti_aliasing=True) * 2 - 1)
    outputs = jax.jit(MobileNetV2().apply)({"params": params}, jnp.asarray(pictures, jnp.float32))
    assert outputs.pooled.shape == (3, 1280)
    for (name, classes), logits in zip(PHOTOGRAPHS.items(), outputs.logits):
        best = np.argsort(-np.asarray(logits))[:5]
        probability = np.asarray(jax.nn.softmax(logits))[best]
        print(name, dict(zip(best.tolist(), probability.round(3).tolist())))
        assert len(set(best.tolist()) & set(classes)) >= 2
        # The rocket on its pad is an obelisk first, and a space shuttle third.
        assert name == "rocket" or best[0] in classes
