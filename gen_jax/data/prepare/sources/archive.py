"""A zip archive of images, with captions if it holds a captions.jsonl."""

import functools
import hashlib
import pathlib
import zipfile
import zlib

from gen_jax.common import archives, image_folder, names
from gen_jax.data import images
from gen_jax.data.prepare.sources.captioned import CaptionedFiles
from gen_jax.data.text import captions


class ArchiveSource(CaptionedFiles):
    """Every image below a folder of a zip archive, read without unpacking it."""

    name = "archive"

    def __init__(self, archive: pathlib.Path, prefix: str = "", masks: str = ""):
        """Lists the archive.

        Args:
          archive: The zip file.
          prefix: Folder in it, "" for all of it. Its captions.jsonl names files below that folder.
          masks: Pattern of the masks' names, see `mask_names.named`.

        Raises:
          UserError: There is no such archive, no image in it, or a wrong line in captions.jsonl.
        """
        self._archive = archive
        start, chosen, left_out = image_folder.scan_archive(archive, prefix)
        self._members = [start + name for name in chosen]
        where, written, digest = f"{archive}:{start}{captions.FILE}", {}, ""
        if start + captions.FILE in archives.names(archive):
            data = archives.read(archive, start + captions.FILE)
            written, digest = captions.read(where, data), hashlib.sha256(data).hexdigest()
        members = {info.filename: info for info in _opened(archive).infolist()}
        super().__init__(
            keys=names.keys(chosen),
            # The checksum as well: unlike a folder's files, members are often of one size.
            sizes=[
                (f"{name} {members[member].CRC:08x}", members[member].file_size)
                for name, member in zip(chosen, self._members)
            ],
            written=written,
            captions_digest=digest,
            left_out=left_out,
            where=where,
            masks=masks,
        )

    def _bytes(self, index: int) -> bytes:
        try:
            return _opened(self._archive).read(self._members[index])
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise images.ImageError("corrupt", f"cannot be read ({error})") from None


@functools.lru_cache(maxsize=4)
def _opened(archive: pathlib.Path) -> zipfile.ZipFile:
    """Returns an archive that stays open, because listing it takes longer than reading a member."""
    return zipfile.ZipFile(archive)
