"""Nets for texts that are given as tokens: a small transformer, or a language model with a head."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from skorch import NeuralNet
from torch import Tensor, nn

from skinfluence.gradients._net_loss import private_copy
from skinfluence.gradients._skorch import module_dtype
from skinfluence.nets._default import SeededLoader, target_traits
from skinfluence.rows._parameters import check_choice
from skinfluence.rows._seeds import preserved_random_state, seeded
from skinfluence.rows._targets import TASKS, are_numbers, check_targets, warn_of_many_classes

_BATCH_SIZE = 32
# Small sets get more epochs, so that a transformer from scratch takes about this many steps.
_STEPS = 1500
_MIN_EPOCHS, _MAX_EPOCHS = 5, 60
# One that is trained already needs few.
_EPOCHS_OF_TRAINED = 8


class Attention(nn.Module):
    """Self-attention of layers that per-sample gradients factor: four Linear ones."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """Mix the positions of (n, t, width), of which the mask (n, t) tells padding."""
        q, k, v = (
            part(h).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, mask[:, None, None, :])
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """A layer of a transformer, normalised before each part."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.norm_1, self.attention = nn.LayerNorm(width), Attention(width, n_heads)
        self.norm_2 = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """Map (n, t, width) to the same shape."""
        h = h + self.attention(self.norm_1(h), mask)
        mixed: Tensor = h + self.mix(self.norm_2(h))
        return mixed


