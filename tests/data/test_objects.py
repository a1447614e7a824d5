"""The store: atomic, idempotent, verified; the same on a folder and on S3."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mizzen.data.lake.errors import DigestMismatch, ObjectMissing, StoreUnavailable
from mizzen.data.lake.objects import Store, digest_of, hex_of, path_by_digest


def test_what_is_put_is_got(store: Store) -> None:
    """Bytes, streams, sizes, listings and deletion agree."""
    large = bytes(range(256)) * 50_000  # larger than one piece
    store.put("runs/a/b.bin", large)
    store.put("runs/a/c.txt", b"")
    assert store.get("runs/a/b.bin") == large
    assert b"".join(store.stream("runs/a/b.bin")) == large
    assert [(found.path, found.bytes) for found in store.list("runs")] == [
        ("runs/a/b.bin", len(large)),
        ("runs/a/c.txt", 0),
    ]
    store.delete("runs/a/b.bin")
    store.delete("runs/a/b.bin")
    assert store.stat("runs/a/b.bin") is None
    assert store.list("nothing/here") == []


def test_a_file_is_put_and_downloaded_whole(store: Store, tmp_path: Path) -> None:
    """A download replaces its target only when it is complete and has the digest asked for."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x" * 10_000_000)
    store.put("file.bin", source)
    store.download("file.bin", target, digest=digest_of(source.read_bytes()))
    assert target.read_bytes() == source.read_bytes()
    target.write_bytes(b"old")
    with pytest.raises(DigestMismatch, match=r"file\.bin"):
        store.download("file.bin", target, digest=digest_of(b"another"))
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@given(size=st.integers(0, 100), part=st.integers(1, 40))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_that_are_fetched_side_by_side_are_the_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch, size: int, part: int
) -> None:
    """Whatever their size, and whichever comes first."""
    monkeypatch.setattr("mizzen.data.lake.objects._PART_BYTES", part)
    store.put("parts.bin", bytes(range(size)))
    assert b"".join(store.stream("parts.bin")) == bytes(range(size))


def test_parts_of_an_object_that_has_changed_are_refused(s3: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of one and half of another would be neither."""
    monkeypatch.setattr("mizzen.data.lake.objects._PART_BYTES", 10)
    monkeypatch.setattr("mizzen.data.lake.objects._PARTS_AT_ONCE", 1)
    remote = Store.open("s3://lake/changing")
    remote.put("parts.bin", b"a" * 40)
    pieces = remote.stream("parts.bin")
    assert next(pieces) == b"a" * 10
    remote.put("parts.bin", b"b" * 40)
    with pytest.raises(StoreUnavailable, match=r"parts\.bin"):
        list(pieces)


def test_by_digest_is_idempotent_and_verified(store: Store) -> None:
    """The same bytes have one name; damaged bytes are refused until they are put anew."""
    digest = store.put_by_digest("models", b"weights", ".onnx")
    assert digest == "sha256:" + hashlib.sha256(b"weights").hexdigest()
    assert store.put_by_digest("models", b"weights", ".onnx") == digest
    assert len(store.list("models")) == 1
    store.put(path_by_digest("models", digest, ".onnx"), b"weightz")
    with pytest.raises(DigestMismatch) as caught:
        store.get_by_digest("models", digest, ".onnx")
    assert caught.value.found == digest_of(b"weightz")
    store.put_by_digest("models", b"weights", ".onnx")
    assert store.get_by_digest("models", digest, ".onnx") == b"weights"


def test_what_is_missing_is_named(store: Store) -> None:
    """The error names the URL."""
    with pytest.raises(ObjectMissing, match="nothing is stored there") as caught:
        store.get("no/such/thing")
    assert store.url_of("no/such/thing") in str(caught.value)


def test_a_store_that_cannot_be_written_says_so_in_a_line(tmp_path: Path, s3: None) -> None:
    """A file in the place of a folder, a bucket that is not there, an unknown scheme."""
    store = Store.open(tmp_path.as_uri())
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(StoreUnavailable) as caught:
        store.put("models/x", b"1")
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreUnavailable, match="the bucket is not there"):
        Store.open("s3://no-such-bucket").put("x", b"1")
    for url in ("ftp://example.invalid/x", "file://relative/path", "/plain/path", ""):
        with pytest.raises(ValueError, match="expected a store URL"):
            Store.open(url)


@given(st.text(max_size=80))
def test_a_path_is_never_built_from_what_is_no_digest(text: str) -> None:
    """Whatever is not `sha256:` and 64 hex digits is refused."""
    with pytest.raises(ValueError, match="expected a digest"):
        hex_of(text)


@given(st.binary(max_size=2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_every_content_comes_back(tmp_path: Path, data: bytes) -> None:
    """put, then get, is the identity."""
    store = Store.open(tmp_path.as_uri())
    assert store.get_by_digest("x", store.put_by_digest("x", data, ""), "") == data
