"""Paths and recipes as users write them."""

import pathlib
import pwd

import ml_collections
import pytest
from absl import flags

from gen_jax.common import config as config_lib
from gen_jax.common import paths, recipes
from gen_jax.common.errors import UserError
from tests.processes import ROOT


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return str(tmp_path)


@pytest.mark.parametrize(
    "text,want",
    [
        ("~", "HOME"),
        ("~/a b", "HOME/a b"),
        ("lpips-vgg:~/vgg.bin,~/heads.bin", "lpips-vgg:HOME/vgg.bin,HOME/heads.bin"),
        ("a/~/b", "a/~/b"),
        ("./~", "./~"),
        ("a~", "a~"),
        ("hub:owner/name", "hub:owner/name"),
    ],
)
def test_a_tilde_is_the_home_folder(home, text, want):
    assert paths.expand(text) == want.replace("HOME", home)


def test_other_users_and_files_that_begin_with_a_tilde(home, monkeypatch):
    other = pwd.getpwuid(0)
    assert paths.expand(f"~{other.pw_name}/x") == f"{other.pw_dir}/x"
    monkeypatch.chdir(home)
    pathlib.Path("~draft-1.png").touch()
    assert paths.expand("~draft-1.png") == "~draft-1.png"
    with pytest.raises(UserError, match=r"^~nobody-here/x: there is no user 'nobody-here' here"):
        paths.expand("~nobody-here/x")


def test_no_home(monkeypatch):
    monkeypatch.setattr(paths.os.path, "expanduser", lambda text: text)  # no HOME, no such user
    assert paths.user_folder() is None
    with pytest.raises(UserError, match="HOME is not set"):
        paths.expand("~/x")


def test_flags_and_configs_expand(home):
    values = flags.FlagValues()
    one = paths.DEFINE_path("one", None, "", flag_values=values)
    many = paths.DEFINE_multi_path("many", [], "", flag_values=values)
    values(["x", "--one=~/x", "--many=~/a", "--many=b"])
    assert (one.value, many.value) == (f"{home}/x", [f"{home}/a", "b"])

    tree = dict(data=dict(dir="~/d", num=1), frozen=dict(vae="package:x"), encoder=("~/e", "f"))
    config = ml_collections.ConfigDict(tree)
    config_lib._expand_paths(config)
    assert config.data.dir == f"{home}/d" and config.frozen.vae == "package:x"
    assert config.encoder == (f"{home}/e", "f")


def test_recipes_by_file_and_by_name(home, monkeypatch):
    monkeypatch.chdir(home)  # a folder without configs/
    packaged = str(ROOT / "configs" / "ldm.py")
    for name in ("ldm", "ldm.py", "configs/ldm.py", "configs/ldm", packaged):
        assert recipes.resolve(f"{name}:debug,data=x") == f"{packaged}:debug,data=x"
    pathlib.Path("ldm.py").touch()
    assert recipes.resolve("ldm.py") == "ldm.py"  # a file goes first
    assert recipes.resolve("ldm") == packaged
    assert recipes.resolve("~/ldm.py") == f"{home}/ldm.py"
    assert {"art", "vae"} <= set(recipes.packaged()) and "common" not in recipes.packaged()
    with pytest.raises(UserError, match=r"config=lmd:debug: no such file.*did you mean ldm\?"):
        recipes.resolve("lmd:debug")
    with pytest.raises(UserError, match="the recipes are art, detail"):
        recipes.resolve("nothing-alike.py")
