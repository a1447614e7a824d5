"""What can be done with objects: each verb checks, decides and writes, or reads, in Kubernetes' way.

`listing` and `watching` answer from durable states; `writing`, `patching` and `deleting` build on the newest state and
hand over to the store without an `await` in between, so that no write is ever lost to another. `subresources` is the
table of everything else.
"""
