"""A smaller model as a folder: written whole, read in a fresh process, on no more than what is in it.

    folder = small.save("small")                # or pruned.save, of the trial that is best on dev
    model = load_pruned("small")
    model.predict(["a warm , bright film"])

    small/pruned.json          what it is, which neurons stay, checksums
    small/config.json          the library's own configuration of the dense model
    small/model.safetensors    the weights, of the head the label words' rows; the prompt, or its keys and values
    small/README.md            the card, for people
    and the tokenizer's files

The model is built without weights, its linear layers take the shapes of the file's, and every weight and buffer is the
file's own. Nothing is unpickled, no code of others runs, no path leaves the folder.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer

from ..errors import SkillNeuronsError
from ..files import replacing, unwritable, write_json
from ..finding.stored import Stored, store, stored
from ..models import Backbone, Site
from ..models.loading import AUTO, usable_device
from ..models.weights import explained, quiet
from .about import CONFIG, FORMAT, NAME, REMEDY, WEIGHTS, About, sealed, sha256
from .card import card
from .config import Runtime
from .cut import as_linear, parameters
from .head import words_alone
from .prefixed import Prefixed, prefixed
from .session import running
from .shipped import Shipped
from .small import Small

PROMPT, KEYS, VALUES = "prompt", "keys", "values"
CARD = "README.md"


def write(small: Small, folder: Path) -> Path:
    """Write the model; the folder is none before the last file is written. See `Small.save`."""
    task, dense, prompt = small.skill.task, small.dense, small.prompt
    if not all(type(own).__module__.startswith("transformers.") for own in (dense.model, dense.tokenizer)):
        raise SkillNeuronsError(
            f"a shipped model is built by the library alone; {dense.name} brings code of its own. Use it in memory."
        )
    words = dense.label_words(task.words)
    model, columns = words_alone(small.model, [word.token for word in words])
    _begin(folder)
    tensors, tied = _tensors(model.model)
    inside = {KEYS: model.keys.cpu(), VALUES: model.values.cpu()} if isinstance(model, Prefixed) else {}
    store(folder / WEIGHTS, {**tensors, PROMPT: prompt.embedding, **inside}, {"format": FORMAT})
    config = json.loads(model.model.config.to_json_string())
    if model.kind == "encoder-decoder":
        config["decoder_start_token_id"] = model.decoder_start
    write_json(folder / CONFIG, config)
    try:
        files = [Path(name) for name in model.tokenizer.save_pretrained(folder)]
    except OSError as error:
        raise unwritable(folder, error) from error
    about = About.make(
        versions={name: version(name) for name in ("skillneurons", "transformers")},
        model=Path(dense.name).name if Path(dense.name).exists() else dense.name,  # no path of this machine
        kind=model.kind, task=task.name, texts=len(task.text),
        words={word.label: word.form for word in words}, columns=columns, limit=prompt.input_limit, trial=prompt.trial,
        baseline=small.baseline, kept={layer: own.tolist() for layer, own in small.by_layer().items()},
        prompt=small.form, positions=small.positions, retuned=small.retuned,
        sites=[(site.path, site.width) for site in model.sites], entrances=model.entrances, attending=model.attending,
        linears=_changed(dense.model, model.model), tied=tied,
        parameters=parameters(model), dense=parameters(dense),
        figures=small.figures, trials=small.trials, majority=small.skill.about["majority"],
        checksums={
            path.relative_to(folder).as_posix(): sha256(path)
            for path in [folder / WEIGHTS, folder / CONFIG, *files]
            if path.is_file()
        },
    )  # fmt: skip
    with replacing(folder / CARD) as temporary:
        temporary.write_text(card(about), encoding="utf-8")
    write_json(folder / NAME, sealed(json.loads(about.model_dump_json())))
    return folder


def load_pruned(folder: str | Path, *, device: str | torch.device = "auto", runtime: Runtime = "torch") -> Shipped:
    """Read a folder that `Pruned.save` or `Small.save` wrote; with another `runtime`, what `export` made of it.

    Raises `SkillNeuronsError` where it is no such folder, where a file is missing, cut short or edited, and where
    another version wrote it.
    """
    folder = Path(folder).expanduser()
    about, place = About.read(folder), usable_device(device)
    with quiet(folder), explained(f"{folder} cannot be loaded", REMEDY):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            model = AUTO[about.kind].from_config(config, trust_remote_code=False)
        tensors, _ = stored(folder / WEIGHTS, REMEDY)
        _fill(model, tensors, about)
        model.eval().requires_grad_(False).to(place)
    sites = tuple(Site(layer, path, width) for layer, (path, width) in enumerate(about.sites))
    backbone = Backbone(
        model, tokenizer, about.kind, sites, str(folder), entrances=about.entrances, attending=about.attending
    )
    if about.prompt == "frozen":
        backbone = prefixed(backbone, tensors[KEYS], tensors[VALUES])
    return running(Shipped(backbone, tensors[PROMPT].to(place), about), runtime, folder)


def _begin(folder: Path) -> None:
    """Take a folder that is new, empty, or a shipped model's; until its last file is written it is none."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / NAME).exists():
        raise SkillNeuronsError(
            f"{folder} holds other files, which a shipped model would overwrite. Choose a new folder or an empty one."
        )
    write_json(folder / NAME, {"format": FORMAT})


def _tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every weight and buffer once, by its first name; and the further names with that first one."""
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, tensor in _named(model).items():
        if id(tensor) in first:
            tied[name] = first[id(tensor)]
        else:
            first[id(tensor)] = name
            tensors[name] = tensor.detach().cpu()
    return tensors, tied


def _named(model: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers by all of their names, those too that the library would not save: nothing here draws them."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def _changed(dense: nn.Module, small: nn.Module) -> list[str]:
    """The paths of the linear layers of `small` that are not those of `dense`."""
    before = {id(tensor) for tensor in _named(dense).values()}
    return [
        path
        for path, module in small.named_modules()
        if isinstance(module, nn.Linear) and id(module.weight) not in before
    ]


def _fill(model: nn.Module, tensors: Stored, about: About) -> None:
    """Give a model without weights the file's, and its linear layers the file's shapes."""
    for path in about.linears:
        model.set_submodule(path, as_linear(tensors[f"{path}.weight"], tensors.get(f"{path}.bias")))
    names = _named(model)
    beside = {PROMPT, KEYS, VALUES} if about.prompt == "frozen" else {PROMPT}
    if wrong := sorted(({about.tied.get(name, name) for name in names} | beside) ^ set(tensors)):
        wrote = about.versions.get("transformers")
        raise SkillNeuronsError(
            f"weights have the names that the library gives them; {wrong[0]} has not. transformers {wrote} wrote them, "
            f"and {version('transformers')} reads them. Use that version, or save the pruned model anew."
        )
    filled: dict[str, Tensor] = {}
    for name, tensor in names.items():
        source = about.tied.get(name, name)
        if source not in filled:
            found = tensors[source]
            filled[source] = nn.Parameter(found, False) if isinstance(tensor, nn.Parameter) else found
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        (owner._parameters if isinstance(tensor, nn.Parameter) else owner._buffers)[leaf] = filled[source]  # type: ignore[assignment]
