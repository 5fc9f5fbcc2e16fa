"""The agents: what turns a ticket into a change.

* `anthropic` is the one kind of agent there is so far: a model, its tools, and the loop between them. It alone
  imports the model's SDK.
* `rehearsal` is a server that speaks the model's API on loopback and plays recordings. The agent does not know which
  of the two it talks to; only the base URL differs.
* `transcript` keeps conversations on disk, `meter` says what the loop may spend, `usage` what a call cost.
* `factory` builds an agent from the settings.
"""
