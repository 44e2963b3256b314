"""`python3 racksack_agent serve --home DIR` answers the controller; `... supervise FOLDER` runs one attempt,
`... shell FOLDER` is a shell in it.

This file is read and compiled at each start of an attempt, since Python keeps no bytecode of scripts: it stays short.
"""

import sys

if not __package__:  # started by its path: the package is found beside this folder
    sys.path.insert(0, __file__.rpartition("/")[0] + "/..")

if sys.argv[1:2] == ["supervise"]:
    from racksack_agent.supervise import main
elif sys.argv[1:2] == ["shell"]:
    from racksack_agent.shell import main
else:
    from racksack_agent.serve import main

main(sys.argv[2:])
