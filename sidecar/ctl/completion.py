"""Completion of what is typed after `sidecar`, for bash and zsh; names of circuits come from the running sidecar."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

BASH = """\
_sidecar() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} known=""
  if [ "$COMP_CWORD" -eq 1 ]; then known="{commands}"
  elif [ "${{COMP_WORDS[1]}}" = ctl ]; then
    if [ "$COMP_CWORD" -eq 2 ]; then known="{ctl}"
    else case "${{COMP_WORDS[2]}} $word" in
{options}
      *) case " {named} " in *" ${{COMP_WORDS[2]}} "*) known=$(sidecar ctl completion names 2>/dev/null);; esac;;
    esac; fi
  fi
  COMPREPLY=($(compgen -W "$known" -- "$word"))
  [ -n "$known" ] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -F _sidecar sidecar
"""
ZSH = """\
#compdef sidecar
_sidecar() {{
  if (( CURRENT == 2 )); then compadd -- {commands}
  elif [[ $words[2] == ctl ]]; then
    if (( CURRENT == 3 )); then compadd -- {ctl}
    else case "$words[3] $words[CURRENT]" in
{options}
      *) if [[ " {named} " == *" $words[3] "* ]]; then
           compadd -- ${{(f)"$(sidecar ctl completion names 2>/dev/null)"}}
         fi;;
    esac; fi
  else _files
  fi
}}
(( $+functions[compdef] )) && compdef _sidecar sidecar
"""


def script(shell: str, commands: Collection[str], ctl: Mapping[str, Collection[str]], named: Collection[str]) -> str:
    """What the shell evaluates. `ctl`: the options of each command of ctl; `named`: those that take a circuit."""
    form = BASH if shell == "bash" else ZSH
    known = 'known="{}"' if shell == "bash" else "compadd -- {}"
    options = "\n".join(f'      "{name} -"*) {known.format(" ".join(those))};;' for name, those in ctl.items())
    return form.format(commands=" ".join(commands), ctl=" ".join(ctl), options=options, named=" ".join(named))
