"""The judgement: pure decisions `(observation, spec, now) -> decision`, one file each.

No I/O, no clock, no randomness: `now` comes in as an argument.
"""
