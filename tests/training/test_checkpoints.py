"""The folder that outlives the Pod: what is copied, when, and what comes back."""

from pathlib import Path

from mizzen.data.lake.objects import Store
from mizzen.training.checkpoints import Checkpoints


def checkpoints(tmp_path: Path, life: str) -> Checkpoints:
    return Checkpoints(
        Store.open((tmp_path / "store").as_uri()), "runs/ns/job/run/checkpoints", tmp_path / life, period_s=3600
    )


def stored(tmp_path: Path) -> dict[str, str]:
    store = Store.open((tmp_path / "store").as_uri())
    prefix = "runs/ns/job/run/checkpoints/"
    return {found.path.removeprefix(prefix): store.get(found.path).decode() for found in store.list("runs")}


def test_a_file_is_copied_once_it_is_settled(tmp_path: Path) -> None:
    """Not while it changes between two looks; hidden and .tmp files never; deleted ones go."""
    with checkpoints(tmp_path, "one") as kept:
        (kept.folder / "a.txt").write_text("1")
        (kept.folder / "b.tmp").write_text("half")
        (kept.folder / ".c").write_text("half")
        kept.copy(settled_only=True)
        assert stored(tmp_path) == {}
        (kept.folder / "a.txt").write_text("22")
        kept.copy(settled_only=True)
        assert stored(tmp_path) == {}
        kept.copy(settled_only=True)
        assert stored(tmp_path) == {"a.txt": "22"}
        (kept.folder / "a.txt").unlink()
        (kept.folder / "deep").mkdir()
        (kept.folder / "deep" / "d.txt").write_text("3")
        kept.copy(settled_only=True)
        kept.copy(settled_only=True)
        assert stored(tmp_path) == {"deep/d.txt": "3"}
        (kept.folder / "last.txt").write_text("4")
    assert stored(tmp_path) == {"deep/d.txt": "3", "last.txt": "4"}


def test_the_next_life_finds_what_was_there_and_does_not_copy_it_again(tmp_path: Path) -> None:
    """Restored files are known; when the run is over, all are forgotten."""
    with checkpoints(tmp_path, "one") as first:
        (first.folder / "deep").mkdir()
        (first.folder / "deep" / "a.txt").write_text("1")
    with checkpoints(tmp_path, "two") as second:
        assert (second.folder / "deep" / "a.txt").read_text() == "1"
        before = (tmp_path / "store" / "runs/ns/job/run/checkpoints/deep/a.txt").stat().st_mtime_ns
        second.copy(settled_only=False)
        assert (tmp_path / "store" / "runs/ns/job/run/checkpoints/deep/a.txt").stat().st_mtime_ns == before
    second.forget()
    assert stored(tmp_path) == {}


def test_a_store_that_is_away_costs_no_run(tmp_path: Path) -> None:
    """A look that fails is logged; the next one copies."""
    with checkpoints(tmp_path, "one") as kept:
        (kept.folder / "a.txt").write_text("1")
        (tmp_path / "store" / "runs").mkdir(parents=True)
        (tmp_path / "store" / "runs" / "ns").write_text("in the way")
        kept.copy(settled_only=False)
        (tmp_path / "store" / "runs" / "ns").unlink()
        kept.copy(settled_only=False)
        assert stored(tmp_path) == {"a.txt": "1"}
