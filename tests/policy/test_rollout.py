"""Rollout: a version takes over only when all its workers are ready; one that does not come up never gets traffic."""

from hypothesis import given
from hypothesis import strategies as st

from mizzen.kinds.serve import Previous, Traffic
from mizzen.policy.rollout import CRASHES_MAX, CRASHES_MAX_SERVING, RETRY_S_FIRST, Plan, Version, Workers, decide

T0, T1 = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
ONE = Version("churn-1", "churn", 1, "sha256:" + "1" * 64)
TWO = Version("churn-2", "churn", 2, "sha256:" + "2" * 64)
SERVING_ONE = Traffic(model_version="churn-1", model="churn", version=1, digest=ONE.digest, percent=100)


def plan(
    target: Version | None = TWO, current: Traffic | None = SERVING_ONE, previous: Plan | None = None, **facts
) -> Plan:
    facts["previous"] = facts.pop("warm", None)
    arguments = {"workers": {}, "replicas": 2, "start_timeout_s": 60.0, "spec_changed": False, "now": T1} | facts
    return decide(target=target, current=current, candidate=previous and previous.candidate, **arguments)


def test_a_new_version_starts_beside_the_old_one() -> None:
    first = plan()
    assert first.traffic == ONE
    assert first.deployments == (ONE, TWO)
    assert first.candidate is not None
    assert (first.candidate.phase, first.candidate.since) == ("Starting", T1)


def test_it_takes_over_when_all_its_workers_are_ready() -> None:
    assert plan(workers={"churn-2": Workers(wanted=2, ready=1)}).traffic == ONE
    assert plan(workers={"churn-2": Workers(wanted=1, ready=1)}).traffic == ONE, "still asked for the old replica count"
    switched = plan(workers={"churn-2": Workers(wanted=2, ready=2)})
    assert (switched.traffic, switched.deployments, switched.switched) == (TWO, (TWO,), True)


def test_a_version_that_does_not_come_up_is_given_up_and_left_alone() -> None:
    late = plan(workers={"churn-2": Workers(wanted=2, ready=0, age_s=61.0, trouble="OOMKilled")})
    assert (late.traffic, late.deployments, late.gave_up) == (ONE, (ONE,), True)
    assert late.candidate is not None
    assert (late.candidate.phase, late.candidate.message) == ("Failed", "OOMKilled")
    crashed = plan(workers={"churn-2": Workers(wanted=2, ready=0, restarts=CRASHES_MAX)})
    assert crashed.gave_up
    again = plan(previous=late, candidate_age_s=RETRY_S_FIRST - 1)
    assert (again.deployments, again.candidate, again.look_again_s) == ((ONE,), late.candidate, 1.0)
    assert plan(previous=late, spec_changed=True).deployments == (ONE, TWO), "a changed endpoint is a new try"


def test_a_version_that_was_given_up_is_tried_again_after_ever_longer_waits() -> None:
    """A minute, two, four, … an hour; what is still seen of the workers that failed does not count."""
    failed, waits = plan(workers={"churn-2": Workers(wanted=2, ready=0, restarts=CRASHES_MAX)}), []
    for _ in range(9):
        wait_s = failed.look_again_s
        assert wait_s is not None
        waits.append(wait_s)
        gone = Workers(wanted=2, ready=0, restarts=CRASHES_MAX)
        tried = plan(previous=failed, candidate_age_s=wait_s, workers={"churn-2": gone})
        assert tried.candidate is not None
        assert (tried.candidate.phase, tried.deployments) == ("Starting", (ONE, TWO))
        failed = plan(previous=tried, workers={"churn-2": Workers(wanted=2, ready=0, age_s=61.0)})
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert failed.candidate is not None
    assert failed.candidate.attempts == 10
    another = plan(ONE, SERVING_ONE, failed)
    assert another.candidate is None, "another version begins anew"


def test_what_cannot_be_told_changes_nothing() -> None:
    assert plan(target=None) == Plan(ONE, None, (ONE,))
    assert plan(target=None, current=None) == Plan(None, None, ())


def test_the_same_version_needs_no_candidate() -> None:
    assert plan(target=ONE) == Plan(ONE, None, (ONE,))


WARM_ONE = Previous(**SERVING_ONE.model_dump(exclude={"percent"}), percent=0, since=T0)
SERVING_TWO = Traffic(model_version="churn-2", model="churn", version=2, digest=TWO.digest, percent=100)


def test_what_is_replaced_is_kept_warm_where_that_is_asked_for() -> None:
    ready = {"churn-2": Workers(wanted=2, ready=2)}
    switched = plan(workers=ready, keeps_previous=True)
    assert (switched.traffic, switched.deployments, switched.previous) == (TWO, (TWO, ONE), ONE)
    later = plan(TWO, SERVING_TWO, workers=ready | {"churn-1": Workers(2, 2)}, previous_left_s=30.0, warm=WARM_ONE)
    assert (later.traffic, later.deployments, later.previous, later.look_again_s) == (TWO, (TWO, ONE), ONE, 30.0)
    over = plan(TWO, SERVING_TWO, workers=ready, previous_left_s=0.0, warm=WARM_ONE)
    assert (over.deployments, over.previous) == ((TWO,), None)


