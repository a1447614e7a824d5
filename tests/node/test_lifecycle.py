"""The life of a Pod, decided in virtual time."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.node import simulation
from tests.node.builders import EPOCH_S, container, deleted, pod
from tests.node.simulation import Behaviour, Simulation

from mizzen.local.node.moments import Moment

CRASHES = Behaviour(runs_s=1.0, code=1)


def crashing(name: str, attempt: int) -> Behaviour:
    return CRASHES


# -- restarts


def test_back_off_doubles_from_a_second_to_a_minute() -> None:
    """The first restart is at once; then 1 s, 2 s, ... 1 min after the end, as the kubelet has it where asked to be quick."""
    starts = Simulation(pod(), crashing).run(2000).times("start main")
    waits = [round(b - a - 1.01, 3) for a, b in itertools.pairwise(starts)]
    assert waits[:9] == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_back_off_is_forgotten_after_ten_minutes_of_running() -> None:
    """A container that ran for more than 10 minutes starts again at once when it crashes."""

    def script(name: str, attempt: int) -> Behaviour:
        return Behaviour(runs_s=601.0 if attempt == 3 else 1.0, code=1)

    starts = Simulation(pod(), script).run(650).times("start main")
    assert [round(b - a, 2) for a, b in itertools.pairwise(starts)] == [
        1.01,
        2.01,
        3.01,
        601.01,
        2.01,
        3.01,
        5.01,
        9.01,
        17.01,
    ]


def test_back_off_counts_true_seconds_whatever_the_wall_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock jumps by a day, back and forth, at every look."""
    jumps = itertools.cycle([86400.0, -86400.0, 0.0])
    monkeypatch.setattr(simulation, "moment", lambda steady: Moment(EPOCH_S + steady + next(jumps), steady))
    starts = Simulation(pod(), crashing).run(12).times("start main")
    assert [round(b - a - 1.01, 3) for a, b in itertools.pairwise(starts)] == [0, 1, 2, 4]


RESTARTS = {
    ("Always", 0): True, ("Always", 1): True, ("OnFailure", 0): False, ("OnFailure", 1): True,
    ("Never", 0): False, ("Never", 1): False,
}  # fmt: skip


@pytest.mark.parametrize(("policy", "code"), RESTARTS)
def test_restart_policy_decides_what_is_started_again(policy: str, code: int) -> None:
    simulation = Simulation(pod(restartPolicy=policy), lambda name, attempt: Behaviour(1.0, code)).run(5)
    assert (len(simulation.times("start main")) > 1) is RESTARTS[policy, code]
    phase = "Succeeded" if code == 0 else "Failed"
    assert (phase in simulation.words()) is not RESTARTS[policy, code]


def test_a_refused_container_is_tried_again_without_counting_as_a_restart() -> None:
    """A missing ConfigMap is no crash: the attempt's number stays, and it is tried every 10 s."""
    script = lambda name, attempt: Behaviour(refused=True)
    simulation = Simulation(pod(), script).run(25)
    assert simulation.times("start main") == [0.0, 10.01, 20.02]
    assert simulation.state.containers["main"].attempt == -1


# -- init containers and sidecars


def test_init_containers_run_one_after_the_other_before_the_main_ones() -> None:
    script = lambda name, attempt: Behaviour(runs_s=1.0 if name.startswith("i") else None)
    simulation = Simulation(
        pod(container("a"), container("b"), initContainers=[container("i1"), container("i2")]), script
    ).run(10)
    assert simulation.words() == [
        "start i1", "end i1 0", "start i2", "end i2 0", "start a", "start b",
    ]  # fmt: skip


def test_a_failed_init_container_ends_a_pod_that_never_restarts() -> None:
    simulation = Simulation(pod(restartPolicy="Never", initContainers=[container("i")]), crashing).run(100)
    assert simulation.words() == ["start i", "end i 1", "Failed"]


def test_a_failed_init_container_is_started_again_under_always() -> None:
    def script(name: str, attempt: int) -> Behaviour:
        return Behaviour(1.0, 1 if attempt == 0 else 0) if name == "i" else Behaviour()

    simulation = Simulation(pod(initContainers=[container("i")]), script).run(100)
    assert simulation.words() == ["start i", "end i 1", "start i", "end i 0", "start main"]


