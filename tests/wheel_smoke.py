"""Run by `make wheel` in a clean environment that holds nothing but the installed wheel."""

import importlib.metadata
import pathlib

import numpy as np

import skinfluence
from skinfluence.datasets import make_noisy_moons

if __name__ == "__main__":
    where = pathlib.Path(skinfluence.__file__).parent
    assert "site-packages" in where.parts, f"imported from {where}, not from the wheel"
    assert (where / "py.typed").exists()
    assert importlib.metadata.version("skinfluence") == skinfluence.__version__
    data = make_noisy_moons(random_state=0)
    method = skinfluence.OutlierGradientDetector(random_state=0).fit(data.X, data.y)
    found = data.is_noisy[method.ranking_[:25]].sum()
    assert np.isfinite(method.detrimentality_).all()
    print(f"skinfluence {skinfluence.__version__} from {where}: {found} of 20 flips in the top 25")
