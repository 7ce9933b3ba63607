r"""Verifies images that were restored or generated: unchanged, and computed as their manifests say.

    python -m gen_jax.verify photo_restored.jpg
    python -m gen_jax.verify out/ more/restored.png --json
    python -m gen_jax.verify photo_restored.jpg --replay

    python -m gen_jax.verify --make_key=KEY.pem
    python -m gen_jax.restore photo.jpg --sign=KEY.pem
    python -m gen_jax.verify photo_restored.jpg --trust=KEY.trust.pem
    python -m gen_jax.restore photo.jpg --sign=KEY.pem --ledger=LEDGER
    python -m gen_jax.verify photo_restored.jpg --ledger=LEDGER --trust=KEY.trust.pem

Takes images, manifests and folders. Each image gets one line: valid, INVALID or unchecked, with the
outcome of every check. The exit status is 0 if all images are valid, 1 if one is not, and 2 if one
could not be checked, such as an image without a manifest.

--make_key makes a private key for development, with the certificate that verifiers trust beside it.
With --trust every image must have a signature of a key whose certificate is trusted. With --ledger
the ledger is verified whole, and every image must be in it; without it the proof beside an image is
checked. Signatures and ledgers need the optional packages of the extra provenance.

--replay computes each image again, which takes the model and, for a restored image, its original.
The outcome is bit-exact, within tolerance (with the largest difference and the reason: another
device, jaxlib, number of threads) or different. docs/provenance.md says what each check proves.
"""

import json
import pathlib

from absl import flags

from gen_jax.common import app, files, outputs, paths
from gen_jax.common.errors import UserError

_REPLAY = flags.DEFINE_boolean("replay", False, "Whether to compute each image again and compare.")
_ORIGINALS = paths.DEFINE_path(
    "originals", None, "Folder to look for the originals of restored images in (--replay)."
)
_TRUST = paths.DEFINE_path(
    "trust", None, "Trusted root certificates (PEM): images must be signed by one of their keys."
)
_LEDGER = paths.DEFINE_path(
    "ledger", None, "Folder of a ledger: it is verified whole, and images must be in it."
)
_CHECKPOINT = paths.DEFINE_path(
    "checkpoint",
    None,
    "File with an earlier checkpoint of --ledger, whose state it must hold.",
)
_EXPORT = paths.DEFINE_path(
    "export_checkpoint",
    None,
    "File to write the newest checkpoint of --ledger to, to be published.",
)
_MAKE_KEY = paths.DEFINE_path(
    "make_key", None, "File to write a development key to, and nothing else is done."
)
flags.DEFINE_alias("make-key", "make_key")
_JSON = flags.DEFINE_boolean("json", False, "Whether to print one JSON object per image.")

_REPORT = paths.DEFINE_path("report", None, "File to write all verdicts to: .csv or .html.")


def main(argv: list[str]) -> int:
    """Verifies what is named; see the module for the exit status."""
    if _ORIGINALS.value and not _REPLAY.value:
        raise UserError("--originals goes with --replay: name both, or leave it out")
    if _MAKE_KEY.value:
        return _make_key(argv[1:])
    if not argv[1:] and not _LEDGER.value:
        raise UserError("name images, manifests or folders to verify; see --help")
    from gen_jax.provenance import keys, report, verification

    if _REPORT.value:
        report.check_name(_REPORT.value, "--report")
        outputs.check_file(_REPORT.value, "--report")
    trusted = keys.read_certificates(_TRUST.value) if _TRUST.value else ""
    verdicts, entered = _ledger(trusted)
    for result in verdicts:
        _show(result)
    replay = _replay() if _REPLAY.value else None
    for result in verification.verify(argv[1:], trusted=trusted, entered=entered, replay=replay):
        verdicts.append(result)
        _show(result)
    if _REPORT.value:
        files.write_text(_REPORT.value, report.text(verdicts, _REPORT.value))
    return _end(verdicts)


def _show(result) -> None:
    print(json.dumps(result.as_dict()) if _JSON.value else result.line(), flush=True)


def _end(verdicts) -> int:
    """Prints how many are valid, and returns the exit status."""
    from gen_jax.provenance import verdict

    if len(verdicts) > 1 and not _JSON.value:
        valid = sum(v.outcome is verdict.Outcome.OK for v in verdicts)
        print(f"{valid} of {len(verdicts)} are valid")
    return verdict.exit_status(verdicts)


def _ledger(trusted: str):
    """Returns the verdicts on the ledger, none or one, and the ledger if it is valid."""
    for flag in (_CHECKPOINT, _EXPORT):
        if flag.value and not _LEDGER.value:
            raise UserError(f"--{flag.name} goes with --ledger: name both, or leave it out")
    if not _LEDGER.value:
        return [], None
    from gen_jax.provenance import ledger_audit

    try:
        earlier = files.read_text(_CHECKPOINT.value) if _CHECKPOINT.value else ""
    except (OSError, UnicodeDecodeError):
        raise UserError(f"--checkpoint={_CHECKPOINT.value}: cannot be read as text") from None
    result, entered = ledger_audit.verified(_LEDGER.value, trusted, earlier)
    if _EXPORT.value and entered:
        files.write_text(outputs.check_file(_EXPORT.value, "--export_checkpoint"), entered.note)
    return [result], entered


def _make_key(arguments: list[str]) -> int:
    if arguments:
        raise UserError(f"--make_key: verifies nothing; leave out {arguments[0]}")
    from gen_jax.provenance import keys

    path = outputs.check_file(_MAKE_KEY.value, "--make_key")
    trust = keys.make(path)
    print(f"wrote {path}, a private key for development: keep it to yourself")
    print(f"wrote {trust}, the certificate for --trust: publish it")
    return 0


def _replay():
    """Returns a function that computes an image again and gives the check."""
    from gen_jax.parallel import compilation
    from gen_jax.pipelines import replay

    compilation.set_up()
    return replay.Replayer(pathlib.Path(_ORIGINALS.value) if _ORIGINALS.value else None).check


if __name__ == "__main__":
    app.run(main, positional=True)