def test_the_way_back_to_what_is_warm_is_a_switch_and_not_a_start() -> None:
    """However old its workers are; and what it replaces is kept in its turn."""
    workers = {"churn-1": Workers(wanted=2, ready=2, age_s=1e6), "churn-2": Workers(wanted=2, ready=2)}
    back = plan(ONE, SERVING_TWO, workers=workers, previous_left_s=30.0, warm=WARM_ONE, keeps_previous=True)
    assert (back.traffic, back.switched, back.previous, back.deployments) == (ONE, True, TWO, (ONE, TWO))
    fewer = {**workers, "churn-1": Workers(wanted=2, ready=1, age_s=1e6)}
    growing = plan(ONE, SERVING_TWO, workers=fewer, previous_left_s=30.0, warm=WARM_ONE, keeps_previous=True)
    assert (growing.traffic, growing.gave_up, growing.deployments) == (TWO, False, (TWO, ONE))


def test_a_third_version_starts_while_the_first_is_still_warm_and_takes_its_place() -> None:
    three = Version("churn-3", "churn", 3, "sha256:" + "3" * 64)
    workers = {"churn-1": Workers(2, 2), "churn-2": Workers(2, 2)}
    starting = plan(three, SERVING_TWO, workers=workers, previous_left_s=30.0, warm=WARM_ONE, keeps_previous=True)
    assert (starting.traffic, starting.deployments) == (TWO, (TWO, three, ONE))
    ready = {**workers, "churn-3": Workers(2, 2)}
    switched = plan(three, SERVING_TWO, workers=ready, previous_left_s=30.0, warm=WARM_ONE, keeps_previous=True)
    assert (switched.traffic, switched.deployments, switched.previous) == (three, (three, TWO), TWO)


def test_a_version_that_comes_up_and_dies_again_and_again_loses_the_traffic_to_what_is_warm() -> None:
    """Restarts from before it took over do not count, nor does it matter how ready it is just now."""
    warm = WARM_ONE.model_copy(update={"restarts": 5, "attempts": 3})
    calm = {"churn-2": Workers(2, 2, restarts=5 + CRASHES_MAX_SERVING - 1), "churn-1": Workers(2, 2)}
    assert plan(TWO, SERVING_TWO, workers=calm, previous_left_s=9.0, warm=warm, keeps_previous=True).traffic == TWO
    dying = {**calm, "churn-2": Workers(2, 2, restarts=5 + CRASHES_MAX_SERVING, trouble="SIGSEGV", troubled_on=("a",))}
    back = plan(TWO, SERVING_TWO, workers=dying, previous_left_s=9.0, warm=warm, keeps_previous=True)
    assert (back.traffic, back.deployments, back.previous, back.gave_up) == (ONE, (ONE,), None, True)
    assert back.candidate is not None
    assert (back.candidate.phase, back.candidate.attempts, back.candidate.failed_on) == ("Failed", 3, ["a"])
    assert back.candidate.message == "its workers came up and died 2 times: SIGSEGV"
    assert back.look_again_s == 4 * RETRY_S_FIRST, "and is left alone as long as one that failed so often"
    assert plan(TWO, SERVING_TWO, workers=dying).traffic == TWO, "where nothing is kept there is no way back"


def test_where_it_failed_is_remembered_for_the_next_try() -> None:
    on = {"churn-2": Workers(2, 0, restarts=CRASHES_MAX, troubled_on=("a", "b"))}
    failed = plan(workers=on)
    assert failed.candidate is not None
    assert failed.candidate.failed_on == ["a", "b"]
    tried = plan(previous=failed, candidate_age_s=RETRY_S_FIRST)
    assert tried.candidate is not None
    assert tried.candidate.failed_on == ["a", "b"]
    again = plan(previous=tried, workers={"churn-2": Workers(2, 0, restarts=CRASHES_MAX, troubled_on=("b", "c"))})
    assert again.candidate is not None
    assert again.candidate.failed_on == ["a", "b", "c"]


@given(
    events=st.lists(
        st.tuples(
            st.sampled_from([None, ONE, TWO]),
            st.builds(
                Workers,
                wanted=st.integers(0, 2),
                ready=st.integers(0, 2),
                restarts=st.integers(0, 4),
                age_s=st.floats(0, 100),
            ),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_traffic_never_moves_to_workers_that_are_not_ready(events: list[tuple[Version | None, Workers, bool]]) -> None:
    """Whatever is seen in whatever order, traffic moves only to a version whose workers are all ready, and stays kept."""
    current, previous = None, None
    for target, seen, changed in events:
        workers = {} if target is None else {target.name: seen}
        after = plan(target, current, previous, workers=workers, spec_changed=changed)
        before = None if current is None else current.model_version
        if after.traffic is not None and after.traffic.name != before:
            assert seen.ready >= 2
            assert seen.wanted == 2
        if current is not None:
            assert after.traffic is not None, "what is served is never dropped"
        if after.traffic is not None:
            assert after.traffic in after.deployments
            version = after.traffic
            current = Traffic(
                model_version=version.name,
                model=version.model,
                version=version.version,
                digest=version.digest,
                percent=100,
            )
        previous = after
