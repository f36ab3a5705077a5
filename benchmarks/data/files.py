"""Readers of the sets that scikit-learn does not ship, from the folder that `--data` names."""

import gzip
import io
import os
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.data.problem import SetUnavailable

ADULT = [
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation"),
    *("relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week"),
    *("native-country", "income"),
]


def add_data_argument(parser):
    parser.add_argument(
        "--data",
        default=os.environ.get("SKINFLUENCE_DATA"),
        help="folder of the sets that scikit-learn does not ship (or SKINFLUENCE_DATA)",
    )


def path_of(folder, name):
    if folder is None or not (Path(folder) / name).exists():
        raise SetUnavailable(f"{name} is not in {folder}: pass --data DIR or SKINFLUENCE_DATA")
    return Path(folder) / name


@cache
def arrays(folder, name):
    """Read a whole npz: indexing the open file would decompress an array each time."""
    return dict(np.load(path_of(folder, f"{name}.npz")))


def images_of(pixels):
    """Bring (n, h, w) bytes to (n, 1, h, w) in [0, 1]."""
    return (pixels[:, None] / 255).astype(np.float32)


def adult(folder, rows):
    """Read rows of Adult as a data frame with NaN for what is missing, and the income's code."""
    with gzip.open(path_of(folder, "adult-train.csv.gz")) as file:
        table = pd.read_csv(file, names=ADULT, skipinitialspace=True, na_values="?").iloc[rows]
    return table.drop(columns="income"), (table["income"] == ">50K").to_numpy(int)


def whole_adult(folder):
    """Read both files of Adult: (table, the income's code)."""
    parts = []
    for name in ("train", "test"):
        with gzip.open(path_of(folder, f"adult-{name}.csv.gz")) as file:
            options = {"names": ADULT, "skipinitialspace": True, "na_values": "?"}
            parts.append(pd.read_csv(file, **options))
    table = pd.concat(parts, ignore_index=True)
    return table.drop(columns="income"), table["income"].str.startswith(">50K").to_numpy(int)


def encoded(table):
    """Scale the numbers and make columns of the categories; a missing one is one of its own."""
    encoder = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (OneHotEncoder(sparse_output=False), make_column_selector(dtype_exclude="number")),
    )
    return encoder.fit_transform(table).astype(np.float32)


@cache
def reviews(folder):
    """Read the movie reviews and whether each praises."""
    texts, praises = [], []
    with tarfile.open(path_of(folder, "review_polarity.tar.gz")) as archive:
        for member in archive.getmembers():
            if member.isfile() and member.name.endswith(".txt"):
                texts.append(archive.extractfile(member).read().decode("latin-1"))
                praises.append("/pos/" in f"/{member.name}")
    return np.array(texts, dtype=object), np.array(praises, dtype=int)


def jpegs(stored, rows):
    """Decode images of a file that holds them as JPEG bytes one behind the other."""
    from PIL import Image

    offsets = stored["train_offsets"]
    pictures = [
        np.asarray(Image.open(io.BytesIO(stored["train_jpeg"][offsets[i] : offsets[i + 1]])))
        for i in rows
    ]
    return (np.stack(pictures).transpose(0, 3, 1, 2) / 255).astype(np.float32)
