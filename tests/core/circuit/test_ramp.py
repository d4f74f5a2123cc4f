from __future__ import annotations

from sidecar.core.circuit.ramp import Ramp


def test_the_admitted_share_grows_from_none_to_all() -> None:
    ramp = Ramp(0.0, 10.0)
    admitted = []
    for second in range(10):
        passed = 0
        for step in range(100):
            now = second + step / 100
            refused = ramp.refuses(now)
            ramp.count(now, refused=refused)
            passed += not refused
        admitted.append(passed)
    assert all(abs(passed - (second * 10 + 5)) <= 1 for second, passed in enumerate(admitted))


def test_it_is_over_after_its_duration() -> None:
    ramp = Ramp(5.0, 10.0)
    assert (ramp.over(14.9), ramp.over(15.0)) == (False, True)
    assert not ramp.refuses(15.0)


def test_asking_whether_it_refuses_changes_nothing() -> None:
    ramp = Ramp(0.0, 10.0)
    assert [ramp.refuses(9.0) for _ in range(50)] == [True] * 50
