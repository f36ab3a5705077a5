"""What of the papers' claims holds on a small machine: a module a claim, each its own command."""

import argparse
import warnings

import torch

from benchmarks.data import add_data_argument


def options_of(text, seeds):
    """Read the folder of the sets and the number of seeds; leave one thread and no warnings."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, default=seeds)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    return parser.parse_args()
