"""A fleet on a clock that is simulated: an engine, hosts with clocks of their own, and what may happen to them.

The decisions are the product's (`waportd.fleet`). What is modelled here is what they rest upon: leases, fencing times,
failsafe and the engine's transactions, as the design of the fleet has them. Each step checks what must always hold.
"""
