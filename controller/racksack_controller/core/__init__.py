"""Pure decisions: no I/O, no clock, no asyncio. Events change the state; `schedule` and `decide` say what is next."""
