"""What can be done with objects: each verb checks, decides and writes, or reads, in Kubernetes' way.

`reading` and `watching` answer from committed states; `writing`, `patching` and `deleting` build on the newest state and
hand over to the store without an `await` in between, so that no write is ever lost to another.
"""
