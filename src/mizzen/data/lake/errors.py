"""What can go wrong with stored things.

    LakeError
     |- CodeError            the project folder or the archive is not fit to be a bundle: the user's to mend, permanent
     |- DigestMismatch       stored bytes are not what their digest says: damaged or forged, permanent until put anew
     |- ObjectMissing        nothing is stored under that path
     |- ObjectExists         something is stored under that path already, and was to be new
     |- VersionMissing       the table has no such version, or retention took it
     |- SourceMoved          the table is no longer as the load found it: load again
     |- RowsUnfit            the rows cannot be kept in a table: the user's to mend, permanent
     `- StoreUnavailable     the store did not answer, refused or is full: try again later

Every message is one line that names the path or URL.
"""


class LakeError(Exception):
    """Root of what this package raises."""


class CodeError(LakeError):
    """The project folder or the archive is not fit to be a bundle."""


class DigestMismatch(LakeError):
    """Stored bytes are not what their digest says."""

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(f"{where}: expected bytes with digest {expected}, found {found}: the stored object is damaged")
        self.where, self.expected, self.found = where, expected, found


class ObjectMissing(LakeError):
    """Nothing is stored under that path."""


class ObjectExists(LakeError):
    """Something is stored under that path already."""


class VersionMissing(LakeError):
    """The table has no such version, or retention took it."""


class SourceMoved(LakeError):
    """The table is no longer as the load found it."""


class RowsUnfit(LakeError):
    """The rows cannot be kept in a table."""


class StoreUnavailable(LakeError):
    """The store did not answer, refused or is full."""
