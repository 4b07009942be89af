"""What is read from hidden states and what is made of it; arrays in, arrays out."""

from ranklock.effects.decomposition import Decomposition, decompose, pooled_artefact_share
from ranklock.effects.distance import cosine_distance, displacement
from ranklock.effects.noise import NoiseFloor, noise_floor
from ranklock.effects.step import Step, step

__all__ = [
    "Decomposition",
    "NoiseFloor",
    "Step",
    "cosine_distance",
    "decompose",
    "displacement",
    "noise_floor",
    "pooled_artefact_share",
    "step",
]
