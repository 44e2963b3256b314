"""What runs on a node: the standard library alone, Python 3.9 or newer, pushed there by the controller.

`serve` answers the controller; `supervise` is the program of each attempt's session and does all that an attempt needs,
so that the end of `serve`, of the connection or of the controller disturbs no job.
"""

__version__ = "0.1.0"
