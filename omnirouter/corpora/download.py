"""Downloads of public corpora: resumed when interrupted, verified, and extracted aside before they appear."""

import hashlib
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from omnirouter.corpora.libriheavy import SUBSETS, manifest_name
from omnirouter.corpora.librispeech import EVAL_PARTS, TRAIN_PARTS
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_dir

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 60
ATTEMPTS = 3  # at each URL; each goes on where the one before it was cut off


@dataclass(frozen=True)
class Archive:
    """A tar archive: where it is, tried in order, its digest, and the one folder in it that is wanted.

    Without a folder it is a plain file, kept as it is. `place` is where below the downloads it goes.
    """

    urls: tuple[str, ...]
    algorithm: str
    digest: str
    folder: str = ""
    place: str = ""

    @property
    def name(self) -> str:
        """The file name."""
        return self.urls[0].rpartition("/")[2]


def _openslr(resource: int, part: str, md5: str) -> Archive:
    """Return a part of LibriSpeech (resource 12) or Mini LibriSpeech (31); OpenSLR publishes its MD5."""
    hosts = ("https://www.openslr.org", "https://openslr.elda.org", "https://openslr.magicdatatech.com")
    urls = tuple(f"{host}/resources/{resource}/{part}.tar.gz" for host in hosts)
    return Archive(urls, "md5", md5, f"LibriSpeech/{part}")


LIBRISPEECH_MD5 = {
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
}

# Digests of the commits of huggingface.co/datasets/pkufool/libriheavy that added the manifests; it moved them since.
LIBRIHEAVY_SHA256 = {
    "small": "08a399233caf3f969818dc011db5a7793e5be68c0819d0b16a7de0eb4cf5e5a6",
    "medium": "d9543afdb1bbe4d67ea72fc0080bf389be241a3811e1701b084f9d0502b14a9e",
    "large": "3add95b5e68e0046b9cc38805e627db13dba70f0de2e337c88afb444bae679a3",
    "dev": "d9667957a691d23496bcaa96b26097bd488350461a8e9e75716d0a688d4e5f12",
}
LIBRILIGHT_MD5 = {  # as its README has them
    "small": "c49207eb86a8e8ac895561c37232041e",
    "medium": "c75e7ac62471bfbf2db77528d62a9b74",
    "large": "4dfbac018f50b99797ece101fc9f0c30",
}


def _libriheavy(subset: str) -> tuple[Archive, ...]:
    """Return the manifests and the audio of a subset of Libriheavy, and its dev set's manifest."""
    manifests = "https://huggingface.co/datasets/pkufool/libriheavy/resolve/main"
    audio = "https://dl.fbaipublicfiles.com/librilight/data"
    parts = SUBSETS[subset]
    return (
        *(
            Archive((f"{manifests}/{manifest_name(part)}",), "sha256", LIBRIHEAVY_SHA256[part], place="libriheavy")
            for part in (*parts, "dev")
        ),
        *(Archive((f"{audio}/{part}.tar",), "md5", LIBRILIGHT_MD5[part], part, "librilight") for part in parts),
    )


def _librispeech(parts: Iterable[str]) -> tuple[Archive, ...]:
    return tuple(_openslr(12, part, LIBRISPEECH_MD5[part]) for part in parts)


CORPORA = {
    "an4": (
        Archive(
            (
                "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz",
                "https://dldata-public.s3.us-east-2.amazonaws.com/an4_sphere.tar.gz",
            ),
            "sha256",  # CMU publishes none: this is the mirror's, as found in recipes that use it
            "a0525579493735d32b60fb6fa5975dd0eaacde087b0a4eeb7f13b7ef33077b12",
            "an4",
        ),
    ),
    "mini_librispeech": (
        _openslr(31, "dev-clean-2", "6d7ab67ac6a1d2c993d050e16d61080d"),
        _openslr(31, "train-clean-5", "5df7d4e78065366204ca6845bb08f490"),
    ),
    **{f"librispeech_{hours}": _librispeech((*parts, *EVAL_PARTS)) for hours, parts in TRAIN_PARTS.items()},
    **{f"libriheavy_{subset}": _libriheavy(subset) for subset in SUBSETS},
    **{f"libriheavy_{subset}_librispeech": _libriheavy(subset) + _librispeech(EVAL_PARTS) for subset in SUBSETS},
}


