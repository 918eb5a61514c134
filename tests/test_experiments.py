"""Experiments run, at test size, and say what they promise."""

from experiments import worked_case


def test_the_worked_case_lists_what_is_near_a(capsys):
    listed = worked_case.main()
    assert "A browsed B phone, C jacket, D lamp" in capsys.readouterr().out
    assert len(listed) == 5
    assert not {"B phone", "C jacket", "D lamp"} & {product for product, *_ in listed}
    # The gardeners share nothing with A.
    assert "garden" not in {category for _, category, _ in listed[:3]}
    chances = [chance for *_, chance in listed]
    assert chances == sorted(chances, reverse=True)
    assert all(0 < chance < 1 for chance in chances)
