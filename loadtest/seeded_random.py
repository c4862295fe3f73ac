"""Random numbers that belong to a thing rather than to an order: the same for the same seed, whoever asks and when."""

import hashlib


def seeded_random(seed: int, *about: object) -> float:
    """An evenly distributed number from 0 up to, not including, 1, fixed by the seed and what it is about.

    From BLAKE2b, so that it depends on no version of any generator.
    """
    text = "\x1f".join(map(str, (seed, *about))).encode()
    return (int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 11) / 2**53
