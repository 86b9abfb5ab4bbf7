"""Archives of images for tests: in the layout of Stanford Dogs, plain ones of every kind, and harmful ones."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import yaml
from PIL import Image

BREEDS = ("n02085620-Chihuahua", "n02086240-Shih-Tzu", "n02091032-Italian_greyhound")
TRAIN, TEST = 8, 4
Compression = Literal["", "gz", "bz2", "xz"]


def picture(seed: int, format: str = "JPEG") -> bytes:
    """An image of 24 x 20 pixels of its own for each seed."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format)
    return stream.getvalue()


def tar_of(files: Mapping[str, bytes], compression: Compression = "", more: Iterable[tarfile.TarInfo] = ()) -> bytes:
    """A tar of files and of members without content."""
    stream = io.BytesIO()
    mode: Any = f"w:{compression}"
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in more:
            archive.addfile(member)
    return stream.getvalue()


def member(name: str, type_: bytes, target: str = "") -> tarfile.TarInfo:
    """A member of a tar that is no file."""
    made = tarfile.TarInfo(name)
    made.type = type_
    made.linkname = target
    return made


def zip_of(files: Mapping[str, bytes], modes: Mapping[str, int] | None = None) -> bytes:
    """A zip of files; ``modes`` are Unix modes by name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, 0o100644) << 16
            archive.writestr(info, content)
    return stream.getvalue()


class _RawName(zipfile.ZipInfo):
    """A file of a zip whose name is written as these bytes, without the flag that says how it is encoded."""

    raw = b""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - of zipfile
        return self.raw, self.flag_bits


def raw_zip_of(files: Mapping[bytes, bytes], unicode_paths: Mapping[bytes, str] | None = None) -> bytes:
    """A zip as old packers write it: names are bytes; with a Unicode path field for those that have one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, (raw, content) in enumerate(files.items()):
            info = _RawName(str(number))
            info.raw = raw
            if unicode_paths and raw in unicode_paths:
                field = b"\1" + struct.pack("<I", zlib.crc32(raw)) + unicode_paths[raw].encode()
                info.extra = struct.pack("<HH", 1, 2) + b"xx" + struct.pack("<HH", 0x7075, len(field)) + field
            archive.writestr(info, content)
    return stream.getvalue()


def dog_paths(split: Literal["train", "test"]) -> list[str]:
    """Paths of a split below the folder of the breeds."""
    numbers = range(TRAIN) if split == "train" else range(TRAIN, TRAIN + TEST)
    return [f"{breed}/{breed.partition('-')[0]}_{number}.jpg" for breed in BREEDS for number in numbers]


def dog_images() -> dict[str, bytes]:
    """Files of images.tar."""
    paths = [*dog_paths("train"), *dog_paths("test")]
    return {f"Images/{path}": picture(seed) for seed, path in enumerate(paths)}


def matlab_list(paths: Iterable[str]) -> bytes:
    """A split list as the site publishes it: cell arrays of paths and of annotations, and numbers of classes."""
    from scipy.io import savemat

    paths = list(paths)
    cells, annotations = (np.empty((len(paths), 1), dtype=object) for _ in range(2))
    for row, path in enumerate(paths):
        cells[row, 0], annotations[row, 0] = path, path.removesuffix(".jpg")
    labels = np.array(
        [[BREEDS.index(path.partition("/")[0]) + 1] for path in paths if path.partition("/")[0] in BREEDS]
    )
    stream = io.BytesIO()
    savemat(stream, {"file_list": cells, "annotation_list": annotations, "labels": labels})
    return stream.getvalue()


def dog_lists() -> dict[str, bytes]:
    """Files of lists.tar."""
    lists = {"train": dog_paths("train"), "test": dog_paths("test"), "file": [*dog_paths("train"), *dog_paths("test")]}
    return {f"{name}_list.mat": matlab_list(paths) for name, paths in lists.items()}


def dog_workload(address: str, images: bytes, lists: bytes, **download: Any) -> str:
    """The shipped workload in YAML, with archives at an address in place of the real site."""
    from vision_mlops.config import load_workload

    content = load_workload("stanford_dogs").model_dump(mode="json")
    content["name"] = "dogs"
    content["data"]["min_images_per_class"] = 3
    content["data"]["download"]["archives"] = [
        {"url": f"{address}/{name}", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in (("images.tar", images), ("lists.tar", lists))
    ]
    content["data"]["download"] |= download
    return yaml.safe_dump(content, sort_keys=False)
