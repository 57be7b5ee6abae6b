"""Benchmark tables: trained architectures with their scores, to compare strategies and rankers without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "Fidelity",
    "ImportPlan",
    "Table",
    "TableEstimator",
    "TableHeader",
    "import_columns",
    "import_published",
    "known_tables",
    "make_table",
    "open_table",
]

if TYPE_CHECKING:
    from archduel.tables.build import make_table
    from archduel.tables.estimator import TableEstimator
    from archduel.tables.file import Fidelity, TableHeader
    from archduel.tables.importing import ImportPlan, import_columns, import_published
    from archduel.tables.store import known_tables, open_table
    from archduel.tables.table import Table
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Fidelity": "archduel.tables.file",
            "ImportPlan": "archduel.tables.importing",
            "Table": "archduel.tables.table",
            "TableEstimator": "archduel.tables.estimator",
            "TableHeader": "archduel.tables.file",
            "import_columns": "archduel.tables.importing",
            "import_published": "archduel.tables.importing",
            "known_tables": "archduel.tables.store",
            "make_table": "archduel.tables.build",
            "open_table": "archduel.tables.store",
        },
    )
