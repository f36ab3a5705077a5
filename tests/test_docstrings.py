"""A parameter that several public names share is described in the same words by all of them."""

import inspect
import re

import pytest

import skinfluence
from skinfluence import datasets, display, gradients, influence, metrics, nets

PUBLIC = {
    name: getattr(module, name)
    for module in (skinfluence, datasets, display, gradients, influence, metrics, nets)
    for name in module.__all__
}
CACHE = (
    r"Cache of trainings, as in a Pipeline: a folder, in which the trained parameters and the "
    r"trace are kept by net, rows, targets and seed, so that a search over other parameters trains "
    r"one net a fold\. Needs an integer `random_state` to find them again\. A frozen net needs "
    r"none\."
)
HELD_OUT = r"scores become quantiles within their fold\."
UNTOUCHED = r"Global generators are neither used nor changed\."
# Parameter: what it may be said to be, and what makes the first text wrong for those that differ.
ACCEPTED = {
    "memory": [
        CACHE,
        # a folder of its own beside the cache
        rf"{CACHE} With `storage` in a folder nothing is cached\.",
        # one training for all methods, except those that train their own
        CACHE.replace("of trainings", "of the shared training")
        .replace("over other parameters", "over what the methods make of it")
        .replace(r"needs none\.", r"needs none; methods that train their own have a .* own\."),
    ],
    "cv": [
        rf"Score every row by a net that was not trained on it; {HELD_OUT}",
        # an average over several nets
        rf"Score every row by nets that were not trained on it; {HELD_OUT}",
        # a detector is fitted in each fold too
        rf"Score every row by a net that was not trained on it, and by a detector .* {HELD_OUT} .*",
        # folds of p-values, which every method has
        r"Number of folds, stratified by the given label, or what has scikit-learn's `split`, .*",
        # folds of a classifier that is no method's net
        r"How rows are held out of the estimator's training, which needs `X`\.",
        # folds that choose how much to remove
        r'Folds for "auto"; numbers are shuffled folds, stratified for classes, of whole groups .*',
    ],
    "batch_size": [
        r"Most rows per pass through the net; on a processor it takes fewer where they would not "
        r"fit its caches\. It changes memory and speed, not the result\.",
        # an encoder's, forward alone
        r"Rows per pass through the net\. It changes memory and speed, not the result\.",
        # the training rows come in the batches of the training
        r"Rows per pass over the validation rows\. Steps are retraced with their own batches\.",
        # the slow route has no batches
        r"Rows per pass of the fast route\.",
        # changes the result
        r"Rows of a step, drawn with replacement\.",
    ],
    # What is seeded differs from one to the next; what else is said does not.
    "random_state": [
        rf"Seed of [^.]*\. {UNTOUCHED}( With .* nothing is random\.)?",
        # made of other methods, which have a seed of their own
        r"Seed of .*, and of (the method if its|methods whose) own is None\.( A method that .*)?",
        # a RandomState instance is advanced, as in scikit-learn's makers of data
        r"An int gives the same data every time; a RandomState instance is used and advanced; None "
        r"gives new data every time, and leaves numpy's global generator untouched\.",
        # part of a net, drawn from torch's generator where it is None
        r"Seed of the initial weights and of the order of the rows\.",
    ],
}


def parameters_of(document):
    """Map the names in the section Parameters to what is said of them, in one line."""
    section = re.search(r"^Parameters\n-+\n(.*?)(\n\n\S|\Z)", document, re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^(\S.*?) :.*\n((?:    .*\n?)+)", section[1] if section else "", re.M)
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}


def texts_about(parameter):
    documents = {name: inspect.getdoc(value) or "" for name, value in PUBLIC.items()}
    found = {name: parameters_of(text).get(parameter) for name, text in documents.items()}
    return {name: text for name, text in found.items() if text is not None}


@pytest.mark.parametrize("parameter", ACCEPTED)
def test_shared_parameters_read_alike(parameter):
    for name, text in texts_about(parameter).items():
        assert any(re.fullmatch(accepted, text) for accepted in ACCEPTED[parameter]), (name, text)


@pytest.mark.parametrize("parameter", ACCEPTED)
def test_every_accepted_text_is_in_use(parameter):
    texts = texts_about(parameter).values()
    for accepted in ACCEPTED[parameter]:
        assert any(re.fullmatch(accepted, text) for text in texts), accepted


@pytest.mark.parametrize("parameter", ACCEPTED)
def test_no_class_with_the_parameter_is_missed(parameter):
    taking = {
        name
        for name, value in PUBLIC.items()
        if inspect.isclass(value) and parameter in inspect.signature(value).parameters
    }
    assert taking <= texts_about(parameter).keys()
