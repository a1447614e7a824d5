"""A batch prediction: the rows of a dataset version through a model, and the answers as one version of another dataset.

    dataset version ──► row groups ──► inputs ──► a worker, or the endpoint's queue ──► answers, kept group by group
                                                                                             │
                       all groups are there: one commit, which carries the run as its transaction

The input is cut into row groups (`groups`), each Pod of the run has a part of them, and a group's answers are kept in
the store as soon as they are known (`kept`). Whatever dies, whenever: who starts again finds what is kept and computes
the rest, and whoever finds that all groups are kept commits (`committing`), which several may do at once and which has
its effect once. So each row has its answer in the result exactly once.

A row that the model refuses is told apart from its neighbours (`isolating`) and does not fail the run. Nothing here is
larger in memory than a few groups.
"""
