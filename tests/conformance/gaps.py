"""What Mizzen's embedded API server is known to lack, each with the reason.

The only place where the suite knows one server from another. A test named here must fail on a server that says it is
Mizzen's (`/version`, `gitVersion`) and must pass on all others; once the gap is closed the run fails until its line is
taken out.
"""

NO_CEL = "rules in CEL are kept with the definition and not evaluated (docs/scope.md)"

NOT_YET = "the embedded server is looser or words it otherwise here; found by this suite, not mended yet"
LOOPBACK = "on one machine Pods listen on loopback addresses, and EndpointSlices must be able to say so"

GAPS: dict[str, str] = {
    "test_crd::test_rules_in_cel": NO_CEL,
    "test_crd::test_transition_rules_in_cel": NO_CEL,
    "test_crd::test_rules_in_cel_are_compiled": NO_CEL,
    "test_crud::test_empty_collections_are_left_out": NOT_YET,
    "test_crud::test_null_in_a_map_is_a_zero_value": NOT_YET,
    "test_crud::test_zero_values_of_typed_objects": NOT_YET,
    "test_events::test_an_event_is_kept": NOT_YET,
    "test_node::test_a_log_is_followed": NOT_YET,
    "test_patch::test_strategic_patch_delete_map": NOT_YET,
    "test_pods::test_scheduling_gates": NOT_YET,
    "test_services::test_slices_that_are_wrong[loopback]": LOOPBACK,
    "test_validation::test_a_secret_may_hold_nothing": NOT_YET,
}
"""`test_file::test_name[parameters]` -> why it fails."""
