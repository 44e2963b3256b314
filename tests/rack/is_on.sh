#!/bin/sh
# is_on.sh RECORD: exit code 0 if the server whose `pid1.json` this is has power, as `rack.py is-on` says it. BMCs ask
# this many times a second: a shell starts in a hundredth of the time that Python takes.
[ -r "$1" ] || exit 1
while read -r key value; do
    value=${value%,}
    case $key in
        '"pid":') pid=$value ;;
        '"start_ticks":') ticks=$value ;;
    esac
done <"$1"
# The command's name in /proc/PID/stat may hold blanks and brackets: the fixed fields begin after the last bracket.
{ read -r stat <"/proc/$pid/stat"; } 2>/dev/null || exit 1
set -f
set -- ${stat##*) }
[ "$1" != Z ] && [ "$1" != X ] && [ "${20}" = "$ticks" ]
