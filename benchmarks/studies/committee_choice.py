"""Which committee is chosen without a set, and how well it finds the errors of that set.

    python -m benchmarks.studies.committee_choice --data DIR --keep FOLDER --seeds 0 1 2 3 4

The candidates are all combinations of which members there are (all, or all but one), how their
outputs are pooled (sums of logits or means of probabilities, with weights learnt out of sample or
alike), whether transitions between labels are estimated (where sums of logits are learnt, together
with the weights; else after them), and what scores a row's error vector (its L1 norm, twice the
probability of a wrong label; its L2 norm; the margin). Members are trained once a set and
seed; FOLDER keeps what they said. For each set of the battery, the candidate with the best mean of
AUROC and of average precision on the other sets is judged on the set that had no say.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.batteries import BATTERIES
from benchmarks.data import add_data_argument, load
from skinfluence import OutlierGradientDetector
from skinfluence.methods._pool import Pool, error_vectors, fit_pool
from skinfluence.methods._transitions import even_noise, noise_transitions
from skinfluence.outlier.committee._committee import ALWAYS, _made
from skinfluence.outlier.committee._inputs import InputViews, Seen
from skinfluence.outlier.committee._members import Targets
from skinfluence.rows._threads import one_thread

KERNELS = ("kernel 0.25", "kernel 1", "kernel 4", "linear")
LEFT_OUT = {
    "all members": (),
    "no perceptrons": ("perceptrons",),
    "no forest": ("forest",),
    "no neighbors": ("neighbors",),
    "no kernels": KERNELS,
}
POOLS = ("logits, learnt", "logits, alike", "probabilities, learnt", "probabilities, alike")
TRANSITIONS = ("transitions", "no transitions")
SCORES = ("L1", "L2", "margin")
OWN = OutlierGradientDetector()
CHOSEN = ("all members", "logits, learnt", "transitions", "L1")


def member_outputs(problem, seed):
    """Train the members and give what they say of rows out of sample, by the name of each."""
    codes = np.unique(problem.y, return_inverse=True)[1]
    with one_thread():
        seen = Seen(problem.X, InputViews(problem.X, seed))
        targets = Targets(codes, "classes")
        settings = {"checkpoints": OWN.checkpoints, "n_neighbors": OWN.n_neighbors, "seed": seed}
        members = _made(ALWAYS, problem.X, targets, **settings)
        outputs = np.concatenate([member.fit(seen, targets) for member in members])
    names = [name for member in members for name in member.names]
    return {"codes": codes, **dict(zip(names, outputs.astype(np.float32), strict=True))}


def kept_outputs(cell, seed, data, folder, make=member_outputs):
    """Read or make what the members say of one set, and which of its rows are wrong."""
    file = folder / f"{', '.join(cell).replace(' %', '')}, {seed}.npz"
    if not file.exists():
        problem = load(*cell, seed, data)
        outputs = make(problem, seed)
        outputs |= {"is_error": problem.is_error, "scored": problem.scored}
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(file, **outputs)
    return dict(np.load(file))


def mixture_weights(probabilities, codes):
    """Choose weights that make a mean of probabilities likeliest for the labels given."""
    own = probabilities[:, np.arange(len(codes)), codes]

    def loss(logits):
        weights = softmax(logits)
        share = weights @ own
        slope = -(own / share).mean(1)
        return -np.log(share).mean(), weights * (slope - weights @ slope)

    return softmax(minimize(loss, np.zeros(len(own)), jac=True, method="L-BFGS-B").x)


def pooled(outputs, codes, pool, transitions):
    """Pool (n_members, n_rows, n_classes) outputs: probabilities, and transitions of labels."""
    outputs = outputs.astype(np.float64)
    if pool == "logits, learnt" and transitions == "transitions":
        found, of_labels = fit_pool(outputs, codes, "classes")
        return found.predict(outputs), of_labels
    probabilities = right_as_given(outputs, codes, pool)
    if transitions == "transitions":
        return probabilities, noise_transitions(probabilities, codes)
    n_classes = outputs.shape[2]
    return probabilities, even_noise(n_classes, 1 - 1 / n_classes)


def right_as_given(outputs, codes, pool):
    """Pool outputs as if all labels were right."""
    if pool == "logits, learnt":
        return Pool.fit(outputs, codes, "classes").predict(outputs)
    spread = np.sqrt(np.square(outputs - outputs.mean(2, keepdims=True)).mean((1, 2)))
    spread[spread == 0] = 1
    if pool == "logits, alike":  # one temperature for all: the scale of the labels' likelihood
        mean = (outputs / spread[:, None, None]).mean(0, keepdims=True)
        return Pool.fit(mean, codes, "classes").predict(mean)
    # kernel machines give numbers, not probabilities: each member by its own temperature
    alone = [Pool.fit(one[None], codes, "classes").predict(one[None]) for one in outputs]
    probabilities = np.clip(np.stack(alone), 1e-6, 1)
    weights = np.full(len(outputs), 1 / len(outputs))
    if pool == "probabilities, learnt":
        weights = mixture_weights(probabilities, codes)
    mixed = np.tensordot(weights, probabilities, 1)
    return mixed / mixed.sum(1, keepdims=True)


def scores_of(probabilities, codes, transitions):
    """Give each score of a row's error vector, higher = more suspect."""
    errors = error_vectors(probabilities, codes, "classes", transitions)
    rows = np.arange(len(codes))
    others = errors.copy()
    others[rows, codes] = -np.inf
    return {
        "L1": np.abs(errors).sum(1),
        "L2": np.sqrt(np.square(errors).sum(1)),
        "margin": others.max(1) - errors[rows, codes],
    }


