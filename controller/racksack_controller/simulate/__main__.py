"""`python -m racksack_controller.simulate`."""

from racksack_controller.simulate.main import main

main(prog_name="racksack simulate")
