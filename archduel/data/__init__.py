"""Any images -> uint8 arrays in three splits."""

from archduel.data.dataset import Dataset, Preprocessing, Split
from archduel.data.decode import open_image
from archduel.data.load import load, remember
from archduel.data.preprocess import apply_preprocessing

__all__ = [
    "Dataset",
    "Preprocessing",
    "Split",
    "apply_preprocessing",
    "load",
    "open_image",
    "remember",
]
