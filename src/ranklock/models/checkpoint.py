"""Read a checkpoint of the BERT family, and say what is wrong with one that cannot be used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranklock.errors import InputError, OptionError
from ranklock.genes.vocabulary import PAD, Vocabulary

if TYPE_CHECKING:
    from transformers import BertModel

_SAFE = ("model.safetensors", "model.safetensors.index.json")
_BINARY = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# A token table may be rounded up for speed, at most to the next multiple of this.
_LARGEST_ROUNDING = 128


@dataclass(frozen=True, eq=False)
class Model:
    """A checkpoint's encoder, ready to run, and what is known of it.

    Attributes
    ----------
    encoder
        The ``BertModel`` in float32, in evaluation mode, without pooler or head.
    name
        Folder or hub name that it was loaded from.
    architecture
        Class named in its configuration.
    layers, width, heads, feed_forward
        Shape of the encoder; the last is the width of its feed-forward part.
    input_size
        Number of positions that it has.
    vocab_size
        Number of rows of its token table.
    pad_token
        Token that its configuration names as padding.
    sha256
        Digest of its configuration and weight files.
    device
        Where it runs.
    prepared
        Number format → the encoder laid out for it, once that was asked for.
    permutation
        Seed with which its weights were permuted; None of a checkpoint as it is.
    smoothing
        Positions on either side that each row of its position table was averaged over; None of a
        checkpoint as it is.
    """

    encoder: BertModel
    name: str
    architecture: str
    layers: int
    width: int
    heads: int
    feed_forward: int
    input_size: int
    vocab_size: int
    pad_token: int | None
    sha256: str
    device: str
    prepared: dict[str, Any] = field(default_factory=dict, repr=False)
    permutation: int | None = None
    smoothing: int | None = None

    def __repr__(self) -> str:
        changed = "" if self.permutation is None else ", weights permuted"
        changed += "" if self.smoothing is None else f", positions smoothed over ±{self.smoothing}"
        return (
            f"Model: {self.name} ({self.architecture}{changed}, {self.layers} layers, "
            f"{self.width} wide, {self.heads} heads, {self.input_size} positions, "
            f"{self.vocab_size} tokens) on {self.device}"
        )


def derived(model: Model, encoder: BertModel, how: str, **marks: Any) -> Model:
    """A model that was made of another one: its digest says of which, and how.

    Parameters
    ----------
    model
        The other one.
    encoder
        The new one's encoder.
    how
        What was done, in words, for the digest.
    marks
        Fields that say it.
    """
    digest = hashlib.sha256(f"{model.sha256} {how}".encode()).hexdigest()
    return replace(model, encoder=encoder, sha256=digest, prepared={}, **marks)


def load_model(name: str | Path, *, device: str | None = None) -> Model:
    """Load a checkpoint.

    Parameters
    ----------
    name
        A folder with ``config.json`` and weights, or a model on the Hugging Face hub:
        ``owner/model``, ``owner/model/subfolder``, either with ``@revision`` at the end.
    device
        A torch device. By default a CUDA device where there is one, otherwise the CPU.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        When nothing can be loaded, the weights are damaged or incomplete, or the model is not a
        BERT encoder with absolute positions.

    Notes
    -----
    Weights are read from safetensors, and from ``.bin`` files only with ``weights_only=True``, so
    that nothing in them is executed. Whatever they are stored in, they are computed in float32.
    """
    folder = checkpoint_folder(str(name))
    config = _read_config(folder)
    weights = _weight_files(folder)
    encoder = _load_encoder(folder)
    chosen = _device(device)
    return Model(
        encoder=encoder.to(chosen),
        name=str(name),
        architecture=", ".join(map(str, config.get("architectures") or ["BertModel"])),
        layers=encoder.config.num_hidden_layers,
        width=encoder.config.hidden_size,
        heads=encoder.config.num_attention_heads,
        feed_forward=encoder.config.intermediate_size,
        input_size=encoder.config.max_position_embeddings,
        vocab_size=encoder.config.vocab_size,
        pad_token=encoder.config.pad_token_id,
        sha256=_digest([folder / "config.json", *weights]),
        device=chosen,
    )


def check_vocabulary(vocabulary: Vocabulary, model: Model) -> None:
    """Refuse a vocabulary that does not belong to a checkpoint.

    Raises
    ------
    InputError
        When the token table is smaller than the vocabulary, or larger by more than rounding, or
        the two disagree on the padding token.
    """
    needed = vocabulary.largest_token + 1
    rounded = -(-needed // _LARGEST_ROUNDING) * _LARGEST_ROUNDING
    if not needed <= model.vocab_size <= rounded:
        raise InputError(
            f"{vocabulary.source} does not fit {model.name}: the vocabulary has {needed} tokens, "
            f"the model {model.vocab_size}; use the dictionaries that the model was trained with."
        )
    padding = vocabulary.special.get(PAD)
    if None not in (padding, model.pad_token) and padding != model.pad_token:
        raise InputError(
            f"{vocabulary.source} does not fit {model.name}: <pad> is token {padding} in the "
            f"vocabulary and {model.pad_token} in the model."
        )


def check_token_range(largest_token: int, model: Model, source: str) -> None:
    """Refuse cells whose tokens the checkpoint's token table does not have."""
    if largest_token >= model.vocab_size:
        raise InputError(
            f"{source} holds token {largest_token}, but {model.name} knows 0 to "
            f"{model.vocab_size - 1}; use the model that the cells were tokenised for."
        )


