"""Where gateways log requests: in shared memory, in a folder that is this user's alone."""

from pathlib import Path

import pytest

from mizzen.local.supervisor import home as homes
from mizzen.local.supervisor.home import Home, HomeError


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(homes, "SHARED_MEMORY", folder)
    return folder


def test_each_home_has_its_own_rings_in_shared_memory(shared: Path, tmp_path: Path) -> None:
    one, other = Home(tmp_path / "one"), Home(tmp_path / "other")
    one.prepare()
    assert one.rings.parent == shared
    assert one.rings != other.rings
    assert one.rings.stat().st_mode & 0o777 == 0o700
    one.prepare()


def test_a_folder_that_others_may_use_is_refused(shared: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.rings.mkdir(mode=0o755)
    home.rings.chmod(0o755)
    with pytest.raises(HomeError, match="expected a folder of yours alone"):
        home.prepare()


def test_what_is_no_folder_is_refused(shared: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (tmp_path / "elsewhere").mkdir()
    home.rings.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HomeError, match="expected a folder of yours alone"):
        home.prepare()


def test_without_shared_memory_they_are_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes, "SHARED_MEMORY", tmp_path / "absent")
    home = Home(tmp_path / "home")
    home.prepare()
    assert home.rings == home.run / "rings"
    assert home.rings.is_dir()
