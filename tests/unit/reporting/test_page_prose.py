"""What a person reads on a page: commands stand out, a percent sign stays with its number, no axis of shares goes beyond 100 %."""

from __future__ import annotations

from markupsafe import Markup

from archduel.reporting.page import Row, prose, share_span


def test_commands_stand_out_and_nothing_is_let_through() -> None:
    assert prose("ask `archduel audit`, 97.2 % of <b>") == "ask <code>archduel audit</code>, 97.2\u00a0% of &lt;b&gt;"
    assert prose("`<script>`") == "<code>&lt;script&gt;</code>"
    assert prose(Markup("<b>5 %</b>")) == "<b>5\u00a0%</b>"
    assert prose("one ` alone") == "one ` alone"


def test_no_axis_of_shares_goes_beyond_everything() -> None:
    low, high = share_span([Row("handed over", 0.994)])
    assert high == 1.0
    assert low < 0.9
    assert share_span([Row("a", 0.5, 0.4, 0.6)])[1] < 0.7
