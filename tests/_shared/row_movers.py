"""Nets, collate functions, loaders and data sets that move rows, right or wrong."""

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

N_TOKENS = 20


class Tokens(nn.Module):
    """Embeds tokens padded with 0 and reads their mean, row by row; the base of what moves rows."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(N_TOKENS, 4, padding_idx=0)
        self.hidden = nn.Linear(4, 5)
        self.head = nn.Linear(5, 2)

    def encode(self, X):
        n = (X != 0).sum(1, keepdim=True).clamp_min(1)
        return torch.tanh(self.hidden(self.embed(X).sum(1) / n))

    def forward(self, X):
        return self.head(self.encode(X))


def lengths(X):
    return (X != 0).sum(1)


class Packed(nn.Module):
    """Sorts rows by length to pack them, and puts them back after the head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(N_TOKENS, 4, padding_idx=0)
        self.recurrent = nn.GRU(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, X):
        n, order = lengths(X).clamp_min(1).sort(descending=True, stable=True)
        packed = pack_padded_sequence(self.embed(X[order]), n, batch_first=True)
        return self.head(self.recurrent(packed)[1][0])[order.argsort()]


class SortsByLength(Tokens):
    def forward(self, X):
        order = lengths(X).argsort(stable=True)
        return super().forward(X[order])[order.argsort()]


class Gathers(Tokens):
    """As `SortsByLength`, by gather and index_select."""

    def forward(self, X):
        order = lengths(X).argsort(stable=True)
        out = super().forward(X.index_select(0, order))
        return out.gather(0, order.argsort()[:, None].expand_as(out))


class Scatters(Tokens):
    def forward(self, X):
        order = lengths(X).argsort(stable=True)
        out = super().forward(X[order])
        return torch.zeros_like(out).index_put((order,), out)


class LoopsInOrder(Tokens):
    """Takes rows one by one, the short ones first."""

    def forward(self, X):
        order = sorted(range(len(X)), key=lambda i: int(lengths(X)[i]))
        hidden = self.encode(torch.stack([X[i] for i in order]))
        rows = dict(zip(order, self.head(hidden).unbind(0), strict=True))
        return torch.stack([rows[i] for i in range(len(X))])


class Buckets(Tokens):
    """Runs the rows of each length together."""

    def forward(self, X):
        n = lengths(X)
        groups = [(n == size).nonzero()[:, 0] for size in n.unique()]
        out = torch.cat([super(Buckets, self).forward(X[group]) for group in groups])
        return out[torch.cat(groups).argsort()]


class Deduplicates(Tokens):
    """Runs each distinct row once."""

    def forward(self, X):
        distinct, inverse = X.unique(dim=0, return_inverse=True)
        return super().forward(distinct)[inverse]


class Permutes(Tokens):
    """Reorders by a product with a permutation matrix, which no index shows."""

    def forward(self, X):
        order = lengths(X).argsort(stable=True)
        matrix = torch.eye(len(X), dtype=self.head.weight.dtype)[order]
        hidden = matrix @ self.encode(X)
        return matrix.mT @ self.head(hidden)


class SortsLargeBatches(SortsByLength):
    """Leaves small batches alone."""

    def forward(self, X):
        return super().forward(X) if len(X) > 20 else Tokens.forward(self, X)


# Their rows come back in their order, so every row has a result of its own.
RIGHT_NETS = [
    *(Tokens, Packed, SortsByLength, Gathers, Scatters, LoopsInOrder, Buckets, Deduplicates),
    *(Permutes, SortsLargeBatches),
]


class ForgetsToRestore(Tokens):
    def forward(self, X):
        return super().forward(X[lengths(X).argsort(stable=True)])


class ForgetsInLargeBatches(ForgetsToRestore):
    def forward(self, X):
        return super().forward(X) if len(X) > 20 else Tokens.forward(self, X)


class Averages(Tokens):
    def forward(self, X):
        hidden = self.encode(X)
        return self.head(hidden - hidden.mean(0))


class AveragesLargeBatches(Averages):
    def forward(self, X):
        return super().forward(X) if len(X) > 20 else Tokens.forward(self, X)


class Rolls(Tokens):
    def forward(self, X):
        return super().forward(X).roll(1, 0)


class NormalisesByBatch(Tokens):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5, track_running_stats=False)

    def encode(self, X):
        return self.norm(super().encode(X))


class Noisy(Tokens):
    def forward(self, X):
        return nn.functional.dropout(super().forward(X), 0.5, training=True)


# A row's result is another beside other rows.
WRONG_NETS = [
    *(ForgetsToRestore, ForgetsInLargeBatches, Averages, AveragesLargeBatches, Rolls),
    *(NormalisesByBatch, Noisy),
]


def padded(rows):
    """Pad to the longest row of the batch."""
    X = pad_sequence([torch.as_tensor(x) for x, _ in rows], batch_first=True)
    return X, torch.as_tensor([int(t) for _, t in rows])


