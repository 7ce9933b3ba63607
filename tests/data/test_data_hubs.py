import pickle
import shutil
import sys
import types
import typing

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.data import dataset, schema
from gen_jax.data.prepare.sources import hf, mapping, open_source, photos
from gen_jax.data.prepare.sources import tfds as tfds_source

NAMES = ["rocket.jpg", "coffee.png", "chelsea.png", "camera.png"]


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """A real TFDS data set of four photographs, written with no TensorFlow."""
    tfds = pytest.importorskip("tensorflow_datasets")
    from array_record.python import array_record_module

    folder = tmp_path_factory.mktemp("tfds") / "tiny" / "1.0.0"
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "id": np.int64,
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["thing", "animal"]),
            "sentences": tfds.features.Sequence(tfds.features.Text()),
        }
    )
    payloads = [
        features.serialize_example(
            features.encode_example(
                {
                    "id": i,
                    "image": str(photos.folder() / name),
                    "label": int(name == "chelsea.png"),
                    "sentences": [f"picture {i}", name],
                }
            )
        )
        for i, name in enumerate(NAMES[:3])
    ]
    path = folder / "tiny-train.array_record-00000-of-00001"
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for payload in payloads:
        writer.write(payload)
    writer.close()
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder,
        dataset_name="tiny",
        split="train",
        filetype_suffix="array_record",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    split = tfds.core.SplitInfo(
        name="train",
        shard_lengths=[3],
        num_bytes=sum(map(len, payloads)),
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder), features=features, split_infos=[split], check_data=False
    )
    return folder


def test_tfds_through_array_record_without_tensorflow(tfds_dir, make_dataset):
    out = make_dataset(f"tfds:{tfds_dir}", rules={"val_fraction": 0.0, "test_fraction": 0.0})
    assert "tensorflow" not in sys.modules
    info, records = dataset.open_split(out, "train")
    assert info.name == "tfds:tiny" and info.label_names == ("thing", "animal")
    found = {r.key: r for r in (schema.unpack(records[i]) for i in range(3))}
    cat = found["tiny/train/0000002"]
    assert cat.captions == ("picture 2", "chelsea.png")
    assert (cat.label, cat.label_name, cat.attributes) == (1, "animal", {"id": 2})
    assert cat.image == (photos.folder() / "chelsea.png").read_bytes()


def test_tfds_source_travels_to_workers(tfds_dir):
    source = pickle.loads(pickle.dumps(open_source(f"tfds:{tfds_dir}:train[:2]")))
    assert len(source) == 2  # before anything is read
    assert source.read(1).key.endswith("0000001")


def test_tfds_mistakes_are_one_line(tfds_dir):
    with pytest.raises(UserError, match="tfds: a name is missing"):
        open_source("tfds:")
    with pytest.raises(UserError, match=r"tfds:.*:dev: cannot be read"):
        open_source(f"tfds:{tfds_dir}:dev")
    with pytest.raises(UserError, match="tfds:no_such_data_set_at_all:train: cannot be read"):
        open_source("tfds:no_such_data_set_at_all")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("mnist", ("mnist", "train")),
        ("mnist:test", ("mnist", "test")),
        ("mnist:3.0.1", ("mnist:3.0.1", "train")),
        ("mnist:3.*.*:train[:10%]", ("mnist:3.*.*", "train[:10%]")),
        ("a/b:train+test", ("a/b", "train+test")),
    ],
)
def test_names_with_versions_and_splits(text, expected):
    assert tfds_source.parse(text) == expected


class _Feature:
    def __init__(self, **values):
        self.__dict__.update(values)


class Image(_Feature):
    pass


class ClassLabel(_Feature):
    pass


class Value(_Feature):
    pass


class FakeHub:
    """Enough of a `datasets.Dataset`."""

    features: typing.ClassVar = {
        "image": Image(),
        "caption": Value(dtype="string"),
        "label": ClassLabel(names=["thing", "animal"]),
        "score": Value(dtype="float32"),
    }
    _fingerprint = "abc"

    def select_columns(self, names):
        assert names == ["caption", "image", "label", "score"]
        return self

    def cast_column(self, name, feature):
        assert name == "image" and feature.decode is False
        return self

    def __len__(self):
        return len(NAMES) + 1

    def __getitem__(self, index):
        if index == len(NAMES):
            return {"image": None, "caption": "nothing", "label": 0, "score": 0.0}
        path = photos.folder() / NAMES[index]
        picture = {"bytes": None, "path": str(path)}
        if index % 2:
            picture = {"bytes": path.read_bytes(), "path": None}
        return {"image": picture, "caption": NAMES[index], "label": index % 2, "score": 0.5}


