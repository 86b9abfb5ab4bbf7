"""Perceptual hash and signature of a picture: equal for its re-encoded, resized or slightly brighter copies.

The 64-bit hash finds candidates among all pairs cheaply; the signature, 16 x 16 RGB, confirms them. The hash alone takes two
similar products on white ground for one picture. Thresholds: docs/decisions/0008.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from PIL import Image

HASH_DISTANCE = 20
"""Bits of 64 in which the hashes of a candidate pair may differ."""
CORRELATION = 0.97
"""Smallest correlation of the signatures of copies."""
RESIDUAL = 16.0
"""Largest difference, in grey levels, that may remain at any place when the brightness of both is made equal."""

SIGNATURE_EDGE = 16
SIGNATURE = SIGNATURE_EDGE * SIGNATURE_EDGE * 3
_HASHED = 32  # edge of the picture that is transformed; of the result, the lowest 8 x 8 frequencies count


@functools.cache
def _cosines() -> npt.NDArray[np.float32]:
    """Return the first 8 rows of the orthogonal cosine transform, (8, 32)."""
    frequency, place = np.arange(8)[:, None], np.arange(_HASHED)[None]
    rows = np.cos(np.pi * (2 * place + 1) * frequency / (2 * _HASHED))
    rows[0] /= np.sqrt(2)
    return rows.astype(np.float32)


def perceptual_hash(grey: Image.Image) -> int:
    """Return the 64-bit pHash of a greyscale image: which low frequencies are stronger than their median.

    Zauner, Implementation and benchmarking of perceptual image hash functions, 2010.
    """
    small = np.asarray(grey.resize((_HASHED, _HASHED), Image.Resampling.LANCZOS), np.float32)
    coefficients = (_cosines() @ small @ _cosines().T).ravel()
    bits = coefficients > np.median(coefficients[1:])  # the first is the brightness alone
    bits[0] = False
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def signature(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the image averaged to 16 x 16 RGB, as a flat array (768,)."""
    small = image.resize((SIGNATURE_EDGE, SIGNATURE_EDGE), Image.Resampling.BOX)
    return np.asarray(small, np.uint8).reshape(-1)


def centred(signatures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return signatures (N, 768) without their mean brightness, float32."""
    values: npt.NDArray[np.float32] = signatures.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    return values


def same_picture(one: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return whether each centred signature in ``others`` (N, 768) is a copy of the picture ``one`` (768,).

    The contrast of ``one`` is fitted to each of the others first, so that a brighter or flatter copy counts.
    """
    products = others @ one
    own, theirs = float(one @ one), np.einsum("ij,ij->i", others, others)
    correlation = products / np.sqrt(np.maximum(own * theirs, 1e-6))
    residual = np.abs(others - (products / max(own, 1e-6))[:, None] * one).max(1)
    return np.asarray((correlation >= CORRELATION) & (residual <= RESIDUAL))
