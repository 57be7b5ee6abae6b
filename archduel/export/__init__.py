"""Hand-over: a trained network as a folder that needs nothing of archduel."""

from archduel.export.folder import ExportReport, export_folder, rehearse_onnx

__all__ = ["ExportReport", "export_folder", "rehearse_onnx"]
