"""Who is asked: loading, placement of the prompt, label words, neurons read and edited."""

from .backbone import Backbone
from .biases import PlacedLinear
from .edits import Baseline, Edit, Noise, PlacedEdit, Push, Scale, Zero
from .loading import load_model
from .neurons import NeuronSet
from .placement import Batch, place
from .sites import Site, attached, find_sites
from .words import LabelWord, label_words

__all__ = [
    "Backbone", "Baseline", "Batch", "Edit", "LabelWord", "NeuronSet", "Noise", "PlacedEdit", "PlacedLinear", "Push",
    "Scale", "Site", "Zero", "attached", "find_sites", "label_words", "load_model", "place",
]  # fmt: skip