def download_corpus(archives: Sequence[Archive], output: Path) -> None:
    """Make `output`/<place>/<folder> of each archive, unless it is there; the archives stay beside it."""
    for archive in archives:
        place = output / archive.place
        wanted = place / (archive.folder or archive.name)
        if wanted.exists():
            print(f"{wanted}: is there already")
            continue
        place.mkdir(parents=True, exist_ok=True)
        if not (place / archive.name).is_file():
            _fetch(archive, place / archive.name)
        if archive.folder:
            _extract(place / archive.name, archive.folder, wanted)
        print(f"{wanted}: downloaded")


def _fetch(archive: Archive, target: Path) -> None:
    """Download to `target`.part, going on with what an interrupted run left, and rename it once its digest is right."""
    part = target.with_name(f"{target.name}.part")
    failures = []
    for url in archive.urls:
        try:
            _download(url, part)
            _verify(part, archive)
        except (OSError, HTTPException, UserError) as error:
            failures.append(f"{url}: {error}")
        else:
            os.replace(part, target)
            return
    kept = f"\n{part} is kept: the same command goes on with it" if part.exists() else ""
    raise UserError("\n".join([f"{archive.name} could not be downloaded:", *failures]) + kept)


def _download(url: str, part: Path) -> None:
    """Download to `part`, going on after lost connections a few times."""
    for attempt in range(ATTEMPTS):
        try:
            return _continue_download(url, part)
        except urllib.error.HTTPError:
            raise
        except (OSError, HTTPException):  # URLError and timeouts are OSErrors
            if attempt == ATTEMPTS - 1:
                raise


def _continue_download(url: str, part: Path) -> None:
    """Append to `part` what it lacks of the file at `url`; begin anew if the server does not do ranges."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "omnirouter", "Range": f"bytes={have}-"})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies beyond what we have: the digest tells whether it is the file
            return
        raise
    with response:
        if response.status != 206:
            have = 0
        _receive(response, part, have)


def _receive(response: HTTPResponse, part: Path, have: int) -> None:
    """Write the body of a response to `part` from byte `have` on; ConnectionError if it ends early."""
    length = response.headers["Content-Length"]
    total = have + int(length) if length else None
    with (
        open(part, "r+b" if have else "wb") as file,
        tqdm(desc=part.stem, total=total, initial=have, unit="B", unit_scale=True, mininterval=1) as progress,
    ):
        file.seek(have)
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            progress.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    if total is not None and size < total:
        raise ConnectionError(f"connection lost after {size} of {total} bytes")


def _verify(path: Path, archive: Archive) -> None:
    """Delete a file whose digest is wrong and say so; it would never become right by going on."""
    digest = hashlib.new(archive.algorithm)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != archive.digest:
        path.unlink()
        raise UserError(f"wrong {archive.algorithm}: {digest.hexdigest()}, expected {archive.digest}; file deleted")


def _extract(path: Path, folder: str, target: Path) -> None:
    """Extract what is below `folder` in a tar archive to `target`, which appears when complete."""
    if not hasattr(tarfile, "data_filter"):
        raise UserError("this Python cannot extract archives safely; use 3.10.12, 3.11.4, 3.12 or later")

    def below_folder(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        name = PurePosixPath(member.name)
        if not name.is_relative_to(folder):
            return None
        return tarfile.data_filter(member.replace(name=str(name.relative_to(folder)), deep=False), destination)

    try:
        with tarfile.open(path) as archive, atomic_dir(target) as temporary:
            archive.extractall(temporary, filter=below_folder)
            if not any(temporary.iterdir()):
                raise UserError(f"{path}: holds no {folder}")
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise UserError(f"{path}: cannot be extracted ({error}); delete it and run this again") from error
