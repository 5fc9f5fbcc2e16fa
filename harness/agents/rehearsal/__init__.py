"""The rehearsal: a server that speaks the Messages API on loopback and plays recorded turns.

`recording` is the format, `play` the walk through it, `wire` the API's shapes, `cache` its accounting of cached
prefixes, `faults` what can be made to go wrong, `server` all of it on a port, and `record` makes a recording out of a
transcript.
"""