class SmallTransformer(nn.Module):
    """A transformer of two layers, from tokens to states; see `text_net`."""

    def __init__(self, n_tokens: int, n_positions: int, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.tokens, self.positions = (
            nn.Embedding(n_tokens, width),
            nn.Embedding(n_positions, width),
        )
        self.blocks = nn.ModuleList([Block(width, 4) for _ in range(2)])
        self.norm = nn.LayerNorm(width)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Give states (n, t, width)."""
        mask = attention_mask.bool()
        h = self.tokens(input_ids) + self.positions(torch.arange(input_ids.shape[1])[None])
        for block in self.blocks:
            h = block(h, mask)
        states: Tensor = self.norm(h)
        return states


class TextModule(nn.Module):
    """An encoder, the mean of its states over what is no padding, and an output layer."""

    output_center: Tensor
    output_scale: Tensor

    def __init__(
        self,
        *,
        n_outputs: int,
        encoder: nn.Module | None = None,
        adapter: Any = None,
        n_tokens: int = 0,
        n_positions: int = 0,
        output_center: ArrayLike = 0.0,
        output_scale: ArrayLike = 1.0,
        random_state: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"output_center": output_center, "output_scale": output_scale}.items():
            self.register_buffer(name, torch.as_tensor(np.asarray(value), dtype=torch.float32))
        self._is_frozen = encoder is not None and adapter is None
        with nullcontext() if random_state is None else seeded(random_state):
            if encoder is None:
                own = SmallTransformer(n_tokens, n_positions)
                self.encoder: nn.Module = own
                width = own.width
            else:
                # the weights are shared, since nothing trains them; the structure is this net's own
                self.encoder = private_copy(encoder).requires_grad_(False)
                config: Any = encoder.config
                width = int(config.hidden_size)
            if adapter is not None:
                self.encoder = _with_adapter(self.encoder, adapter)
            self.output = nn.Linear(width, n_outputs)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen encoder stays without dropout."""
        super().train(mode)
        if self._is_frozen:
            self.encoder.eval()
        return self

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **others: Tensor
    ) -> Tensor:
        """Map tokens (n, t) to logits, or to predictions of a numeric target: (n, n_outputs)."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states = _states(self.encoder(input_ids, attention_mask=attention_mask, **others))
        outputs: Tensor = self.output(_mean_state(states, attention_mask))
        return self.output_center + self.output_scale * outputs


class CausalLMLoss(nn.Module):
    """Loss of sequences whose every token is predicted from those before it, one number a sequence.

    The criterion of a skorch ``NeuralNet`` around a causal language model. Logits of a position are
    held against the next position's token, as transformers' own loss does; but that one is a mean
    over all tokens of a batch, by which a sequence's share depends on the other sequences. Here a
    batch's loss is the mean over sequences of each one's own.

    Parameters
    ----------
    over_tokens : {"mean", "sum"}, default="mean"
        A sequence's loss: the mean over its tokens, so that long and short ones count alike, or
        their sum, the negative logarithm of the sequence's probability.

    Notes
    -----
    Targets are the tokens (n_samples, n_positions), -100 where none is to be predicted, as for
    padding or a prompt. Outputs are logits (n_samples, n_positions, n_tokens), or what holds them
    as ``logits``, as models of transformers give.

    Examples
    --------
    >>> import torch
    >>> from skinfluence.nets import CausalLMLoss
    >>> logits = torch.zeros(2, 3, 4)  # four tokens, all alike
    >>> tokens = torch.tensor([[1, 2, 3], [1, 2, -100]])
    >>> round(float(CausalLMLoss()(logits, tokens)), 3)  # log 4
    1.386
    >>> round(float(CausalLMLoss(over_tokens="sum")(logits, tokens)), 3)  # (2 + 1) / 2 of it
    2.079
    """

    def __init__(self, over_tokens: str = "mean") -> None:
        super().__init__()
        check_choice("over_tokens", over_tokens, ("mean", "sum"))
        self.over_tokens = over_tokens

    def forward(self, output: Any, target: Tensor) -> Tensor:
        """Average the losses of sequences; a scalar."""
        logits = _part(output, "logits")[:, :-1]
        due = target[:, 1:]
        counts = due != -100
        logs = torch.log_softmax(logits, -1).gather(2, due.clamp_min(0)[..., None])[..., 0]
        losses = -(logs * counts).sum(1)
        if self.over_tokens == "mean":
            losses = losses / counts.sum(1).clamp_min(1)
        return losses.mean()


def text_net(
    X: Mapping[str, ArrayLike],
    y: ArrayLike,
    *,
    encoder: nn.Module | None = None,
    adapter: Any = None,
    n_tokens: int | None = None,
    random_state: int | None = None,
    task: str | None = None,
) -> NeuralNet:
    """Make an unfitted skorch net for texts that are given as tokens.

    The states of an encoder are averaged over each text's tokens, and an output layer reads the
    mean. Padding has no part in it.

    Parameters
    ----------
    X : dict of arrays
        What a tokenizer gives: "input_ids" of shape (n_samples, n_positions), "attention_mask"
        that is 0 where a text is padded, and whatever else the encoder takes.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Classes, numbers or an indicator of labels, as for `default_net`.
    encoder : torch.nn.Module, optional
        A model of transformers, such as ``AutoModel.from_pretrained(folder)``. Its weights are
        shared and never changed. Without `adapter` it is frozen and the output layer alone is
        trained; every epoch passes through it, so that for more than a few thousand texts
        `encode_texts` before `default_net` is cheaper. By default a transformer of two layers,
        width 64, is trained from scratch.
    adapter : peft.LoraConfig, optional
        What is trained of the encoder, beside the output layer; needs the package peft. The
        adapter's layers are ``layers=["*lora_*"]``.
    n_tokens : int, optional
        Of a transformer from scratch, how many tokens there are: the length of the tokenizer. By
        default those in `X`.
    random_state : int, optional
        Seed of the initial weights and of the order of the rows.
    task : {"classification", "regression"}, optional
        What the targets are, whatever their values say.

    Returns
    -------
    NeuralNetClassifier, NeuralNetRegressor or NeuralNet
        Adam at a learning rate of 1e-3; 8 epochs of a trained encoder, 5 to 60 from scratch.

    Raises
    ------
    TypeError
        If `X` are texts instead of tokens, or the encoder is no module.
    ValueError
        If "input_ids" are missing or ragged, an adapter is given without encoder, or `task` is
        another word.

    Examples
    --------
    >>> import numpy as np
    >>> from skinfluence import LossScore
    >>> from skinfluence.nets import text_net
    >>> rng = np.random.default_rng(0)
    >>> length = rng.integers(3, 9, size=(60, 1))
    >>> mask = (np.arange(8) < length).astype(int)
    >>> X = {"input_ids": rng.integers(1, 50, (60, 8)) * mask, "attention_mask": mask}
    >>> y = (X["input_ids"] == 7).any(1).astype(int)
    >>> net = text_net(X, y, random_state=0).set_params(max_epochs=2)
    >>> LossScore(net, random_state=0).fit(X, y).detrimentality_.shape
    (60,)
    """
    check_choice("task", task, TASKS)
    ids = check_tokens(X)["input_ids"]
    y = check_targets(y, len(ids))
    if task is None and not are_numbers(y, None):
        warn_of_many_classes(y)
    if adapter is not None and encoder is None:
        raise ValueError(
            "Got an adapter without encoder. Give the model that it adapts, such as "
            "AutoModel.from_pretrained(folder)."
        )
    if encoder is not None and not isinstance(encoder, nn.Module):
        raise TypeError(f"Got encoder={encoder!r}, but expected a model of transformers.")
    net_class, criterion, n_outputs, center, scale = target_traits(y, task)
    shape = {} if encoder is not None else _shape_of(ids, n_tokens)
    epochs = int(np.clip(_STEPS // -(-len(ids) // _BATCH_SIZE), _MIN_EPOCHS, _MAX_EPOCHS))
    return net_class(
        TextModule,
        module__encoder=encoder,
        module__adapter=adapter,
        **shape,
        module__n_outputs=n_outputs,
        module__output_center=center,
        module__output_scale=scale,
        module__random_state=random_state,
        criterion=criterion,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=_BATCH_SIZE,
        max_epochs=epochs if encoder is None else _EPOCHS_OF_TRAINED,
        iterator_train=SeededLoader,
        iterator_train__random_state=random_state,
        train_split=None,
        verbose=0,
    )


def encode_texts(
    X: Mapping[str, ArrayLike], *, encoder: nn.Module, batch_size: int = 64
) -> NDArray[np.floating]:
    """Average a language model's last states over each text's tokens.

    What comes out is a table: every method takes it with its default net. In a Pipeline,
    ``FunctionTransformer(encode_texts, kw_args={"encoder": model})`` follows a tokenizer.

    Parameters
    ----------
    X : dict of arrays
        What a tokenizer gives: "input_ids" (n_samples, n_positions) and "attention_mask", which is
        0 where a text is padded.
    encoder : torch.nn.Module
        A model of transformers; read in eval mode, never changed.
    batch_size : int, default=64
        Rows per pass through the net. It changes memory and speed, not the result.

    Returns
    -------
    ndarray of shape (n_samples, width)
        In the encoder's dtype. One forward pass a text; texts of like length are taken together, so
        that they are padded no further than needed.

    Raises
    ------
    TypeError
        If `X` are texts instead of tokens.
    ValueError
        If "input_ids" are missing or ragged.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skinfluence.nets import encode_texts
    >>> class Words(torch.nn.Embedding):
    ...     def forward(self, input_ids, attention_mask):
    ...         return super().forward(input_ids)
    >>> words = Words(3, 2)
    >>> X = {"input_ids": [[1, 2, 0]], "attention_mask": [[1, 1, 0]]}
    >>> found = encode_texts(X, encoder=words)
    >>> np.allclose(found, words.weight[1:].detach().numpy().mean(0))
    True
    """
    arrays = check_tokens(X)
    if "attention_mask" not in arrays:
        arrays["attention_mask"] = np.ones_like(arrays["input_ids"])
    lengths = arrays["attention_mask"].sum(1)
    order = np.argsort(lengths, kind="stable")
    model = private_copy(encoder)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    found: list[Tensor] = []
    with preserved_random_state(), torch.no_grad():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            read = arrays["attention_mask"][rows].any(0)
            batch = {
                name: torch.as_tensor(values[rows][:, read]).to(device)
                for name, values in arrays.items()
            }
            states = _states(model(**batch))
            found.append(_mean_state(states, batch["attention_mask"]).cpu())
    values = torch.cat(found).to(module_dtype(model)).numpy()
    encoded = np.empty_like(values)
    encoded[order] = values
    return encoded


def check_tokens(X: Any) -> dict[str, np.ndarray]:
    """Check that rows are given as arrays of tokens, all (n_samples, n_positions)."""
    if not isinstance(X, Mapping):
        raise TypeError(
            f"Got X as {type(X).__name__}, but expected tokens: a dict with 'input_ids' and "
            "'attention_mask'. A tokenizer makes them of texts: skorch.hf.HuggingfaceTokenizer or "
            "HuggingfacePretrainedTokenizer, or tokenizer(texts, padding=True, truncation=True)."
        )
    if "input_ids" not in X:
        raise ValueError(f"X has {sorted(X)}, but expected 'input_ids' among them.")
    arrays: dict[str, np.ndarray] = {}
    for name, values in X.items():
        try:
            arrays[name] = np.asarray(values)
        except ValueError as error:  # numpy's for lists of several lengths
            raise ValueError(_ragged(name)) from error
        if arrays[name].ndim != 2 or arrays[name].dtype == object:
            raise ValueError(_ragged(name))
    return arrays


def _ragged(name: str) -> str:
    return (
        f"X[{name!r}] is no array of shape (n_samples, n_positions); texts have several lengths. "
        "Pad them: tokenizer(texts, padding=True), with the mask that says what is padding; or "
        "give a torch data set with a collate_fn that pads each batch."
    )


def _shape_of(ids: np.ndarray, n_tokens: int | None) -> dict[str, int]:
    largest = int(ids.max(initial=0))
    if n_tokens is not None and n_tokens <= largest:
        raise ValueError(
            f"Got n_tokens={n_tokens}, but X holds token {largest}. Give the length of the "
            "tokenizer, with its added tokens: len(tokenizer)."
        )
    return {
        "module__n_tokens": largest + 1 if n_tokens is None else n_tokens,
        "module__n_positions": ids.shape[1],
    }


def _with_adapter(encoder: nn.Module, adapter: Any) -> nn.Module:
    try:
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise ImportError(
            "adapter= needs the package peft: pip install 'skinfluence[text]'."
        ) from error
    adapted: nn.Module = inject_adapter_in_model(adapter, encoder)
    return adapted


def _states(output: Any) -> Tensor:
    return _part(output, "last_hidden_state")


def _part(output: Any, name: str) -> Tensor:
    """Read a tensor off a model's output, which may hold several by name or come alone."""
    if isinstance(output, Tensor):
        return output
    found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
    if isinstance(found, Tensor):
        return found
    raise TypeError(
        f"The model gives {type(output).__name__} without {name!r}. Expected a tensor, or an "
        f"output of transformers that holds {name!r}."
    )


def _mean_state(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(states.dtype)[..., None]
    return (states * weights).sum(1) / weights.sum(1).clamp_min(1)
