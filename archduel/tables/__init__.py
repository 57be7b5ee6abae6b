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
    from archduel.apps.table_import import ImportPlan, import_columns, import_published
    from archduel.apps.tables import known_tables, open_table
    from archduel.estimators.table import Table
    from archduel.estimators.table_build import make_table
    from archduel.estimators.table_estimator import TableEstimator
    from archduel.estimators.table_header import Fidelity, TableHeader
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Fidelity": "archduel.estimators.table_header",
            "ImportPlan": "archduel.apps.table_import",
            "Table": "archduel.estimators.table",
            "TableEstimator": "archduel.estimators.table_estimator",
            "TableHeader": "archduel.estimators.table_header",
            "import_columns": "archduel.apps.table_import",
            "import_published": "archduel.apps.table_import",
            "known_tables": "archduel.apps.tables",
            "make_table": "archduel.estimators.table_build",
            "open_table": "archduel.apps.tables",
        },
    )
