"""Every activation, loss, optimizer and elementary function once, in pure Python.

    lane            what the formulas are written on
    elementary      exp, log, tanh, the normal distribution, sin, power, ...
    coefficients    of polynomials
    activations  losses  optimizers    a formula each, and their tables in the contract's order

A formula is an ordinary function; what it computes with is up to its reader. There are
three: ``cython/to_c.py`` writes C when the extension is built, ``numba/lane.py`` LLVM
instructions, and dual numbers take derivatives of users' functions. To add a row, write its
formula and put it into the table. The NumPy reference knows nothing of this package.
"""
