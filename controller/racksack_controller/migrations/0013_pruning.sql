-- What is old leaves the store by its time; see docs/operating.md, 'What takes space'.
CREATE INDEX events_at ON events (at_s);
CREATE INDEX sweeps_ended ON sweeps (ended_at_s);
