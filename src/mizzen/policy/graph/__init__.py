"""What a graph of models means: what it takes and gives, whether its parts fit, and what its nodes decide.

ports       types of tensors, and when they fit
typed       a declared graph and its models' signatures -> the graph with every tensor's way worked out
expression  conditions over tensors, row by row
combining   many members' outputs as one
splitting   which way a unit goes
"""
