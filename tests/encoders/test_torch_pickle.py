"""Files of torch.save: tensors come out as torch wrote them, and nothing in them runs."""

import io
import os
import pathlib
import pickle
import struct
import zipfile

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from gen_jax import encoders
from gen_jax.common.errors import UserError
from gen_jax.encoders import catalog, files
from gen_jax.encoders.bert import BertEncoder
from gen_jax.encoders.torch_pickle import load_torch_pickle

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "torch_pickles.npz"
WHOLE = ("zip.pth", "legacy.pth", "nested.pth", "nested_legacy.pth")
BERT = dict(
    vocab_size=20,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=8,
)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def values(golden, prefix):
    return {k.split("/")[1]: v for k, v in golden.items() if k.startswith(f"{prefix}/")}


def put(golden, folder, name):
    path = folder / name
    path.write_bytes(golden[f"files/{name}"].tobytes())
    return path


def refused(path, words):
    with pytest.raises(UserError, match=words) as caught:
        load_torch_pickle(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 400
    return text


def check(loaded, golden):
    want = values(golden, "values")
    assert set(loaded) == set(want)
    for key, value in want.items():
        dtype = ml_dtypes.bfloat16 if key.startswith("brain") else value.dtype
        assert loaded[key].dtype == dtype, key
        np.testing.assert_array_equal(loaded[key].astype(value.dtype), value, err_msg=key)


@pytest.mark.parametrize("name", WHOLE)
def test_every_tensor_is_torchs(golden, tmp_path, name):
    loaded = load_torch_pickle(put(golden, tmp_path, name))
    check(loaded, golden)
    # Views of one storage share its memory, and the file stays what it is.
    assert np.shares_memory(loaded["view"], loaded["base"])
    with pytest.raises(ValueError, match="read-only"):
        loaded["base"][0] = 1


def test_a_file_of_a_big_endian_machine(golden, tmp_path):
    widths = (4, 2, 2, 2, 8, 8, 8, 1, 1, 4, 4, 4)  # of the storages 0, 1, ...
    path = tmp_path / "big.pth"
    with (
        zipfile.ZipFile(put(golden, tmp_path, "zip.pth")) as source,
        zipfile.ZipFile(path, "w") as target,
    ):
        for name in source.namelist():
            data, (folder, last) = source.read(name), name.split("/")[-2:]
            if folder == "data":
                data = np.frombuffer(data, np.uint8).reshape(-1, widths[int(last)])
                data = data[:, ::-1].tobytes()
            target.writestr(name, b"big" if last == "byteorder" else data)
    check(load_torch_pickle(path), golden)


@pytest.mark.parametrize("name", WHOLE[:3])
def test_a_file_cut_anywhere_is_refused(golden, tmp_path, name):
    whole = golden[f"files/{name}"].tobytes()
    path = tmp_path / "cut.pth"
    for length in (*range(0, 60, 7), *range(60, len(whole), 211), len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, "get it again|none of torch.save")


def test_a_tensor_beyond_its_storage_is_refused(golden, tmp_path):
    whole = golden["files/legacy.pth"].tobytes()
    # The rows of `base`, the first shape in the file: (6, 10) in one-byte integers.
    assert whole.count(b"K\x06K\n\x86") == 1
    path = tmp_path / "wide.pth"
    path.write_bytes(whole.replace(b"K\x06K\n\x86", b"K\x07K\n\x86"))
    refused(path, "reaches beyond its storage")
    path.write_bytes(whole.replace(b"K\x06K\n\x86", b"K\x06G\x40\x24" + b"\0" * 6 + b"\x86"))
    refused(path, "impossible sizes")


class Runs:
    """Unpickles by calling `call`."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def legacy(data):
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in head) + data + pickle.dumps([], 2)


def zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return buffer.getvalue()


@pytest.mark.parametrize("wrap", [bytes, legacy, zipped])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, wrap, protocol):
    mark = tmp_path / "ran"
    for call, name in (
        ((os.system, (f"touch {mark}",)), "posix.system"),
        ((eval, (f"open({str(mark)!r}, 'w')",)), r"(__builtin__|builtins)\.eval"),
        ((exec, (f"open({str(mark)!r}, 'w')",)), r"(__builtin__|builtins)\.exec"),
        ((open, (str(mark), "w")), r"_?io\.open"),
    ):
        data = pickle.dumps({"weight": Runs(*call)}, protocol)
        path = tmp_path / "evil.pth"
        path.write_bytes(wrap(data))
        refused(path, f"names {name}, .*may run code")
        assert not mark.exists()
        pickle.loads(data)  # the same bytes do run elsewhere
        assert mark.exists()
        mark.unlink()


@pytest.mark.parametrize(
    "program",
    [
        # Names that reach through an allowed one.
        b"\x80\x04\x8c\x06torch\x8c\x0bSize.mro\x93.",
        b"\x80\x04\x8c\x0ccollections\x8c\x15OrderedDict.__class__\x93.",
        # BUILD on an allowed function, and on a tensor whose sizes were looked at already.
        b"ctorch._utils\n_rebuild_tensor_v2\n}S'x'\nI1\nsb.",
        b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI1\ntQ}S'offset'\nI99\nsb.",
        b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI1\ntQ(N}S'offset'\nI99\nstb.",
        # A function where a storage's type belongs, and a storage of another kind.
        b"(S'storage'\nccollections\nOrderedDict\nS'0'\nS'cpu'\nI1\ntQ.",
        b"(S'module'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI1\ntQ.",
    ],
)
def test_hand_written_programs_get_nowhere(tmp_path, program):
    path = tmp_path / "evil.pth"
    for data in (program, legacy(program), zipped(program)):
        path.write_bytes(data)
        refused(path, "may run code|get it again|holds no tensors")


def test_what_is_no_state_dict_is_named(golden, tmp_path):
    text = refused(put(golden, tmp_path, "module.pth"), "names torch.nn.modules.linear.Linear")
    assert "may run code" in text
    refused(put(golden, tmp_path, "number.pth"), "holds no tensors by name, but int")
    path = tmp_path / "x.pth"
    for data, words in (
        (b"", "get it again"),
        (b"this is no pickle at all", "get it again"),
        (struct.pack("<Q", 2) + b"{}", "get it again"),
        (pickle.dumps({"a": 1}), "none of torch.save"),
        (zipped(pickle.dumps({"a": 1, "epoch": 2})), "holds no tensors by name, but a, epoch"),
    ):
        path.write_bytes(data)
        refused(path, words)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b.txt", "x")
    refused(path, "a zip without data.pkl")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1000)
    refused(path, "compressed entries")
    refused(tmp_path / "none.pth", "no such file")
    refused(tmp_path, "a folder")


@pytest.fixture
def tiny(monkeypatch):
    tower = catalog.Tower(lambda **options: BertEncoder(**BERT, **options))
    monkeypatch.setitem(catalog.TOWERS, "bert-base-uncased", tower)
    return "bert-base-uncased"


def test_a_tower_loads_as_from_safetensors(golden, tmp_path, tiny):
    state = values(golden, "bert")
    save_file(state, tmp_path / "bert.safetensors")
    _, want = encoders.load(tiny, tmp_path / "bert.safetensors")
    for name in ("bert.pth", "bert_legacy.pth"):
        path = put(golden, tmp_path, name)
        spec = encoders.parse(f"{tiny}:pickle:{path}")
        assert spec == (tiny, f"pickle:{path}")
        jax.tree.map(np.testing.assert_array_equal, encoders.load(*spec)[1], want)
    # Two files together, each of its kind.
    first, second = {}, {}
    for i, (key, value) in enumerate(state.items()):
        (first if i % 2 else second)[key] = value
    save_file(first, tmp_path / "first.safetensors")
    both = f"{tmp_path / 'first.safetensors'},pickle:{tmp_path / 'bert.pth'}"
    jax.tree.map(np.testing.assert_array_equal, encoders.load(tiny, both)[1], want)


def test_pickles_are_read_only_where_that_is_asked_for(golden, tmp_path, tiny):
    path = put(golden, tmp_path, "bert.pth")
    with pytest.raises(UserError, match=f"name them as pickle:{path}, which reads tensors and"):
        encoders.load(tiny, path)
    with pytest.raises(UserError, match="no such file"):
        encoders.load(tiny, f"pickle:{tmp_path}/none.pth")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match="git-lfs pointer"):
        encoders.load(tiny, f"pickle:{path}")


def test_weights_of_another_tower_are_named(golden, tmp_path, tiny):
    path = put(golden, tmp_path, "zip.pth")
    with pytest.raises(UserError) as caught:
        encoders.load(tiny, f"pickle:{path}")
    text = str(caught.value)
    assert "21 keys missing: " in text and "encoder.layer.0." in text
    assert "\n" not in text
    assert "13 keys unexpected: base, view" in text


def test_paths_change_and_the_prefix_stays():
    spec = "pickle:a.pth,b.safetensors"
    assert files.map_paths(spec, lambda p: f"/x/{p}") == "pickle:/x/a.pth,/x/b.safetensors"
    assert [str(p) for p in files.paths(spec)] == ["a.pth", "b.safetensors"]
    assert files.folder_of("pickle:models/a.pth") == pathlib.Path("models")
    assert files.map_paths("", lambda p: p) == ""
