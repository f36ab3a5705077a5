"""Write pydvl_influence.npz: influences by pyDVL's DirectInfluence, for test_peers.py.

pyDVL needs numpy < 2, so this runs in an environment of its own:

    python -m venv pydvl && pydvl/bin/pip install "pyDVL[influence]==0.10.0" torch
    pydvl/bin/python tests/influence/data/make_pydvl_influence.py
"""

from pathlib import Path

import numpy as np
import torch
from pydvl.influence.torch import DirectInfluence
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DAMPING = 0.2


def make():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(37, 4))
    y = generator.integers(0, 3, 30)
    y = np.concatenate([y, generator.integers(0, 3, 7)])
    X[np.arange(37), y] += 2
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs, targets = torch.tensor(X), torch.tensor(y)
    train, query = slice(0, 30), slice(30, 37)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05, weight_decay=1e-3)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs[train]), targets[train]).backward()
        optimizer.step()
    loader = DataLoader(TensorDataset(inputs[train], targets[train]), batch_size=30)
    model = DirectInfluence(net, nn.functional.cross_entropy, regularization=DAMPING).fit(loader)
    values = model.influences(
        inputs[query], targets[query], inputs[train], targets[train], mode="up"
    )
    state = {f"state.{name}": value.numpy() for name, value in net.state_dict().items()}
    path = Path(__file__).with_name("pydvl_influence.npz")
    np.savez(path, X=X, y=y, damping=DAMPING, influence=values.detach().numpy(), **state)
    print(path.name, values.shape, values[0, :4])


if __name__ == "__main__":
    make()
