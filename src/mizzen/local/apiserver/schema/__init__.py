"""What an object of a type may look like: pure functions from schemas and JSON to errors, defaults, tables and
documents.

`structural` validates, defaults and prunes; `strict` decodes request bodies; `builtin` and `crd` say which types there
are; `discovery` and `openapi` describe them to clients; `table` prints them. Nothing here does I/O or looks at a clock.
"""
