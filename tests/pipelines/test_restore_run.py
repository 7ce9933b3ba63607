"""Mistakes in arguments, runs and files are named before JAX is loaded."""

import subprocess
import sys

from tests.test_restore import picture, save


def test_mistakes_are_found_without_loading_jax(tmp_path):
    source, out = save(tmp_path / "a.png", picture()), save(tmp_path / "b.png", picture())
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "cut.png").write_bytes(source.read_bytes()[:300])
    (tmp_path / "none").mkdir()
    code = (
        "import sys; from gen_jax import restore; from absl import flags\n"
        "for line in sys.stdin:\n"
        "    flags.FLAGS.unparse_flags()\n"
        "    for name in flags.FLAGS: flags.FLAGS[name].unparse()\n"
        "    try: print('status', restore.main(flags.FLAGS(['restore', *line.split()])), end=' ')\n"
        "    except Exception as error: print(error, end=' ')\n"
        "    print('jax' in sys.modules, flush=True)"
    )
    cases = {
        f"{source} --out={out}": "exists already",
        f"{source} --out={tmp_path}/c.gif": "expected a name",
        f"{source} --size=10": "expected WIDTHxHEIGHT",
        f"{source} --tile=100": "expected auto",
        f"{source} --noise=-1": "expected a number",
        f"{source} --run={tmp_path}/nowhere": "no such folder",
        f"{source} --run=package:vae_photos": "restores nothing",
        f"{tmp_path}/none": "no image in this folder",
        f"{tmp_path}/lost.png": "no such file",
        f"{tmp_path}/text.jpg": "status 1",
        f"{tmp_path}/cut.png": "status 1",
        f"{source} --size=4000x4000": "status 1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(cases),
        capture_output=True,
        text=True,
        check=True,
    )
    for line, (case, word) in zip(done.stdout.splitlines(), cases.items(), strict=True):
        assert word in line and line.endswith("False"), (case, line)
    skipped = [line.split(": ")[1] for line in done.stderr.splitlines()]
    assert skipped[:2] == ["corrupt", "corrupt"] and "more than 4 times" in done.stderr
