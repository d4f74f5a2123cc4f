"""`sidecar ctl`: the admin API from a shell. It starts fast: of the libraries it needs none.

arguments   what can be typed          client   the API over HTTP
commands    what each command does     tables   how answers look
top         the live view              words    what a circuit's report means
completion  for bash and zsh
"""
