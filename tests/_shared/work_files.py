"""What a stopped run has left in its file."""

from pathlib import Path

from skinfluence.storage._files import unpacked


def kept(path):
    return unpacked(Path(path).read_bytes()[:-32], path)["state"]  # without the digest
