"""Benches: what a call and a packet cost. Run with script/bench."""
