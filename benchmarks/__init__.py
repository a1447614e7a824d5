"""Speed and memory beside peers. `make bench` runs all of it; `python -m benchmarks NAME` one."""
