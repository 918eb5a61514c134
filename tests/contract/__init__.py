"""One table of what every public layer, loss and metric promises.

A row (`contract.table.Case`) says how to call a function, what the axes of its inputs
are, and what it should give; `test_properties` tests every property of every row.  Rows
stand in one file a family.  A function without a row fails a test, and so does a row
that neither lets a property be tested nor says why it does not apply: adding a function
means adding a row.
"""
