"""A table of values: a list of rows that prints itself, and becomes a data frame where pandas is installed."""

from __future__ import annotations

from typing import Any

from archduel.errors import SettingError
from archduel.reporting.text import text_table

__all__ = ["Rows"]


class Rows(list[dict[str, Any]]):
    """A table as a list of mappings, one a row; :meth:`frame` makes a data frame of it."""

    def frame(self) -> Any:
        """Returns a ``pandas.DataFrame``.

        Raises:
            SettingError: where pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise SettingError("a data frame needs pandas: pip install pandas; without it, the table is a list of mappings") from error
        return pandas.DataFrame(list(self))

    def __str__(self) -> str:
        columns = list(dict.fromkeys(key for row in self for key in row))
        return text_table(columns, [[_shown(row.get(key)) for key in columns] for row in self])


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
