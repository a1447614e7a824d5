"""Who gives way: nobody without need, the longest idle first, and never more than it takes."""

from hypothesis import given
from hypothesis import strategies as st

from mizzen.policy.scaling.giveway import IDLE_S_MIN, Idle, make_room
from mizzen.policy.scaling.placement import Room, Size, more

ONE = Size(1.0, 1.0, 1)


def full(name: str = "n", cpu: float = 4.0, memory: float = 4.0, used: float = 4.0) -> Room:
    return Room(name, cpu, memory, used, used, 10, used)


def idle(key: str, idle_s: float, node: str = "n", size: Size = ONE) -> Idle:
    return Idle(key, idle_s, {node: size})


def givers(nodes: list[Room], idlers: list[Idle], *waiting: tuple[str, Size]) -> dict[str, tuple[str, ...]]:
    return {made.key: made.givers for made in make_room(nodes, idlers, waiting)}


def test_where_there_is_room_nobody_goes() -> None:
    assert givers([full(used=3.0)], [idle("a", 100.0)], ("w", ONE)) == {"w": ()}


def test_the_least_recently_used_goes_first_and_as_few_as_it_takes() -> None:
    idlers = [idle("recent", 10.0), idle("oldest", 100.0), idle("old", 50.0)]
    assert givers([full()], idlers, ("w", ONE)) == {"w": ("oldest",)}
    assert givers([full()], idlers, ("w", Size(2.0, 2.0, 1))) == {"w": ("oldest", "old")}
    assert givers([full()], idlers, ("w", ONE), ("x", ONE)) == {"w": ("oldest",), "x": ("old",)}


def test_a_small_one_is_spared_where_a_large_one_has_to_go_anyway() -> None:
    idlers = [idle("small", 100.0, size=Size(0.5, 0.5, 1)), idle("large", 50.0, size=Size(2.0, 2.0, 1))]
    assert givers([full()], idlers, ("w", Size(2.0, 2.0, 1))) == {"w": ("large",)}


def test_nobody_goes_in_vain() -> None:
    assert givers([full()], [idle("a", 100.0)], ("w", Size(8.0, 1.0, 1))) == {}
    assert givers([full()], [idle("a", IDLE_S_MIN - 0.1)], ("w", ONE)) == {}, "a pause is not idleness"
    assert givers([full()], [idle("w", 100.0)], ("w", ONE)) == {}, "an endpoint does not make room for itself"
    assert givers([], [idle("a", 100.0)], ("w", ONE)) == {}


def test_room_is_made_on_one_node_where_idleness_is_longest() -> None:
    nodes = [full("n"), full("m")]
    idlers = [idle("a", 100.0, "n"), idle("b", 20.0, "n"), idle("c", 60.0, "m"), idle("d", 50.0, "m")]
    assert givers(nodes, idlers, ("w", Size(2.0, 2.0, 1))) == {"w": ("c", "d")}
    assert givers(nodes, idlers, ("w", ONE)) == {"w": ("a",)}


def test_a_node_that_takes_no_more_pods_makes_room_too() -> None:
    assert givers([Room("n", 9, 9, 1, 1, 2, 2)], [idle("a", 9.0)], ("w", ONE)) == {"w": ("a",)}


SIZES = st.builds(Size, st.sampled_from([0.1, 0.5, 1.0, 2.0]), st.sampled_from([0.1, 1.0, 3.0]), st.just(1))
NODES = st.lists(st.sampled_from(["n", "m"]), min_size=1, max_size=2, unique=True)


@given(
    st.lists(st.tuples(SIZES, st.floats(0, 1000), st.sampled_from(["n", "m"])), max_size=8),
    st.lists(SIZES, max_size=4),
    NODES,
)
def test_what_goes_makes_room_and_without_any_of_them_there_would_be_none(tenants, waiting, names) -> None:
    """For each waiting worker alone: with the givers gone it fits somewhere, and each giver was needed there."""
    idlers = [idle(f"t{i}", idle_s, node, size) for i, (size, idle_s, node) in enumerate(tenants) if node in names]
    used = {name: sum((one.workers[name] for one in idlers if name in one.workers), Size()) for name in names}
    nodes = [Room(name, 4.0, 4.0, used[name].cpu, used[name].memory, 6, used[name].pods) for name in names]
    by_key = {one.key: one for one in idlers}
    for index, size in enumerate(waiting):
        made = make_room(nodes, idlers, [(f"w{index}", size)])
        for one in made:
            assert all(by_key[giver].idle_s >= IDLE_S_MIN for giver in one.givers)
            assert _fits(nodes, [by_key[giver] for giver in one.givers], size)
            for spared in one.givers:
                assert not _fits(nodes, [by_key[giver] for giver in one.givers if giver != spared], size)
        if not made:
            assert not _fits(nodes, [one for one in idlers if one.idle_s >= IDLE_S_MIN], size)


def _fits(nodes: list[Room], gone: list[Idle], size: Size) -> bool:
    left = []
    for node in nodes:
        freed = sum((one.workers[node.name] for one in gone if node.name in one.workers), Size())
        left.append(node.freed(freed))
    return more(left, size.cpu, size.memory) > 0
