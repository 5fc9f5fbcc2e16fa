"""What is kept: runs, agents, verdicts, the event journal and the effects journal, in one database.

SQLite or PostgreSQL, with one schema. One writer thread a process, group commit, readers beside it. Nothing here
decides anything.
"""