def judged(found):
    """Judge every candidate on one set with one seed: {candidate: (AUROC, average precision)}."""
    codes, is_error, scored = (found.pop(name) for name in ("codes", "is_error", "scored"))
    results = {}
    for (members, left_out), pool in product(LEFT_OUT.items(), POOLS):
        outputs = np.stack([value for name, value in found.items() if name not in left_out])
        for transitions in TRANSITIONS:
            for score, values in scores_of(*pooled(outputs, codes, pool, transitions)).items():
                truth, judged_by = is_error[scored], values[scored]
                results[members, pool, transitions, score] = (
                    roc_auc_score(truth, judged_by),
                    average_precision_score(truth, judged_by),
                )
    return results


def table(battery, seeds, data, folder):
    """Judge all candidates: one line a set, seed and candidate."""
    for cell, seed in product(BATTERIES[battery], seeds):
        for candidate, values in judged(kept_outputs(cell, seed, data, folder)).items():
            yield {
                "set": ", ".join(cell),
                "seed": seed,
                "candidate": ", ".join(candidate),
                "auroc": values[0],
                "average_precision": values[1],
            }


def show(lines):
    """Print who is chosen without each set, and the best of all with hindsight."""
    mean = lines.groupby(["candidate", "set"])[["auroc", "average_precision"]].mean()
    by_set = {name: mean[name].unstack() for name in mean}
    worth = sum(by_set.values()) / 2  # (candidate, set)
    print("| left out | chosen on the other sets | AUROC / average precision on it | best on it |")
    print("|---|---|---|---|")
    found = []
    for name in worth:
        chosen = worth.drop(columns=name).mean(axis=1).idxmax()
        best = worth[name].idxmax()
        at = {who: [values.loc[who, name] for values in by_set.values()] for who in (chosen, best)}
        found.append(at[chosen])
        shown = {who: f"{at[who][0]:.3f} / {at[who][1]:.3f}" for who in at}
        print(f"| {name} | {chosen} | {shown[chosen]} | {shown[best]}, {best} |")
    mean_found = np.mean(found, axis=0)
    print(f"\nMean over the sets left out: {mean_found[0]:.3f} / {mean_found[1]:.3f}\n")
    print("| candidate | mean | least of a set |")
    print("|---|---|---|")
    order = worth.mean(axis=1).sort_values(ascending=False).index
    own = ", ".join(CHOSEN)
    for who in [*order[:10], own, *order[-3:]]:
        values = [table.loc[who] for table in by_set.values()]
        print(
            f"| {who} | {values[0].mean():.3f} / {values[1].mean():.3f} | {values[0].min():.3f} |"
        )
    print(
        f"\n`{own}` is what `OutlierGradientDetector()` does; rank {order.get_loc(own) + 1} "
        f"of {len(order)}."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--battery", default="eight", choices=BATTERIES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--keep", type=Path, required=True, help="a folder for members' outputs")
    arguments = parser.parse_args()
    show(pd.DataFrame(table(arguments.battery, arguments.seeds, arguments.data, arguments.keep)))
