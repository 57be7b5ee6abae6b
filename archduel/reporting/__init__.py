"""Statistics, text tables and HTML pages from plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "Interval",
    "ReportData",
    "comparison_rows",
    "gain_interval",
    "gain_sentence",
    "kendall_tau",
    "mean_interval",
    "nemenyi",
    "paired_difference",
    "report_html",
    "text_table",
    "wilcoxon_holm",
]

if TYPE_CHECKING:
    from archduel.reporting.run_report import report_html
    from archduel.reporting.schema import ReportData
    from archduel.reporting.statistics import (
    Interval,
    gain_interval,
    gain_sentence,
    kendall_tau,
    mean_interval,
    nemenyi,
    paired_difference,
    wilcoxon_holm,
)
    from archduel.reporting.text import comparison_rows, text_table
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Interval": "archduel.reporting.statistics",
            "ReportData": "archduel.reporting.schema",
            "comparison_rows": "archduel.reporting.text",
            "gain_interval": "archduel.reporting.statistics",
            "gain_sentence": "archduel.reporting.statistics",
            "kendall_tau": "archduel.reporting.statistics",
            "mean_interval": "archduel.reporting.statistics",
            "nemenyi": "archduel.reporting.statistics",
            "paired_difference": "archduel.reporting.statistics",
            "report_html": "archduel.reporting.run_report",
            "text_table": "archduel.reporting.text",
            "wilcoxon_holm": "archduel.reporting.statistics",
        },
    )
