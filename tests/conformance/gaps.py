"""What Mizzen's embedded API server is known to lack, each with the reason.

The only place where the suite knows one server from another. A test named here must fail on a server that says it is
Mizzen's (`/version`, `gitVersion`) and must pass on all others; once the gap is closed the run fails until its line is
taken out.
"""

LOOPBACK = "where all Pods are on one machine, they are at loopback addresses, and Services must find them there"

GAPS: dict[str, str] = {
    "test_services::test_slices_that_are_wrong[loopback]": LOOPBACK,
}
"""`test_file::test_name[parameters]` -> why it fails."""
