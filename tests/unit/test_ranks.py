"""Numbers compared by their ranks."""

import numpy as np
import pytest
from scipy.stats import norm

from archduel.core.ranks import inherited, lifted, normal_scores


def test_normal_scores_are_quantiles_of_ranks_and_equal_values_share_theirs() -> None:
    assert normal_scores([5.0, -1.0, 700.0]) == pytest.approx(norm.ppf([0.5, 1 / 6, 5 / 6]))
    assert normal_scores([2.0, 2.0, 9.0, 9.0]) == pytest.approx(norm.ppf([0.25, 0.25, 0.75, 0.75]))
    assert normal_scores([3.0]) == pytest.approx([0.0])


def test_what_shared_weights_say_is_half_accuracy_and_half_loss() -> None:
    scores, losses = [0.1, 0.3, 0.2], [2.0, 1.5, 1.0]
    up = norm.ppf(5 / 6)
    # accuracies rank 1, 3, 2; losses, the lower the better, 1, 2, 3
    assert inherited(scores, losses) == pytest.approx([-up, up / 2, up / 2])
    assert inherited(scores, [10 * loss for loss in losses]) == pytest.approx(inherited(scores, losses))  # ranks alone count


def test_a_belief_in_size_is_added() -> None:
    scores, sizes = [0.3, 0.1, 0.2], [1e3, 1e9, 1e6]
    assert np.argsort(lifted(scores, sizes, 0.0)).tolist() == [1, 2, 0]
    assert lifted(scores, sizes, 1.0) == pytest.approx([0.0, 0.0, 0.0])
    assert np.argsort(lifted(scores, sizes, 2.0)).tolist() == [0, 2, 1]
