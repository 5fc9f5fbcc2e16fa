"""Where it runs: routing keys, hops, exchanges, the router, and the drivers behind one contract.

Environment virtualization as a library: nothing here knows tickets, agents, models or checks.
"""
