"""How the default judges images, against scores of the net that is trained on all rows.

    python -m benchmarks.studies.image_nets --data DIR --keep FOLDER --seeds 0

A set and seed cost one fit of `OutlierGradientDetector()`, whose members are trained once; FOLDER
keeps what they said. The rivals read that fit's own net on all rows, the one that they would train
for themselves, and its forest. The candidates differ in which points of the nets' training count
(all alike, or weighted by how likely the labels are to the net of the other half), and in which
nets judge a row: those of the halves, that on all rows, or both; and in whether that on all rows
has the weight that halves tell, all weight ("alone"), or judges by the mean of the probabilities of
these two ("between"). Higher = more suspect.
"""

import argparse
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.batteries import BATTERIES
from benchmarks.data import add_data_argument
from benchmarks.methods.peers import suspicion
from benchmarks.studies.committee_choice import OWN, kept_outputs, scores_of
from skinfluence.dynamics._formulas import (
    area_under_margin,
    error_norm,
    log_softmax,
    margin,
    normalized_margin,
)
from skinfluence.methods._pool import Pool, fit_pool
from skinfluence.outlier.committee import _members
from skinfluence.outlier.committee._committee import _made
from skinfluence.outlier.committee._inputs import InputViews, Seen
from skinfluence.outlier.committee._members import _VOTES_OF_A_MODEL, HalfNets, Targets
from skinfluence.rows._seeds import draw_seeds
from skinfluence.rows._threads import one_thread
from skinfluence.trace._needs import TraceNeeds

DEFAULT = "points weighted, between (default)"
RIVALS = (
    *("area under the margin", "EL2N, mean", "loss, mean", "normalized margin, mean"),
    *("forest out of bag, confidence", "forest out of bag, margin"),
)
SMALLEST = 1e-40


