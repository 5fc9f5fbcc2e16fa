"""In what order: the ticket loop as a LangGraph graph, its nodes, and the ports that it needs.

Nothing here touches a file, a process or the network: the ports do, and harness fulfils them.
"""
