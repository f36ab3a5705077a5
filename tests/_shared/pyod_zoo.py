"""Every PyOD detector that is made without arguments and judges rows of a table by themselves."""

import importlib
import inspect
import os
import pkgutil
import warnings
from contextlib import redirect_stdout
from functools import partial

import pyod.models
from pyod.models.base import BaseDetector

# These need a package that PyOD does not bring, or take series, graphs, sounds or one column.
NEED_MORE = {
    *("ANOMALOUS", "AnomalyDAE", "AudioAE", "CONAD", "CoLA", "DOMINANT", "GUIDE", "Radar", "SCAN"),
    *("AnomalyTransformer", "LSTMAD", "MatrixProfile", "TimeSeriesOD", "SAND", "KShape"),
    *("SpectralResidual", "DeepSVDD", "DevNet", "EmbeddingOD", "LSCP", "MAD", "MultiModalOD"),
    *("FeatureBagging", "SimpleDetectorAggregator", "SUOD", "XGBOD"),
    "SO_GAAL of so_gaal_new",  # which its own default refuses
}
# Modules of PyOD that want packages it does not bring.
NOT_IMPORTABLE = {"combination", "feature_bagging", "suod", "xgbod"}
# They train nets; the other detectors take less than a tenth of a second on a few rows.
SLOW = {
    *("AE1SVM", "ALAD", "AnoGAN", "AutoEncoder", "DIF", "LUNAR", "MO_GAAL", "SO_GAAL", "VAE"),
    *("ABOD", "CBLOF", "HBOS", "INNE", "LOCI", "QMCD", "RGraph", "ROD", "SOD"),
}


def detectors():
    """Find the classes by name; those that cannot be imported must be known."""
    found, missing = {}, set()
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
        for entry in pkgutil.iter_modules(pyod.models.__path__):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    module = importlib.import_module(f"pyod.models.{entry.name}")
            except ImportError:
                missing.add(entry.name)
                continue
            for name, kind in vars(module).items():
                own = inspect.isclass(kind) and kind.__module__ == module.__name__
                if own and issubclass(kind, BaseDetector) and not inspect.isabstract(kind):
                    found[f"{name} of {entry.name}" if name in found else name] = kind
    assert missing <= NOT_IMPORTABLE, f"cannot be imported: {missing - NOT_IMPORTABLE}"
    # with all components, as by default, scores are what rounding leaves
    found["KPCA"] = partial(found["KPCA"], n_components=5)
    return {name: kind for name, kind in sorted(found.items()) if name not in NEED_MORE}
