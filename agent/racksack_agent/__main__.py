"""`python3 racksack_agent serve --home DIR` answers the controller; `... forkserver` forks the supervisors of attempts;
`... batch FOLDER NAME` is a supervisor that Slurm started; `... shell FOLDER` is a shell in an attempt; `... sweep
FOLDER` runs the points of a sweep.
"""

import sys

if not __package__:  # started by its path: the package is found beside this folder
    sys.path.insert(0, __file__.rpartition("/")[0] + "/..")

if sys.argv[1:2] == ["forkserver"]:
    from racksack_agent.supervisor.forkserver import main
elif sys.argv[1:2] == ["batch"]:
    from racksack_agent.supervisor.batch import main
elif sys.argv[1:2] == ["sweep"]:
    from racksack_agent.sweep_runner.runner import main
elif sys.argv[1:2] == ["shell"]:
    from racksack_agent.supervisor.shell import main
else:
    from racksack_agent.serve.serve import main

main(sys.argv[2:])
