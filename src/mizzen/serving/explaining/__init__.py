"""Why a model answered as it did: Shapley values of its features, against a sample of what it usually sees.

    shapley   the game that all of this is about, and its values by definition: slow, and right
    trees     exact values for decision forests
    kernel    values of any model, from sampled coalitions; exact where the features are few

The value of a coalition S of features for a row x is the mean of the model's output over the background rows, with the
features in S taken from x. So the values of a row's features, together with the mean over the background, add up to the
model's output for it, and all three ways estimate the same numbers.
"""
