"""Data sets that keep their labels: what a net cannot learn is named before a training."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from skorch import NeuralNetBinaryClassifier
from skorch.helper import SliceDataset
from torch import nn
from torch.utils.data import TensorDataset

from skinfluence import (
    CalibratedDetrimentality,
    CleanedClassifier,
    DetrimentalSampleCleaner,
    LossScore,
    RandomScore,
    SelfConfidence,
)
from tests._shared.problems import SmallMlp, classifier, noisy_blobs

X, Y, _ = noisy_blobs(n=60, n_classes=2)
NET = classifier(max_epochs=2, module__n_outputs=2)
VIEWS = [SliceDataset(TensorDataset(torch.tensor(X), torch.tensor(Y)), i) for i in (0, 1)]


class OneOutput(SmallMlp):
    def __init__(self):
        super().__init__(n_outputs=1)


def with_one(label, *, row=40):
    labels = torch.tensor(Y).float() if isinstance(label, float) else torch.tensor(Y)
    labels[row] = label
    return TensorDataset(torch.tensor(X), labels)


@pytest.mark.parametrize("row", [0, 7, 40, 59])
@pytest.mark.parametrize("label", [2, 9, -1])
def test_one_label_beyond_the_outputs_is_found_wherever_it_is(label, row):
    with pytest.raises(ValueError, match=rf"own labels hold \[{label}\].*fit\(dataset, y\)"):
        LossScore(NET).fit(with_one(label, row=row), None)


def test_labels_that_are_no_integers_are_named():
    with pytest.raises(ValueError, match=r"own labels hold \[0.0, 1.0\].* as integers"):
        LossScore(NET).fit(with_one(1.0), None)


@pytest.mark.parametrize("label", [1.5, -1.0, 2.0])
def test_a_binary_net_takes_what_lies_between_zero_and_one(label):
    settings = {"max_epochs": 1, "train_split": None, "verbose": 0}
    net = NeuralNetBinaryClassifier(OneOutput, criterion=nn.BCEWithLogitsLoss, **settings)
    with pytest.raises(ValueError, match=rf"own labels hold \[{label}\]"):
        LossScore(net).fit(with_one(label), None)
    LossScore(net).fit(with_one(0.9), None)


def test_looking_at_labels_draws_nothing():
    class Drawing(TensorDataset):
        def __getitem__(self, i):
            torch.rand(1)
            return super().__getitem__(i)

    before = torch.random.get_rng_state()
    LossScore(NET, random_state=0).fit(Drawing(torch.tensor(X), torch.tensor(Y)), None)
    assert torch.equal(before, torch.random.get_rng_state())


def test_views_of_a_data_set_are_calibrated_cleaned_and_relabelled_as_arrays_are():
    for make in (
        lambda: CalibratedDetrimentality(LossScore(NET), cv=2, random_state=0),
        lambda: LossScore(NET, random_state=0),
    ):
        found, expected = make().fit(*VIEWS), make().fit(X, Y)
        np.testing.assert_allclose(found.detrimentality_, expected.detrimentality_, rtol=1e-5)
    np.testing.assert_allclose(found.transform(VIEWS[0]), expected.transform(X), rtol=1e-4)
    method = SelfConfidence(NET, checkpoints=2, random_state=0)
    for settings in (
        {"contamination": "auto", "cv": 2},
        {"contamination": "disagreement"},
        {"contamination": 0.1, "action": "relabel"},
        {"contamination": "auto", "action": "relabel", "cv": 2},
    ):
        cleaner = DetrimentalSampleCleaner(method, random_state=0, **settings)
        kept, labels = cleaner.fit_resample(*VIEWS)
        indices = cleaner.sample_indices_
        expected_rows, expected_labels = cleaner.fit_resample(X, Y)
        np.testing.assert_array_equal(indices, cleaner.sample_indices_)
        np.testing.assert_array_equal(np.asarray(labels), expected_labels)
        np.testing.assert_array_equal(np.asarray(kept), expected_rows)


@pytest.mark.parametrize("n_classes", [3, 4])
def test_sorted_labels_in_plain_folds_are_named_before_models_are_compared(n_classes):
    names = np.sort(np.array(list("abcd"))[np.arange(60) % n_classes])
    cv = KFold(n_classes)
    for cleaner in (
        CleanedClassifier(LogisticRegression(), RandomScore(), cv=cv),
        DetrimentalSampleCleaner(RandomScore(), estimator=LogisticRegression(), cv=cv),
    ):
        with pytest.raises(ValueError, match=r"^Fold 0 of cv .* no row of class 'a'.*Stratified"):
            cleaner.fit(X, names)
    shuffled = KFold(n_classes, shuffle=True, random_state=0)
    model = CleanedClassifier(LogisticRegression(), RandomScore(random_state=0), cv=shuffled)
    assert model.fit(X, names).losses_
