"""The agent that is a model: the SDK's client, the tools, and the loop between them.

The only package that imports `anthropic`. `client` makes one call and repeats what may be repeated, `layout` puts the
prompt so that its prefix can be cached, `tools` is what a tool is, `files`, `shell` and `running` are the tools, `turn`
runs what a message asks for, and `agent` is the loop.
"""
