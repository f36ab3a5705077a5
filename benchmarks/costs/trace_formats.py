"""How a trajectory lies on disk: the package's own streams against formats of libraries.

    python -m benchmarks.costs.trace_formats [--folder DIR]

Every line is a process of its own that writes the states of a training with steps="all" as they
come, brings them onto the disk at the end of every epoch of 100 steps, as a resumable training
does, and then walks back through all of them, as SGDInfluence does. Blocks hold about 16 MiB;
peaks are beyond what the process takes before. The folder is removed afterwards. Lines of
safetensors need that package. Linux only.
"""

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from skinfluence.trace.folder._state_streams import StateFile, Stream, layout_of

NETS = {"784-256-256-10": ([784, 256, 256, 10], 800), "4-16-3": ([4, 16, 3], 5_000)}
BLOCK_BYTES = 2**24
STEPS_AN_EPOCH = 100


class Streams:
    """One file of raw tensors, mapped by blocks: what the package does."""

    def __init__(self, folder, state):
        self.stream = Stream(folder / "steps.bin", layout_of(state))

    def append(self, state):
        self.stream.append(state)

    def sync(self):
        self.stream.sync()

    def states(self):
        return StateFile(self.stream.path, self.stream.layout, self.stream.length)


class Files:
    """Files of one state or of a block of them, by a library."""

    def __init__(self, folder, state, save, load, in_blocks):
        size = sum(tensor.nbytes for tensor in state.values())
        self.per_file = max(1, BLOCK_BYTES // size) if in_blocks else 1
        self.folder, self.save, self.load = folder, save, load
        self.pending, self.paths, self.unsynced, self.length = [], [], [], 0

    def append(self, state):
        # the parameters change in place, so that what waits for its block has to be a copy
        self.pending.append({name: tensor.clone() for name, tensor in state.items()})
        self.length += 1
        if len(self.pending) == self.per_file:
            self.flush()

    def flush(self):
        path = self.folder / f"{len(self.paths)}"
        if self.pending:
            self.save(self.pending, path)
            self.paths.append((path, len(self.pending)))
            self.unsynced.append(path)
            self.pending = []

    def sync(self):
        self.flush()
        for path in self.unsynced:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        self.unsynced = []

    def states(self):
        return self

    def __reversed__(self):
        for path, length in reversed(self.paths):
            yield from reversed(self.load(path, length))


def torch_load(path, length):
    return torch.load(path, mmap=True, weights_only=True)


def safetensors_save(states, path):
    from safetensors.torch import save_file

    save_file(
        {f"{i}/{name}": t for i, state in enumerate(states) for name, t in state.items()}, path
    )


def safetensors_load(path, length):
    from safetensors import safe_open

    states = [{} for _ in range(length)]
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - it is no mapping
            number, _, name = key.partition("/")
            states[int(number)][name] = file.get_tensor(key)
    return states


FORMATS = {
    "own streams": Streams,
    "torch.save, a file a state": (torch.save, torch_load, False),
    "torch.save, blocks": (torch.save, torch_load, True),
    "safetensors, a file a state": (safetensors_save, safetensors_load, False),
    "safetensors, blocks": (safetensors_save, safetensors_load, True),
}


def status(name):
    """MiB of this process, from the kernel."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


def run(name, widths, n_steps, parent):
    """Write and walk back; give seconds of both, the peaks of both and the MiB on disk."""
    torch.set_num_threads(1)
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    state = dict(nn.Sequential(*layers).state_dict())
    made = FORMATS[name]
    with tempfile.TemporaryDirectory(dir=parent) as name_of_folder:
        folder = Path(name_of_folder)
        writer = made(folder, state) if made is Streams else Files(folder, state, *made)
        writer.append(state)  # what is imported only now does not count
        writer.sync()
        found = []
        for phase in (write, walk_back):
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
            before, start = status("VmRSS"), time.perf_counter()
            phase(writer, state, n_steps)
            found += [time.perf_counter() - start, status("VmHWM") - before]
        disk = sum(512 * path.stat().st_blocks for path in folder.iterdir()) / 2**20
    return *found, disk


def write(writer, state, n_steps):
    """Append as many states, each a little different."""
    first = next(iter(state.values()))
    for step in range(n_steps):
        first[0, 0] = step
        writer.append(state)
        if step % STEPS_AN_EPOCH == STEPS_AN_EPOCH - 1:
            writer.sync()
    writer.sync()


def walk_back(writer, state, n_steps):
    """Read every tensor, the last state first."""
    seen = [sum(float(t.sum()) for t in one.values()) for one in reversed(writer.states())]
    assert len(seen) == n_steps + 1


def main(parent):
    packages = [p for p in ("torch", "numpy", "safetensors") if find_spec(p)]
    print(f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages), sep=", ")
    context = multiprocessing.get_context("spawn")
    for net, (widths, n_steps) in NETS.items():
        print(f"{net}, {n_steps} steps")
        print(f"{'':<30}{'write s':>9}{'MiB':>7}{'read s':>9}{'MiB':>7}{'disk MiB':>10}")
        for name in FORMATS:
            if "safetensors" in name and not find_spec("safetensors"):
                continue
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                numbers = pool.submit(run, name, widths, n_steps, parent).result()
            written, peak, read, read_peak, disk = numbers
            print(
                f"{name:<30}{written:>9.2f}{peak:>7.0f}{read:>9.2f}{read_peak:>7.0f}{disk:>10.0f}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default=None, help="where to make the temporary folder")
    main(parser.parse_args().folder)