def test_sidecars_are_up_before_and_end_after_what_they_serve() -> None:
    """A sidecar must have started (its startup probe passed) before the next; all end when the main ones have."""
    first = container("s1", restartPolicy="Always", startupProbe={"tcpSocket": {"port": 1}})
    second = container("s2", restartPolicy="Always")
    script = lambda name, attempt: Behaviour(runs_s=5.0) if name == "main" else Behaviour()
    answers = lambda name, kind, age_s: age_s > 1
    simulation = Simulation(pod(initContainers=[first, second], restartPolicy="Never"), script, answers).run(100)
    assert [what for what in simulation.words() if "ready" not in what] == [
        "start s1", "started s1", "start s2", "start main", "end main 0", "stop s2 30", "end s2 143", "stop s1 30",
        "end s1 143", "Succeeded",
    ]  # fmt: skip


def test_a_sidecar_that_crashes_is_restarted_while_the_pod_runs() -> None:
    def script(name: str, attempt: int) -> Behaviour:
        return Behaviour(1.0, 1) if name == "s" and attempt == 0 else Behaviour()

    simulation = Simulation(
        pod(initContainers=[container("s", restartPolicy="Always")], restartPolicy="Never"), script
    ).run(10)
    assert simulation.words() == ["start s", "start main", "end s 1", "start s"]


# -- ending


def test_deletion_stops_everything_with_its_grace_and_finishes() -> None:
    simulation = Simulation(pod(container("a"), container("b"))).at(5, deleted).run(100)
    assert simulation.words() == ["start a", "start b", "stop a 30", "stop b 30", "end a 143", "end b 143",
                                  "Failed", "finish"]  # fmt: skip


def test_what_does_not_heed_the_stop_is_killed_when_the_grace_is_over() -> None:
    script = lambda name, attempt: Behaviour(heeds_stop_after_s=None)
    simulation = Simulation(pod(), script).at(5, lambda p: deleted(p, 7)).run(100)
    assert simulation.times("end main 137") == [12.0]
    assert simulation.times("finish") == [12.0]


def test_a_shorter_grace_replaces_a_longer_one() -> None:
    """`kubectl delete --force` after a plain delete does not wait for the first one's grace."""
    script = lambda name, attempt: Behaviour(heeds_stop_after_s=None)
    simulation = Simulation(pod(), script).at(5, deleted).at(8, lambda p: deleted(p, 1)).run(100)
    assert simulation.times("end main 137") == [9.0]


def test_a_pod_deleted_before_it_started_finishes_at_once() -> None:
    simulation = Simulation(deleted(pod())).run(10)
    assert simulation.trace == [(0.0, "finish")]


def test_deletion_while_a_container_is_being_started_waits_for_it_and_stops_it() -> None:
    script = lambda name, attempt: Behaviour(starts_after_s=3.0)
    simulation = Simulation(pod(), script).at(1, deleted).run(100)
    assert simulation.words() == ["start main", "stop main 28", "end main 143", "Failed", "finish"]


def test_sidecars_get_what_is_left_of_the_grace_but_no_less_than_two_seconds() -> None:
    script = lambda name, attempt: Behaviour(heeds_stop_after_s=None)
    given_pod = pod(initContainers=[container("s", restartPolicy="Always")])
    simulation = Simulation(given_pod, script).at(5, lambda p: deleted(p, 10)).run(100)
    assert simulation.times("end main 137") == [15.0]
    assert simulation.times("end s 137") == [17.0]


def test_active_deadline_fails_the_pod() -> None:
    """`activeDeadlineSeconds` counts from the start of the Pod, and what runs then is stopped with its grace."""
    simulation = Simulation(pod(activeDeadlineSeconds=60, restartPolicy="Never")).run(1000)
    assert simulation.words() == ["start main", "DeadlineExceeded", "stop main 30", "end main 143", "Failed"]
    assert simulation.times("DeadlineExceeded") == [60.0]
    assert not simulation.finished


def test_a_pod_that_has_ended_is_left_alone_until_its_deletion() -> None:
    simulation = Simulation(pod(restartPolicy="Never"), lambda name, attempt: Behaviour(1.0))
    assert simulation.run(1000).words() == ["start main", "end main 0", "Succeeded"]
    assert simulation.at(1001, deleted).run(2000).words()[-1] == "finish"