def shrunk(images, by):
    """Take means of `by` x `by` pixels."""
    n, channels, height, width = images.shape
    return images.reshape(n, channels, height // by, by, width // by, by).mean((3, 5))


def member_outputs(problem, seed, shrink=1):
    """Train the members; what they say of rows, the nets at every point of their training."""
    if shrink > 1:
        problem = replace(problem, X=shrunk(np.asarray(problem.X, dtype=np.float32), shrink))
    codes = np.unique(problem.y, return_inverse=True)[1]
    targets, kept = Targets(codes, "classes"), {"codes": codes}
    recorded = partial(TraceNeeds, logits=True)
    seed = draw_seeds(seed, 1)[0]  # as the estimator does with its random_state
    with one_thread(), mock.patch.object(_members, "TraceNeeds", recorded):
        seen = Seen(problem.X, InputViews(problem.X, seed))
        settings = {"checkpoints": OWN.checkpoints, "n_neighbors": OWN.n_neighbors, "seed": seed}
        for member in _made("auto", problem.X, targets, **settings):
            outputs = member.fit(seen, targets)
            if not isinstance(member, HalfNets):
                kept |= dict(zip(member.names, outputs.astype(np.float32), strict=True))
                continue
            on_all = member.trained[-1]
            kept["halves"] = member._out_of_sample(seen, np.arange(len(codes))).astype(np.float32)
            kept["all"] = member._along(on_all, problem.X).astype(np.float32)
            margins = [margin(np.asarray(z, np.float64), codes) for z in on_all.trace.logits]
            kept["area under the margin"] = area_under_margin(np.array(margins))
    return kept


def scores(found):
    """Score the rows of a set by every rival and candidate: {name: (n_rows,)}."""
    codes = found["codes"]
    names = [name for name, kept in found.items() if kept.ndim == 2]
    others = np.stack([found[name] for name in names]).astype(np.float64)
    log_p = np.log(np.maximum(found["all"].astype(np.float64), SMALLEST))
    own = {"area under the margin": found["area under the margin"]}
    own["EL2N, mean"] = np.mean([error_norm(p, codes) for p in log_p], axis=0)
    own["loss, mean"] = -log_p[:, np.arange(len(codes)), codes].mean(0)
    own["normalized margin, mean"] = np.mean([normalized_margin(p, codes) for p in log_p], axis=0)
    forest = np.exp(log_softmax(found["forest"].astype(np.float64)))
    for kind, values in suspicion(forest, codes).items():
        own[f"forest out of bag, {kind}"] = values

    as_outputs = partial(Targets(codes, "classes").as_outputs, n_votes=_VOTES_OF_A_MODEL)
    alike = {who: as_outputs(found[who].mean(0)) for who in ("halves", "all")}
    points = {who: as_outputs(found[who]) for who in ("halves", "all")}
    of_points = Pool.fit(points["halves"], codes, "classes")
    weighted = {who: of_points.added(outputs) for who, outputs in points.items()}

    own["no nets"] = _judged(others, others, codes)
    for name, z in (("points alike", alike), ("points weighted", weighted)):
        judges = {
            "halves": z["halves"],
            "both": (z["halves"] + z["all"]) / 2,
            "net on all": z["all"],
        }
        for who, judge in judges.items():
            stacks = [np.concatenate([others, one[np.newaxis]]) for one in (z["halves"], judge)]
            own[f"{name}, {who}"] = _judged(*stacks, codes)
        of_all = stacks[0], np.concatenate([others, z["all"][np.newaxis]])
        alone = z["halves"][np.newaxis], z["all"][np.newaxis]
        own[f"{name}, net on all alone"] = _judged(*alone, codes)
        label = f"{name}, between"
        own[DEFAULT if DEFAULT.startswith(label) else label] = _judged(*of_all, codes, alone)
    return own


def _judged(fitted, judging, codes, alone=None):
    """Score by a pool, or by the mean of the probabilities of it and of another one."""
    pool, transitions = fit_pool(fitted, codes, "classes")
    predicted = pool.predict(judging)
    if alone is not None:
        predicted = (predicted + fit_pool(alone[0], codes, "classes")[0].predict(alone[1])) / 2
    return scores_of(predicted, codes, transitions)["L1"]


def table(cells, seeds, data, folder, shrink=1):
    """Judge all scores: one line a set, seed and score."""
    for cell, seed in product(cells, seeds):
        found = kept_outputs(cell, seed, data, folder, partial(member_outputs, shrink=shrink))
        is_error, scored = found.pop("is_error"), found.pop("scored")
        for name, values in scores(found).items():
            truth, judged_by = is_error[scored], values[scored]
            yield {
                "set": ", ".join(cell),
                "score": name,
                "auroc": roc_auc_score(truth, judged_by),
                "average_precision": average_precision_score(truth, judged_by),
            }


def show(lines):
    """Print AUROC and average precision of every score, a column a set, means over seeds."""
    mean = lines.groupby(["score", "set"], sort=False)[["auroc", "average_precision"]].mean()
    shown = mean.apply(lambda row: f"{row.iloc[0]:.3f} / {row.iloc[1]:.3f}", axis=1).unstack()
    of_all = mean.groupby("score").mean()
    print(f"| score | mean | {' | '.join(shown.columns)} |")
    print("|---" * (len(shown.columns) + 2) + "|")
    for name in of_all.sort_values("auroc", ascending=False).index:
        values = of_all.loc[name]
        print(f"| {name} | {values.iloc[0]:.3f} / {values.iloc[1]:.3f} |", end=" ")
        print(*shown.loc[name], sep=" | ", end=" |\n")
    print("\n| default against | " + " | ".join(shown.columns) + " | mean |")
    print("|---" * (len(shown.columns) + 2) + "|")
    for rival in RIVALS:
        ahead = mean["auroc"].loc[DEFAULT] - mean["auroc"].loc[rival]
        parts = [f"{ahead[name]:+.3f}" for name in shown.columns]
        print(f"| {rival} | {' | '.join(parts)} | {ahead.mean():+.3f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--sets", nargs="+", help="of the images, only these sets")
    parser.add_argument("--noises", nargs="+", help="of these sets, only these noises")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", type=Path, required=True, help="a folder for members' outputs")
    parser.add_argument("--shrink", type=int, default=1, help="means of so many pixels squared")
    arguments = parser.parse_args()
    chosen = [
        (name, noise)
        for name, noise in BATTERIES["images"]
        if (not arguments.sets or name in arguments.sets)
        and (not arguments.noises or noise in arguments.noises)
    ]
    show(
        pd.DataFrame(
            table(chosen, arguments.seeds, arguments.data, arguments.keep, arguments.shrink)
        )
    )
