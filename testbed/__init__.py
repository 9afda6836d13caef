"""The testbed: scenarios, clock, rounds, sweeps, records and reports over `fedsz`, `devices` and `netem`."""