# -- probes


def test_readiness_is_found_within_a_quarter_of_the_time_it_took() -> None:
    """Probes are eager until the first success: no wait for the next period."""
    probe = {"httpGet": {"port": 1}, "periodSeconds": 10}
    for needs_s in (0.05, 0.3, 1.0, 4.0):
        answers = lambda name, kind, age_s, needs_s=needs_s: age_s >= needs_s
        simulation = Simulation(pod(container(readinessProbe=probe)), answers=answers).run(30)
        (ready,) = simulation.times("ready main")
        assert ready - 0.01 <= needs_s * 1.35 + 0.03


def test_readiness_comes_and_goes_at_the_period_once_it_was_there() -> None:
    """After the first success a failure counts at its period only, and `failureThreshold` of them in a row."""
    probe = {"httpGet": {"port": 1}, "periodSeconds": 5, "failureThreshold": 2}
    answers = lambda name, kind, age_s: not 12 < age_s < 30
    simulation = Simulation(pod(container(readinessProbe=probe)), answers=answers).run(60)
    changes = [(round(time), what) for time, what in simulation.trace if "ready" in what]
    assert changes == [(0, "ready main"), (20, "not ready main"), (30, "ready main")]


def test_a_container_that_fails_liveness_is_stopped_and_started_again() -> None:
    probe = {"exec": {"command": ["x"]}, "periodSeconds": 10, "failureThreshold": 3, "initialDelaySeconds": 5}
    answers = lambda name, kind, age_s: age_s < 20
    simulation = Simulation(pod(container(livenessProbe=probe)), answers=answers).run(46)
    assert [what for _, what in simulation.trace] == ["start main", "stop main 30", "end main 143", "start main"]
    assert round(simulation.times("stop main 30")[0]) == 45


def test_liveness_waits_for_the_startup_probe() -> None:
    """A slow start is not a failed liveness: the startup probe's thresholds alone decide until it has passed."""
    probes = {
        "startupProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 10, "failureThreshold": 30},
        "livenessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 1},
    }
    answers = lambda name, kind, age_s: age_s > 100
    simulation = Simulation(pod(container(**probes)), answers=answers).run(300)
    assert [what for what in simulation.words() if "stop" in what] == []
    assert 100 <= simulation.times("started main")[0] <= 111


