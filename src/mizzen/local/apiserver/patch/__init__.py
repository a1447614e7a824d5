"""The arithmetic of the four patches and of field ownership: documents in, a document out, no I/O and no clock.

`json_patch` (RFC 6902), `merge` (RFC 7386) and `strategic` (Kubernetes' own, by schema) take a document and a patch.
`managed` is server-side apply: it merges by schema and keeps `metadata.managedFields`. It stands on `structure` (what a
schema means for ownership), `fields` (sets of fields), `typed` (objects compared, merged and pruned by structure).

Nothing here changes its arguments: whoever changes a container copies it first, and what did not change is shared.
"""