def test_hugging_face_data_set(monkeypatch, make_dataset):
    seen = []

    def load_dataset(name, data_files, split):
        assert data_files is None
        seen.append((name, split))
        return FakeHub()

    fake = types.ModuleType("datasets")
    fake.load_dataset, fake.Image = load_dataset, Image
    monkeypatch.setitem(sys.modules, "datasets", fake)
    out = make_dataset("hf:me/photos:test", rules={"val_fraction": 0.0, "test_fraction": 0.0})
    assert seen == [("me/photos", "test")]
    assert len(pickle.loads(pickle.dumps(open_source("hf:me/photos:test")))) == 5  # in a worker
    info, records = dataset.open_split(out, "train")
    found = {r.key: r for r in (schema.unpack(records[i]) for i in range(len(records)))}
    assert len(found) == 4
    one = found["me/photos/test/0000001"]
    assert (one.captions, one.label, one.label_name) == (("coffee.png",), 1, "animal")
    assert one.attributes == {"score": 0.5}
    assert info.quality["rejected"] == {"missing": 1}


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory):
    """Local data sets as the real library writes them, each in a folder or file of its name."""
    hub = pytest.importorskip("datasets")
    root = tmp_path_factory.mktemp("hf")
    features = hub.Features(
        {
            "image": hub.Image(),
            "captions": hub.List(hub.Value("string")),
            "label": hub.ClassLabel(names=["thing", "animal"]),
            "score": hub.Value("float32"),
            "masks": hub.List(hub.Image()),
            "depth": hub.Image(),
        }
    )
    files = [{"bytes": (photos.folder() / n).read_bytes(), "path": n} for n in NAMES[:3]]
    damaged = {"bytes": b"no image", "path": "depth.png"}
    rows = {
        "image": [*files, None],
        "captions": [["picture 0", "rocket"], ["picture 1"], ["picture 2"], []],
        "label": [0, 0, 1, 1],
        "score": [0.5, None, float("nan"), 1.0],
        "masks": [[damaged]] * 4,
        "depth": [damaged] * 4,
    }
    data = hub.Dataset.from_dict(rows, features=features)
    (root / "parquet").mkdir()
    data.to_parquet(root / "parquet" / "part [0].parquet")
    data.save_to_disk(root / "disk")
    hub.DatasetDict(train=data, test=data.select([2])).save_to_disk(root / "splits")
    for name, kind in zip(NAMES, ("thing", "thing", "animal", "animal")):
        (root / "images" / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(photos.folder() / name, root / "images" / kind / name)
    (root / "words").mkdir()
    (root / "words" / "a.txt").write_text("no image")
    return root


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["parquet", "parquet/part [0].parquet", "disk", "splits"])
def test_the_real_library_reads_local_data_sets(hf_folder, make_dataset, name):
    source = f"hf:{hf_folder / name}"
    out = make_dataset(source, rules={"val_fraction": 0.0, "test_fraction": 0.0})
    info, records = dataset.open_split(out, "train")
    found = {r.key: r for r in (schema.unpack(records[i]) for i in range(len(records)))}
    assert len(found) == 3 and info.quality["rejected"] == {"missing": 1}
    assert info.label_names == ("thing", "animal")
    rocket, coffee, cat = (found[f"{hf_folder / name}/train/{i:07d}"] for i in range(3))
    assert rocket.captions == ("picture 0", "rocket") and rocket.attributes == {"score": 0.5}
    assert (cat.captions, cat.label, cat.label_name) == (("picture 2",), 1, "animal")
    assert coffee.attributes == cat.attributes == {}
    assert cat.image == (photos.folder() / "chelsea.png").read_bytes()
    again = pickle.loads(pickle.dumps(open_source(f"{source}:train[2:3]")))
    assert len(again) == 1 and again.read(0).captions == ("picture 2",)
    with pytest.raises(UserError, match=r":dev: cannot be read: Unknown split"):
        open_source(f"{source}:dev")


@pytest.mark.nightly
def test_the_real_library_reads_folders_of_images_and_names_what_has_none(hf_folder):
    source = open_source(f"hf:{hf_folder / 'images'}")
    names = [source.read(i).label_name for i in range(len(source))]
    assert sorted(names) == ["animal", "animal", "thing", "thing"]
    assert source.read(0).data == (photos.folder() / "camera.png").read_bytes()
    assert open_source(f"hf:{hf_folder / 'splits'}:test").read(0).captions == ("picture 2",)
    with pytest.raises(UserError, match="words: no column holds images, there are text"):
        open_source(f"hf:{hf_folder / 'words'}")
    with pytest.raises(UserError, match="nowhere:train: cannot be read: Couldn't find"):
        open_source(f"hf:{hf_folder / 'nowhere'}")


def test_hugging_face_without_its_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="pip install datasets"):
        open_source("hf:me/photos")
    with pytest.raises(UserError, match="a name is missing"):
        open_source("hf:")


def test_columns_are_chosen_and_odd_values_left_out():
    with pytest.raises(UserError, match="x: no column holds images, there are a, b"):
        mapping.choose("x", ["a", "b"], images=[], texts=["a"], labels={})
    columns = mapping.choose(
        "x", ["img", "text", "mask", "n"], images=["img", "mask"], texts=["text"], labels={}
    )
    assert columns == mapping.Columns("img", "text", "", (), ("n",))
    raw = mapping.raw_image(
        "k", {"img": 0, "text": b"caf\xc3\xa9", "n": np.float32("nan")}, columns, b"data"
    )
    assert raw.captions == ("café",) and raw.attributes == {}
    assert hf.parse("a/b") == ("a/b", "train")
