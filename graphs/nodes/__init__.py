"""The nodes of the ticket loop, one verb a file. Each moves the agent's state, asks one port, and says where to go."""
