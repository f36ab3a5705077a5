"""The sets: drawn by the seed, with errors where they say, and files that are named if missing."""

import gzip

import numpy as np
import pytest

from benchmarks.batteries import BATTERIES
from benchmarks.data import SETS, SetUnavailable, load

WITHOUT_FILES = [
    "breast-cancer",
    "diabetes",
    "digits",
    "friedman",
    "iris",
    "irrelevant-columns",
    "linear-irrelevant",
    "many-small-classes",
    "rare-positives",
    "wine",
]


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_sets_that_need_no_files(name):
    for noise in SETS[name].noises:
        one, again = (load(name, noise, seed=1) for _ in range(2))
        assert one.X.shape[0] == len(one.y) == len(one.is_error) == len(one.scored)
        assert one.X.dtype == np.float32
        assert 0 < one.is_error.mean() < 0.5
        np.testing.assert_array_equal(one.X, again.X)
        np.testing.assert_array_equal(one.y, again.y)
        assert (load(name, noise, seed=2).is_error != one.is_error).any()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(SetUnavailable, match=r"letter\.npz is not in .*--data"):
        load("letter", "pair 20 %", seed=0, folder=tmp_path)
    with pytest.raises(SetUnavailable, match="SKINFLUENCE_DATA"):
        load("adult", "symmetric 5 %", seed=0)


def test_batteries_hold_sets_with_noise_that_suits_them():
    for cells in BATTERIES.values():
        assert len(set(cells)) == len(cells) > 0
        assert all(noise in SETS[name].noises for name, noise in cells)


def test_one_answer_a_row_is_drawn(tmp_path):
    # row 1 has no answer; annotators of row 2 disagree
    answers = np.array([[0, 0, 1], [2, 0, 0], [2, 1, 1], [2, 2, 1]])
    stored = {"X": np.eye(3), "gold": np.array([1, 0, 1]), "answers": answers}
    np.savez(tmp_path / "music_crowd.npz", **stored)
    problems = [load("music", "human", seed, tmp_path) for seed in range(20)]
    assert all(len(problem.y) == 2 and problem.y[0] == 1 for problem in problems)
    assert {int(problem.y[1]) for problem in problems} == {0, 1}
    for problem in problems:
        np.testing.assert_array_equal(problem.is_error, problem.y != 1)
        np.testing.assert_array_equal(problem.X, np.eye(3)[[0, 2]])


def test_only_reviewed_rows_are_scored(tmp_path):
    X = np.arange(4000 * 4, dtype=np.int64).reshape(4000, 2, 2) % 255
    np.savez(tmp_path / "mnist10k.npz", X=X.astype(np.uint8), y=np.arange(4000) % 10)
    reviewed = {"row": np.array([3000, 7]), "is_error": np.array([True, False])}
    np.savez(tmp_path / "mnist_reviewed.npz", **reviewed)
    problem = load("mnist-reviewed-images", "human", 0, tmp_path)
    assert problem.X.shape == (2902, 1, 2, 2)
    np.testing.assert_array_equal(problem.scored, [0, 1])
    np.testing.assert_array_equal(problem.is_error[problem.scored], [True, False])
    np.testing.assert_array_equal(problem.y[:2], [0, 7])


def test_adult_is_encoded_with_missing_values(tmp_path):
    rows = [
        f"{30 + i}, {job}, 1, HS, 9, Single, {work}, Own, White, Male, 0, 0, 40, US, {income}"
        for i, (job, work, income) in enumerate(
            [("State", "Sales", "<=50K"), ("?", "?", ">50K"), ("Private", "Sales", "<=50K")] * 10
        )
    ]
    with gzip.open(tmp_path / "adult-train.csv.gz", "wt") as file:
        file.write("\n".join(rows))
    problem = load("adult", "symmetric 5 %", 0, tmp_path)
    # 6 numbers; 3 and 2 values of the columns with a missing one; 6 columns of one value
    assert problem.X.shape == (30, 6 + 3 + 2 + 6)
    assert np.isfinite(problem.X).all()
    assert abs(problem.X[:, 0].mean()) < 1e-6
    assert problem.is_error.sum() == 2