def padded_on_the_left(rows):
    width = max(len(x) for x, _ in rows)
    X = torch.stack([nn.functional.pad(torch.as_tensor(x), (width - len(x), 0)) for x, _ in rows])
    return X, torch.as_tensor([int(t) for _, t in rows])


def one_hot_targets(rows):
    X, y = padded(rows)
    return X, nn.functional.one_hot(y, 2)[:, 1]


RIGHT_COLLATES = [padded, padded_on_the_left, one_hot_targets]


def sorts(rows):
    return padded(sorted(rows, key=lambda row: -len(row[0])))


def sorts_inputs_only(rows):
    X, _ = padded(sorted(rows, key=lambda row: -len(row[0])))
    return X, padded(rows)[1]


def sorts_by_target(rows):
    return padded(sorted(rows, key=lambda row: row[1]))


def drops_short_rows(rows):
    return padded([row for row in rows if len(row[0]) > 2] or rows[:1])


def repeats_the_first(rows):
    return padded([rows[0], *rows[:-1]])


def shuffles(rows):
    return padded([rows[i] for i in np.random.permutation(len(rows))])


def mixes(rows):
    X, y = padded(rows)
    return torch.maximum(X, X.roll(1, 0)), y


WRONG_COLLATES = [
    *(sorts, sorts_inputs_only, sorts_by_target, drops_short_rows, repeats_the_first, shuffles),
    *(mixes,),
]


class SortsBatches(DataLoader):
    """Sorts each batch after it was collated."""

    def __iter__(self):
        for X, y in super().__iter__():
            order = lengths(X).argsort(stable=True)
            yield X[order], y[order]


class SortsLastBatch(DataLoader):
    def __iter__(self):
        batches = list(super().__iter__())
        for X, y in batches[:-1]:
            yield X, y
        X, y = batches[-1]
        yield X.flip(0), y.flip(0)


class ByLength:
    """A sampler of batches that puts rows of one length together."""

    def __init__(self, dataset, size):
        order = sorted(range(len(dataset)), key=lambda i: len(dataset[i][0]))
        self.batches = [order[start : start + size] for start in range(0, len(order), size)]

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def buckets(dataset, batch_size, **settings):
    return DataLoader(dataset, batch_sampler=ByLength(dataset, batch_size), **settings)


def backwards(dataset, **settings):
    return DataLoader(dataset, sampler=range(len(dataset) - 1, -1, -1), **settings)


def drops_the_rest(dataset, **settings):
    return DataLoader(dataset, drop_last=True, **settings)


def repeats_last_batch(dataset, **settings):
    batches = list(DataLoader(dataset, **settings))
    return [*batches, batches[-1]]


def replaces_a_row(dataset, **settings):
    """Gives as many rows as there are, but one of them twice."""
    return DataLoader(dataset, sampler=[0, *range(len(dataset) - 1)], **settings)


WRONG_LOADERS = [
    *(SortsBatches, SortsLastBatch, buckets, backwards, drops_the_rest, repeats_last_batch),
    *(replaces_a_row,),
]


class OwnIteration(DataLoader):
    """Iterates in a way of its own, and keeps the rows."""

    def __iter__(self):
        yield from super().__iter__()


def in_order(dataset, batch_size, **settings):
    """Yields batches of another size than it is asked for, in order."""
    return list(DataLoader(dataset, batch_size=max(1, batch_size // 2), **settings))


RIGHT_LOADERS = [DataLoader, OwnIteration, in_order]


class Rows(Dataset):
    """Token rows without padding, of the lengths they have."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i][: max(1, int((self.X[i] != 0).sum()))], int(self.y[i])


class ManyAtOnce(Rows):
    """Gives several rows at once in an order of its own, but each alone rightly."""

    def __getitems__(self, index):
        return [self[i] for i in sorted(index, key=lambda i: len(self[i][0]))]


class OtherRowsEachTime(Rows):
    """Gives the next row at each reading, whichever is asked for."""

    def __init__(self, X, y):
        super().__init__(X, y)
        self.n_read = 0

    def __getitem__(self, i):
        self.n_read += 1
        return super().__getitem__((i + self.n_read) % len(self))


class Augmented(Rows):
    """Changes a token at random at each reading."""

    def __getitem__(self, i):
        x, t = super().__getitem__(i)
        x = x.copy()
        x[np.random.randint(len(x))] = np.random.randint(1, N_TOKENS)
        return x, t


def token_rows(n, tied=0, seed=0, rare=False, width=6):
    """Draw tokens (n, width) padded with 0; the first `tied` rows, or all but two, are full."""
    rng = np.random.default_rng(seed)
    X = rng.integers(1, N_TOKENS, (n, width))
    sizes = rng.integers(1, width + 1, n)
    sizes[:tied] = width
    if rare:
        sizes[:] = width
        sizes[rng.choice(n, min(n, 2), replace=False)] = 1
    X[np.arange(width) >= sizes[:, None]] = 0
    return X, rng.permutation(np.arange(n) % 2)
