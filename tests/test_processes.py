"""Several real processes train one model, and one of them dies."""

import pytest

from benchmarks import kills
from recjax.sharding import join


def test_killed_processes_lose_nothing_and_leave_nobody_waiting(tmp_path):
    found = kills.measure(tmp_path, processes=2, kills=2)
    assert found["longest_wait"] < kills.LONGEST_WAIT
    assert found["lost"] == found["unclear"] == 0
    # The second one fell while a checkpoint was being written.
    assert found["kills"][1]["saving"]
    assert found["codes_after_sigterm"] == [143, 143]
    # Two processes of two devices and one of four: the same mesh, the same bits.
    assert found["largest_relative_difference"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("localhost", 2, 0), "HOST:PORT"),
        (("localhost:1", None, 0), "HOST:PORT"),
        (("localhost:1", 2, 2), "below num_processes 2"),
        (("auto", 2, 0), "finds the numbers"),
    ],
)
def test_words_that_do_not_fit_are_refused(words, said):
    with pytest.raises(ValueError, match=said):
        join(*words)
