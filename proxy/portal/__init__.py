"""The Account Portal: pages for those who run the system, in a process of its own (DESIGN contract 4).

It shares the store with the gate and asks it through the control socket; neither waits for the other.
"""
