"""Features in the gateway: requests carry keys, and the vectors behind them are read on their way to the model.

source       which endpoints look what up, opened when the first of them comes; imports nothing large
binding      an endpoint's versions, and what looks features up for each
workers      the queues before the workers of views' functions
opening      readers of the online store; here PyArrow and DuckDB come in
columns      what a request must carry, and where each column of the model comes from
lookup       one read of all views for all rows; what is missing, stale or not to be had
functions    features of requests, asked of the workers that run them
assembling   the model's inputs, of what was read and what was given
stage        the station of an exchange between decoding and the cache, which calls these
server       the same vectors without a model: the feature server's routes
answers      their forms: JSON, Arrow, Feast's
audit        records a sample of what was read, to be computed again offline
"""
