"""Hand-over: a trained network as a folder that needs nothing of archduel."""

from archduel.export.folder import ExportReport, export_folder, rehearse_onnx
from archduel.export.int8 import Int8Report, Labelled, write_int8

__all__ = ["ExportReport", "Int8Report", "Labelled", "export_folder", "rehearse_onnx", "write_int8"]
