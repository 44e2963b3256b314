"""The tests of racksack, a package so that `tests.rack` (several servers on one machine) can be imported anywhere."""
