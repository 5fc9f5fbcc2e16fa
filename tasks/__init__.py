"""What there is to do, and how far it is: tickets, backlogs, runs, states, events.

Pure values. The only I/O here is reading ticket files. Nothing in this package knows another one.
"""