def checkpoint_folder(name: str) -> Path:
    """Folder of a checkpoint, fetched from the hub where it is none here."""
    if Path(name).is_dir():
        return Path(name)
    if Path(name).exists():
        raise InputError(f"{name} is a file; name the folder that holds config.json and weights.")
    plain, _, revision = name.partition("@")
    parts = plain.split("/")
    if len(parts) < 2 or not all(parts) or plain.startswith((".", "~")):
        raise InputError(f"There is no folder {name}, and a hub name reads owner/model.")
    return _fetch("/".join(parts[:2]), "/".join(parts[2:]), revision or None)


def _fetch(repository: str, subfolder: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    prefix = f"{subfolder}/" if subfolder else ""

    def fetch(names: list[str]) -> Path:
        patterns = [prefix + pattern for pattern in names]
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))

    # The hub's client raises its own errors, its transport's and OSError.
    try:
        folder = fetch(["config.json", "model*.safetensors*"]) / subfolder
        if not any((folder / file).is_file() for file in _SAFE):
            folder = fetch(["config.json", "pytorch_model*.bin*"]) / subfolder
    except Exception as error:
        raise InputError(
            f"{repository} is neither a folder here nor could it be fetched from the hub "
            f"({type(error).__name__}: {str(error).splitlines()[0]})."
        ) from error
    return folder


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder} holds no readable config.json; is it a checkpoint?") from error
    except ValueError as error:
        raise InputError(f"{file} is not valid JSON ({error}).") from error
    if not isinstance(config, dict):
        raise InputError(f"{file} is not a model's configuration.")
    kind = config.get("model_type")
    if kind != "bert":
        raise InputError(f"{folder} is a {kind!r} model; only models of type 'bert' are read.")
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise InputError(
            f"{folder} has {positions!r} positions; the arms hold and renumber absolute ones."
        )
    if config.get("is_decoder"):
        raise InputError(
            f"{folder} is a decoder; a rank value encoding is read in both directions."
        )
    return config


def _weight_files(folder: Path) -> list[Path]:
    for name in (*_SAFE, *_BINARY):
        file = folder / name
        if not file.is_file():
            continue
        if not name.endswith(".index.json"):
            return [file]
        try:
            shards = sorted(set(json.loads(file.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise InputError(f"{file} is not a valid index of weights ({error!r}).") from error
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise InputError(f"{folder} lacks {missing[0]}, which {name} names; fetch it again.")
        return [file, *(folder / shard for shard in shards)]
    raise InputError(f"{folder} holds no weights ({_SAFE[0]} or {_BINARY[0]}).")


@contextmanager
def quiet_transformers(folder: Path) -> Iterator[None]:
    """Say in one line what a checkpoint's weights lack, and nothing of heads without use here.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    # Readers of weights raise their own errors, and a strange configuration nearly anything.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise InputError(
            f"The checkpoint in {folder} cannot be read ({reason}); it is damaged, cut short or "
            "unsafe. Fetch it again."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def read_weights(kind: Any, folder: Path, **options: Any) -> tuple[Any, list[str]]:
    """Read a checkpoint as one of transformers' models, in float32; nothing in it is executed.

    Parameters
    ----------
    kind
        The model's class.
    folder
        The checkpoint's.
    options
        More of the class's ``from_pretrained``.

    Returns
    -------
    The model, and the names of tensors that the checkpoint lacks, sorted.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    import torch

    with quiet_transformers(folder):
        model, report = kind.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, local_files_only=True,
            weights_only=True, **options,
        )  # fmt: skip
    return model, sorted(report["missing_keys"])


def _load_encoder(folder: Path) -> BertModel:
    import torch
    from transformers import BertModel

    encoder: BertModel
    encoder, missing = read_weights(
        BertModel, folder, add_pooling_layer=False, attn_implementation="sdpa"
    )
    if missing:
        raise InputError(
            f"The weights in {folder} lack {len(missing)} of the encoder's tensors, {missing[0]} "
            "among them; this is not a whole BERT checkpoint."
        )
    for tensor_name, tensor in encoder.named_parameters():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{folder}: {tensor_name} holds NaN or infinity; the file is damaged.")
    return encoder.eval().requires_grad_(False)


def _device(name: str | None) -> str:
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    # torch raises RuntimeError, AssertionError or NotImplementedError, by device.
    except Exception as error:
        raise OptionError(
            f"The device {name!r} cannot be used here ({str(error).splitlines()[0]})."
        ) from error
    return name


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\n".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
