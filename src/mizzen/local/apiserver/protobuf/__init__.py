"""Kubernetes' protobuf encoding, read only: what client-go sends for Kubernetes' own types (`kubectl create`, client-go
controllers). Answers are JSON, which every such client also takes.

`fields.txt` is the table of numbers, made by `generate` from the Go sources; `decoding` reads bodies with it.
"""

from mizzen.local.apiserver.protobuf.decoding import MEDIA_TYPE, Undecodable, UnknownType, decode

__all__ = ["MEDIA_TYPE", "Undecodable", "UnknownType", "decode"]
