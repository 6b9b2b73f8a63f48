# SPDX-License-Identifier: MIT
# bash completion for pmux(1): verbs from `pmux help`, options from each verb's --help, targets from `pmux ps`.

_pmux_targets() {
        pmux --no-autostart --json ps -a 2>/dev/null |
                sed -n 's/^{"schema":1,"id":\([0-9]*\),"name":"\([^"\\]*\)".*/\2/p; s/^{"schema":1,"id":\([0-9]*\),"name":null.*/\1/p'
}

_pmux() {
        local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb='' i words=''
        local verbs
        verbs=$(pmux help 2>/dev/null | sed -n 's/^  \([a-z-]*\) .*/\1/p')
        for ((i = 1; i < COMP_CWORD; i++)); do
                case ${COMP_WORDS[i]} in
                --socket) i=$((i + 1)) ;;
                -*) ;;
                *)
                        verb=${COMP_WORDS[i]}
                        break
                        ;;
                esac
        done
        case $prev in
        --stdin | --stdout | --stderr)
                mapfile -t COMPREPLY < <(compgen -W "null inherit" -f -- "$cur")
                return
                ;;
        --socket)
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
                return
                ;;
        -w | --cwd)
                mapfile -t COMPREPLY < <(compgen -d -- "$cur")
                return
                ;;
        -s | --signal)
                mapfile -t COMPREPLY < <(compgen -A signal -- "SIG${cur#SIG}")
                return
                ;;
        --for)
                mapfile -t COMPREPLY < <(compgen -W "exited closed empty ready running pattern= quiet= bytes= state=" -- "$cur")
                return
                ;;
        --invalid)
                mapfile -t COMPREPLY < <(compgen -W "replace refuse" -- "$cur")
                return
                ;;
        --format)
                mapfile -t COMPREPLY < <(compgen -W "json bytes" -- "$cur")
                return
                ;;
        --encoding)
                mapfile -t COMPREPLY < <(compgen -W "UTF-8 latin-1 $(iconv -l 2>/dev/null | tr -d ,/)" -- "$cur")
                return
                ;;
        --lease)
                mapfile -t COMPREPLY < <(compgen -W "client none" -- "$cur")
                return
                ;;
        esac
        if [[ -z $verb ]]; then
                words="$verbs --socket --json --quiet --no-autostart --help --version"
        elif [[ $cur == -* ]]; then
                words="--json --quiet --socket --no-autostart --help
                        $(pmux help "$verb" 2>/dev/null | grep -oE '(^| )--?[a-z][a-z-]*' | tr -d ' ')"
        else
                case $verb in
                run)
                        mapfile -t COMPREPLY < <(compgen -c -f -- "$cur")
                        return
                        ;;
                batch)
                        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
                        return
                        ;;
                daemon) words="status stop upgrade" ;;
                cursor | cursors) words="ls set rm $(_pmux_targets)" ;;
                help) words=$verbs ;;
                ps | list | events | version) ;;
                *) words=$(_pmux_targets) ;;
                esac
        fi
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _pmux pmux
