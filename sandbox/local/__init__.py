"""The local driver: the baseline and the forks are processes of this machine, the router is Envoy on loopback.

`driver` is the driver itself, in process; `keeper` serves it to other processes, `client` is the same driver
over the keeper's socket. Whoever dies, no process and no checkout outlives its owner: see `guard`.
"""
