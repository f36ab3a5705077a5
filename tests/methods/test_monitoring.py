"""The threshold for new rows marks the share that it says, or says that it cannot."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import (
    CalibratedDetrimentality,
    ComplexityGap,
    LossScore,
    OutlierGradientDetector,
    SelfConfidence,
    score_detrimentality,
    threshold_for_new_rows,
)
from skinfluence.datasets import make_noisy_labels
from tests._shared.problems import blobs, classifier, fitted_classifier


def made(n_classes, seed, n=6000):
    return make_classification(
        n, 20, n_informative=8, n_classes=n_classes, class_sep=0.9, random_state=seed
    )


def halves(X, y, seed=0):
    return train_test_split(X, y, test_size=0.5, random_state=seed, stratify=y)


def share_marked(method, X_new, y_new, **asked):
    threshold = threshold_for_new_rows(method, **asked)
    return (score_detrimentality(method, X_new, y_new) > threshold).mean()


def test_a_model_out_of_fold_marks_a_tenth_of_clean_new_rows():
    X, X_new, y, y_new = halves(*made(3, seed=0))
    method = make_pipeline(StandardScaler(), SelfConfidence(GaussianNB(), random_state=0))
    method.fit(X, y)
    assert abs(share_marked(method, X_new, y_new) - 0.1) < 0.02
    assert abs(share_marked(method, X_new, y_new, rate=0.3) - 0.3) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize(
    "problem",
    [lambda: load_digits(return_X_y=True), *(lambda k=k: made(k, seed=k) for k in (2, 4, 6))],
    ids=["digits", "two classes", "four classes", "six classes"],
)
@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_the_committee_marks_a_tenth_of_clean_new_rows(problem, rate):
    X, y = problem()
    shares = []
    for seed in range(2):
        train, X_new, given, y_new = halves(X, y, seed)
        if rate:
            given, _ = make_noisy_labels(given, rate=rate, random_state=seed)
        method = OutlierGradientDetector(random_state=seed).fit(train, given)
        shares.append(share_marked(method, X_new, y_new, among="right"))
        if not rate:
            assert abs(share_marked(method, X_new, y_new) - 0.1) < 0.04
    assert abs(np.mean(shares) - 0.1) < 0.02


def test_held_out_rows_make_any_method_exact():
    X, X_new, y, y_new = halves(*made(3, seed=1, n=2000))
    method = LossScore(classifier(max_epochs=40), random_state=0)
    method.set_params(net__module__n_inputs=20).fit(X, y)
    in_sample = method.score_detrimentality(X_new, y_new) > np.quantile(method.detrimentality_, 0.9)
    threshold = threshold_for_new_rows(method, X_new[:499], y_new[:499], rate=0.1)
    held_out = method.score_detrimentality(X_new[:499], y_new[:499])
    # floor(.1 * 500) of 499, of which the last is the threshold itself
    assert (held_out >= threshold).sum() == 50
    marked = method.score_detrimentality(X_new[499:], y_new[499:]) > threshold
    assert abs(marked.mean() - 0.1) < 0.04
    assert in_sample.mean() > 0.14  # what the threshold of the training rows does


@pytest.mark.parametrize(
    ("method", "why"),
    [
        (lambda X, y: LossScore(classifier(max_epochs=2), random_state=0).fit(X, y), "trained on"),
        (lambda X, y: LossScore(FrozenEstimator(fitted_classifier(X, y))).fit(X, y), "trained on"),
        (lambda X, y: SelfConfidence(FrozenEstimator(GaussianNB().fit(X, y))).fit(X, y), "trained"),
        (lambda X, y: LossScore(classifier(max_epochs=2), cv=2).fit(X, y), "mean over its folds"),
        (
            lambda X, y: CalibratedDetrimentality(LossScore(classifier(max_epochs=2)), cv=2).fit(
                X, y
            ),
            "mean over its folds",
        ),
    ],
)
def test_what_is_not_known_is_refused_with_what_to_use(method, why):
    X, y = blobs(60)
    fitted = method(X, y)
    with pytest.raises(ValueError, match=f"{why}.*Give X and y of rows.*OutlierGradientDetector"):
        threshold_for_new_rows(fitted)
    assert np.isfinite(threshold_for_new_rows(fitted, X, y))


@pytest.mark.usefixtures("brief_nets")
def test_images_are_judged_partly_in_sample():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 1, 8, 8)).astype(np.float32), np.arange(40) % 2
    method = OutlierGradientDetector(committee=["perceptrons"], random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="not known which share"):
        threshold_for_new_rows(method)


def test_wrong_calls_are_refused():
    X, y = blobs(60)
    method = SelfConfidence(LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match=r"rate=0\.01 and 60 rows"):
        threshold_for_new_rows(method, rate=0.01)
    for rate in (0, 1, -0.1, None, True):
        with pytest.raises(ValueError, match="rate="):
            threshold_for_new_rows(method, rate=rate)
    with pytest.raises(ValueError, match="among="):
        threshold_for_new_rows(method, among="clean")
    with pytest.raises(ValueError, match="no label_errors_"):
        threshold_for_new_rows(method, among="right")
    with pytest.raises(ValueError, match="Leave among out"):
        threshold_for_new_rows(method, X, y, among="right")
    with pytest.raises(TypeError, match="method of this package"):
        threshold_for_new_rows(Ridge())
    with pytest.raises(AttributeError, match="score_detrimentality"):
        threshold_for_new_rows(ComplexityGap().fit(X, y))


def test_rows_count_by_how_likely_their_label_is_right():
    X, y = blobs(200)
    y, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    method = OutlierGradientDetector(committee=["forest", "neighbors"], random_state=0).fit(X, y)
    right = 1 - method.label_errors_.p_wrong
    threshold = threshold_for_new_rows(method, among="right")
    above = method.detrimentality_ >= threshold
    assert right[above].sum() <= 0.1 * (right.sum() + 1)
    assert threshold < threshold_for_new_rows(method)
    assert above[is_noisy].mean() > 0.9


def test_a_forest_out_of_bag_has_a_threshold():
    X, X_new, y, y_new = halves(*made(3, seed=2, n=2000))
    method = SelfConfidence(RandomForestClassifier(random_state=0)).fit(X, y)
    assert 0.05 < share_marked(method, X_new, y_new) < 0.13