def test_readiness_that_asks_what_startup_asked_is_not_asked_again() -> None:
    """The one answer is both's: the Pod is started and ready at the same moment. Another question is asked first."""
    startup = {"startupProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 30}}
    answers = lambda name, kind, age_s: kind == "startup" and age_s > 1
    same = Simulation(pod(container(**startup, readinessProbe={"tcpSocket": {"port": 1}})), answers=answers).run(3)
    assert same.times("ready main") == same.times("started main") != []
    other = Simulation(pod(container(**startup, readinessProbe={"tcpSocket": {"port": 2}})), answers=answers).run(3)
    assert other.times("started main") == same.times("started main")
    assert other.times("ready main") == []
    late = {"tcpSocket": {"port": 1}, "initialDelaySeconds": 60}
    later = Simulation(pod(container(**startup, readinessProbe=late)), answers=answers).run(3)
    assert later.times("ready main") == []


def test_a_container_that_never_starts_up_is_restarted_after_threshold_times_period() -> None:
    """Eager tries do not use up `failureThreshold`."""
    probe = {"tcpSocket": {"port": 1}, "periodSeconds": 10, "failureThreshold": 3}
    simulation = Simulation(pod(container(startupProbe=probe)), answers=lambda *_: False).run(25)
    assert round(simulation.times("stop main 30")[0]) == 20


def test_success_threshold_counts_successes_in_a_row() -> None:
    probe = {"tcpSocket": {"port": 1}, "periodSeconds": 5, "successThreshold": 3}
    simulation = Simulation(pod(container(readinessProbe=probe))).run(60)
    assert simulation.times("ready main")[0] >= 10


def test_a_probe_grace_of_its_own_is_used_when_it_kills() -> None:
    probe = {"tcpSocket": {"port": 1}, "failureThreshold": 1, "terminationGracePeriodSeconds": 3}
    simulation = Simulation(pod(container(livenessProbe=probe)), answers=lambda *_: False).run(1)
    assert "stop main 3" in simulation.words()


# -- whatever happens


behaviours = st.builds(
    Behaviour,
    runs_s=st.none() | st.floats(0.01, 1000),
    code=st.sampled_from([0, 1, 137]),
    heeds_stop_after_s=st.none() | st.floats(0, 60),
    starts_after_s=st.floats(0.001, 5),
    refused=st.booleans(),
)
probe_specs = st.fixed_dictionaries(
    {
        "tcpSocket": st.just({"port": 1}),
        "periodSeconds": st.integers(1, 20),
        "initialDelaySeconds": st.integers(0, 20),
        "failureThreshold": st.integers(1, 4),
    }
)
containers = st.builds(
    lambda probes: {f"{kind}Probe": probe for kind, probe in probes.items()},
    st.dictionaries(st.sampled_from(["startup", "readiness", "liveness"]), probe_specs),
)


@st.composite
def simulations(draw: st.DrawFn) -> Simulation:
    def named(prefix: str, count: int, **fields: object) -> list[dict[str, object]]:
        return [container(f"{prefix}{index}", **draw(containers), **fields) for index in range(count)]

    inits = [container(f"i{index}") for index in range(draw(st.integers(0, 2)))]
    sidecars = named("s", draw(st.integers(0, 2)), restartPolicy="Always")
    first = draw(st.permutations(inits + sidecars))
    given_pod = pod(
        *named("m", draw(st.integers(1, 2))),
        initContainers=first,
        restartPolicy=draw(st.sampled_from(["Always", "OnFailure", "Never"])),
        terminationGracePeriodSeconds=draw(st.integers(0, 40)),
        **({"activeDeadlineSeconds": draw(st.integers(1, 300))} if draw(st.booleans()) else {}),
    )
    plans = {c.name: draw(st.lists(behaviours, min_size=1, max_size=4)) for c in given_pod.containers}
    verdicts = draw(st.lists(st.booleans(), min_size=1, max_size=8))
    return Simulation(
        given_pod,
        lambda name, attempt: plans[name][attempt % len(plans[name])],
        lambda name, kind, age_s: verdicts[int(age_s) % len(verdicts)],
    )


@given(simulations(), st.floats(0, 400), st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_every_pod_that_is_deleted_ends(simulation: Simulation, at: float, grace_s: int) -> None:
    """Whatever its containers do, a deleted Pod is finished by its grace (and the sidecars' 2 s), with nothing running,
    and nothing is started after the deletion."""
    simulation.at(at, lambda p: deleted(p, grace_s)).run(at + 1000)
    assert simulation.finished
    assert not simulation.state.any_alive
    (finish,) = simulation.times("finish")
    late_s = 5.0 + 2.0 * 2 + 0.1  # still being started, two sidecars
    assert finish <= at + max(grace_s, 0) + late_s
    assert [time for time, what in simulation.trace if what.startswith("start ") and time > at] == []


@given(simulations())
@settings(max_examples=100, deadline=None)
def test_nothing_is_started_twice_and_never_means_once(simulation: Simulation) -> None:
    """Between two starts of a container lies its end; under Never, main containers start at most once; and a Pod that
    has ended stays as it ended."""
    simulation.run(900)
    running: set[str] = set()
    for _, what in simulation.trace:
        verb, _, name = what.partition(" ")
        if verb == "start":
            assert name not in running
            running.add(name)
        if verb in {"end", "refuse"}:
            running.discard(name.split()[0])
    if simulation.pod.restart_policy == "Never":
        for spec in simulation.pod.in_role("init", "main"):
            begun = len(simulation.times(f"start {spec.name}")) - len(simulation.times(f"refuse {spec.name}"))
            assert begun <= 1
    settled = [index for index, what in enumerate(simulation.words()) if what in {"Succeeded", "Failed"}]
    assert len(settled) <= 1
    assert (
        [what for what in simulation.words()[settled[0] + 1 :] if what.startswith("start ")] == [] if settled else True
    )


@given(simulations())
@settings(max_examples=60, deadline=None)
def test_init_containers_complete_before_main_ones_start(simulation: Simulation) -> None:
    simulation.run(900)
    words = simulation.words()
    for index, what in enumerate(words):
        if what.startswith("start m"):
            for spec in simulation.pod.in_role("init"):
                assert f"end {spec.name} 0" in words[:index]
