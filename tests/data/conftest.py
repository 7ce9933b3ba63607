import pytest

from gen_jax.data.prepare import build, plan


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory):
    """Prepares a data set in a new folder, in this process."""

    def make(source="shapes", **options):
        out = tmp_path_factory.mktemp("prepared") / "set"
        rules = plan.Rules(**options.pop("rules", {}))
        build.prepare(
            build.Options(source=str(source), out=str(out), rules=rules, workers=1, **options)
        )
        return out

    return make


@pytest.fixture(scope="session")
def shapes_dir(make_dataset):
    """A small data set in several shards; read only."""
    return make_dataset("shapes", num=150, size=16, shard_records=30)


@pytest.fixture
def own_shapes_dir(shapes_dir, tmp_path):
    """A copy that a test may damage."""
    import shutil

    return shutil.copytree(shapes_dir, tmp_path / "own")
