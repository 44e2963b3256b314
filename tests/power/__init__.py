"""Stand-ins for power hardware, and the contract tests of the power drivers.

The stand-ins need no pytest and run on their own beside a network namespace, see each module's `--help`:
`python3 -m tests.power.redfish_server`, `...ribcl_server`, `...ipmi_bmc`, `...magic_listener`.
"""
