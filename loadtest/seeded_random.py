"""Random numbers that a seed and a subject determine. They do not depend on the order in which they are drawn."""

import hashlib


def seeded_random(seed: int, *about: object) -> float:
    """Return a uniform number in [0, 1) that the seed and the subject determine.

    BLAKE2b makes the number independent of library versions.
    """
    text = "\x1f".join(map(str, (seed, *about))).encode()
    return (int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 11) / 2**53
