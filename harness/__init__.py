"""Who does it: everything that fulfils the ports of the other packages, and the command line."""
